// cepe perplexity, verify and bench as a user runs them: tiny golden models, and the shipped model on a shipped book.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "base/file.h"
#include "e2e/run_cepe.h"

namespace cepe {
namespace {

using nlohmann::json;
using testing::HasSubstr;

const std::string kShipped = "models/smollm2-135m-cepe";
const std::string kBook = "examples/books/the-leavenworth-case.txt";

// Twelve documents of two domains and three sources.
std::string records() {
  const std::vector<std::string> words = {"the",  "road", "to",   "town",  "harbour",
                                          "said", "was",  "grey", "quiet", "sky"};
  std::mt19937 random(2);
  std::string lines;
  for (int i = 0; i < 12; ++i) {
    std::string text;
    for (int w = 0; w < 150; ++w) text += words[random() % words.size()] + " ";
    lines += json{{"text", text}, {"domain", i < 6 ? "x" : "y"}, {"source", i % 3 == 2 ? "" : "pq"}}.dump() + "\n";
  }
  return lines;
}

std::vector<std::string> perplexity_of(const std::string& model, const std::string& text) {
  return {"perplexity", "--model",   model, "--text",   text, "--decoder-tokens", "64", "--scored-tokens",
          "16",         "--windows", "6",   "--stride", "16"};
}

std::vector<std::string> with(std::vector<std::string> arguments, const std::vector<std::string>& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

const json& row_of(const json& record, const std::string& control, int64_t context, const std::string& domain) {
  for (const json& row : record.at("rows")) {
    if (row.at("control") == control && row.at("context_tokens") == context && row.at("domain") == domain) return row;
  }
  throw std::runtime_error("no row " + control);
}

// Mean losses of the windows that both rows have: the first row's, and the second's.
std::pair<double, double> paired(const json& a, const json& b) {
  double first = 0, second = 0, count = 0;
  for (size_t i = 0; i < a.at("windows").size(); ++i) {
    for (size_t j = 0; j < b.at("windows").size(); ++j) {
      if (a["windows"][i] != b["windows"][j]) continue;
      first += a["nll"][i].get<double>();
      second += b["nll"][j].get<double>();
      ++count;
    }
  }
  return {first / count, second / count};
}

double change_of(const json& row, const json& against) {
  const auto [own, other] = paired(row, against);
  return std::exp(own - other) - 1;
}

class Perplexity : public testing::Test {
 protected:
  TemporaryDirectory directory_;
  std::string text_ = directory_.write("text.jsonl", records());
  std::string path(const std::string& name) const { return (directory_.path() / name).string(); }
};

TEST_F(Perplexity, TableJsonAndPlotAgree) {
  const CommandResult result =
      run_cepe(with(perplexity_of(golden("published"), text_),
                    {"--context-tokens", "0,32,64", "--control", "other-document,same-source,shuffled", "--full-window",
                     "--json", path("p.json"), "--plot", path("p.svg")}));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("Full attention is the frozen, untrained decoder"));
  EXPECT_THAT(result.out, HasSubstr("another document of the same source is"));
  EXPECT_THAT(result.out, HasSubstr("leaves out 2 of 6 documents"));
  EXPECT_THAT(read_file(path("p.svg")), HasSubstr("another document of the same source through the encoder"));

  const json record = json::parse(read_file(path("p.json")));
  EXPECT_EQ(record.at("windows").size(), 12u);
  for (const json& row : record.at("rows")) {
    const std::vector<double> nll = row.at("nll");
    double sum = 0;
    for (const double loss : nll) sum += loss;
    EXPECT_NEAR(row.at("perplexity").get<double>() / std::exp(sum / static_cast<double>(nll.size())), 1, 1e-9);
    for (const size_t window : row.at("windows")) EXPECT_EQ(record["windows"][window]["domain"], row["domain"]);
  }
  for (const std::string domain : {"x", "y"}) {
    for (const int64_t n : {32, 64}) {
      const json &own = row_of(record, "own", n, domain), &full = row_of(record, "full-window", n, domain),
                 &same = row_of(record, "same-source", n, domain),
                 &full_same = row_of(record, "full-window-same-source", n, domain);
      EXPECT_EQ(same.at("spans"), 4);
      EXPECT_EQ(same.at("documents"), 4);
      EXPECT_NEAR(own.at("change"), change_of(own, row_of(record, "own", 0, domain)), 1e-9);
      EXPECT_NEAR(own.at("reading_gain"), -change_of(own, row_of(record, "other-document", n, domain)), 1e-9);
      EXPECT_NEAR(own.at("same_source_gain"), -change_of(own, same), 1e-9);
      EXPECT_NEAR(full.at("same_source_gain"), -change_of(full, full_same), 1e-9);
      EXPECT_NEAR(own.at("same_source_gain_difference"), change_of(full, full_same) - change_of(own, same), 1e-9);
      EXPECT_NEAR(own.at("against_full_attention"), change_of(own, full), 1e-9);
      EXPECT_GT(own.at("change_interval"), own.at("change_error")) << "six documents";
      EXPECT_TRUE(own.at("same_source_gain_interval").is_null()) << "four documents";
      EXPECT_NEAR(
          row_of(record, "shuffled", n, domain).at("perplexity").get<double>() / own.at("perplexity").get<double>(), 1,
          1e-3);
    }
  }
}

TEST_F(Perplexity, DoesNotDependOnTheBatchOrOnOtherContexts) {
  const auto record = [&](const std::vector<std::string>& more) {
    const std::vector<std::string> files = {"--json", path("p.json")};
    const CommandResult result = run_cepe(with(with(perplexity_of(golden("published"), text_), more), files));
    EXPECT_EQ(result.status, 0) << result.err;
    return json::parse(read_file(path("p.json")));
  };
  const json one = record({"--context-tokens", "0,64", "--control", "same-source"});
  const json five = record({"--context-tokens", "0,64", "--control", "same-source", "--batch", "5"});
  const json alone = record({"--context-tokens", "64"});
  for (const json& row : one.at("rows")) {
    const json& again = row_of(five, row.at("control"), row.at("context_tokens"), row.at("domain"));
    EXPECT_NEAR(again.at("perplexity").get<double>() / row.at("perplexity").get<double>(), 1, 1e-4);
    EXPECT_EQ(again.at("windows"), row.at("windows"));
  }
  for (const json& row : alone.at("rows")) {
    const json& again = row_of(one, "own", 64, row.at("domain"));
    EXPECT_NEAR(again.at("perplexity").get<double>() / row.at("perplexity").get<double>(), 1, 1e-5);
  }
}

TEST_F(Perplexity, OptionsWithoutSenseAreRefused) {
  const auto base = perplexity_of(golden("published"), text_);
  const auto refused = [&](const std::vector<std::string>& more, const std::string& phrase) {
    expect_refused(with(base, more), phrase);
  };
  refused({"--context-tokens", "10"}, "10 tokens is not a whole number of chunks");
  refused({"--context-tokens", "64,32"}, "must ascend");
  refused({"--context-tokens", "1024"}, "shorter than a window");
  refused({"--context-tokens", "0", "--control", "same-source"}, "same-source needs a context");
  refused({"--control", "x"}, "--control: expected other-document, same-source or shuffled, found \"x\"");
  refused({"--latents", "x"}, "--latents");
  expect_refused(with(perplexity_of(golden("plain"), text_), {"--context-tokens", "0,32"}), "no encoder");
}

TEST_F(Perplexity, TheSameSourceNeedsASource) {
  const std::string plain = directory_.write("plain.jsonl", "{\"text\": \"no source\"}\n");
  expect_refused(
      with(perplexity_of(golden("published"), plain), {"--context-tokens", "32", "--control", "same-source"}),
      "expected documents that name their source");
}

TEST_F(Perplexity, OutputsNeverReplaceAnInputOrEachOther) {
  const auto base = with(perplexity_of(golden("published"), text_), {"--context-tokens", "0"});
  std::filesystem::create_symlink(text_, directory_.path() / "link");
  std::filesystem::create_hard_link(text_, directory_.path() / "hard");
  for (const std::string& same : {text_, path("link"), path("hard"), path("./text.jsonl")}) {
    expect_refused(with(base, {"--json", same}), "found an input of the command");
    expect_refused(with(base, {"--plot", same}), "found an input of the command");
  }
  EXPECT_EQ(read_file(text_), records());
  expect_refused(with(base, {"--json", path("a"), "--plot", path("./a")}), "expected two files");
  expect_refused({"bench", "--model", golden("published"), "--tests", "tg2", "--json", path("a"), "--csv", path("a")},
                 "expected two files");
}

// One window of the shipped model and a shipped book: what any change of the model, the tokenizer, the encoder or the
// files would move. The tolerance covers how processors round float32; the base is where scripts/setup.sh puts it.
TEST_F(Perplexity, TheShippedModelReadsAsRecorded) {
  const CommandResult result = run_cepe({"perplexity", "--model", kShipped, "--text", kBook, "--decoder-tokens", "128",
                                         "--scored-tokens", "64", "--windows", "1", "--context-tokens", "0,512",
                                         "--dtype", "float32", "--device", "cpu", "--json", path("p.json")});
  ASSERT_EQ(result.status, 0) << result.err;
  const json record = json::parse(read_file(path("p.json")));
  const double none = row_of(record, "own", 0, "text").at("perplexity");
  const double own = row_of(record, "own", 512, "text").at("perplexity");
  EXPECT_NEAR(none / 21.8009, 1, 5e-4) << none;
  EXPECT_NEAR(own / 12.0960, 1, 5e-4) << own;
}

TEST(VerifyCommand, TellsWhatWasReproduced) {
  const CommandResult result = run_cepe({"verify", CEPE_TEST_DATA "/cepe-mha", CEPE_TEST_DATA "/replug"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("full.loss"));
  EXPECT_THAT(result.out, HasSubstr("0 unknown: passed"));
  const CommandResult strict = run_cepe({"verify", CEPE_TEST_DATA "/cepe-mha", "--tolerance", "0"});
  EXPECT_EQ(strict.status, 1);
  EXPECT_THAT(strict.out, HasSubstr("FAILED"));
  EXPECT_THAT(strict.err, HasSubstr("not reproduced"));
  for (const char* tolerance : {"nan", "inf", "-1"}) {
    expect_refused({"verify", CEPE_TEST_DATA "/replug", "--tolerance", tolerance}, "--tolerance");
  }
  expect_refused({"verify", CEPE_TEST_DATA "/replug", "--device", "abacus"}, "--device");
  expect_refused({"verify", golden("plain")}, "expected.safetensors is missing");
  expect_refused({"verify", "/nonexistent"}, "not a fixture directory");
}

TEST(BenchCommand, MeasuresATinyModel) {
  const TemporaryDirectory directory;
  const std::string json_path = (directory.path() / "b.json").string(), csv = (directory.path() / "b.csv").string();
  const CommandResult result =
      run_cepe({"bench", "--model", golden("published"), "--tests", "enc32,pp8@c32,score8@c32,tg2@c32,tg2",
                "--repetitions", "2", "--window-tokens", "8", "--json", json_path, "--csv", csv});
  ASSERT_EQ(result.status, 0) << result.err;
  const json report = json::parse(read_file(json_path));
  ASSERT_EQ(report.at("records").size(), 5u);
  for (const json& record : report["records"]) {
    EXPECT_THAT(result.out, HasSubstr(record.at("test").get<std::string>()));
    EXPECT_EQ(record.at("ms_repetitions").size(), 2u);
    EXPECT_GT(record.at("ms"), 0);
    EXPECT_GT(record.at("tokens_per_second"), 0);
  }
  const std::string lines = read_file(csv);
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 6);
}

TEST(BenchCommand, TestsWithoutSenseAreRefused) {
  const auto refused = [](const std::vector<std::string>& more, const std::string& phrase) {
    expect_refused(with({"bench", "--model", golden("published")}, more), phrase);
  };
  for (const char* test : {"xx", "tg0", "tg-1", "pp99999999999999999999", "tg4@c", "enc4@c4"}) {
    refused({"--tests", test}, "expected enc<S>");
  }
  refused({"--tests", "pp1000000"}, "exceed the decoder's window");
  refused({"--tests", "tg2", "--batch", "0"}, "batch: expected 1 or more");
  refused({"--tests", "tg2", "--contexts", "x"}, "--contexts");
  refused({"--tests", "tg2", "--form", "x"}, "--form");
  refused({"--tests", "tg2", "--chain", "x"}, "chain");
  refused({"--tests", "tg2", "--window-tokens", "8", "--chain", "always", "--device", "cpu"},
          "--chain always: a Hopper GPU");
  refused({"--tests", "tg2", "--repetitions", "0"}, "repetitions: expected 1 or more");
  refused({"--tests", "tg2", "--window-tokens", "100000"}, "exceed the decoder's window");
  expect_refused({"bench"}, "a model is needed");
  expect_refused({"bench", "--shape", "nope"}, "nope");
  expect_refused({"bench", "--model", golden("published"), "--shape", "smollm2-135m"}, "either --model M or --shape");
}

}  // namespace
}  // namespace cepe
