// cepe eval lm as a user runs it: a tiny golden model whose window has 128 tokens, on texts of the test's own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "base/file.h"
#include "e2e/eval_samples.h"
#include "e2e/run_cepe.h"

namespace cepe {
namespace {

using nlohmann::json;
using testing::HasSubstr;

// Six documents of one domain and two sources.
std::string records() {
  const std::vector<std::string> words = {"the", "road", "to", "town", "harbour", "said", "was", "grey", "quiet"};
  std::mt19937 random(3);
  std::string lines;
  for (int i = 0; i < 6; ++i) {
    std::string text;
    for (int w = 0; w < 120; ++w) text += words[random() % words.size()] + " ";
    lines += json{{"text", text}, {"domain", "tales"}, {"source", i % 2 == 0 ? "p" : "q"}}.dump() + "\n";
  }
  return lines;
}

class EvalLm : public testing::Test {
 protected:
  std::vector<std::string> lm(const std::string& out, const std::vector<std::string>& more,
                              const std::string& model = golden("published")) const {
    std::vector<std::string> arguments = {"eval", "lm", "--model", model, "--data", text_, "--out", path(out)};
    const std::vector<std::string> sizes = {"--decoder-tokens", "64", "--scored-tokens", "16", "--limit", "6",
                                            "--stride",         "16", "--device",        "cpu"};
    arguments.insert(arguments.end(), sizes.begin(), sizes.end());
    const bool own = std::find(more.begin(), more.end(), "--context-tokens") != more.end();
    if (!own) arguments.insert(arguments.end(), {"--context-tokens", "32,128"});
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  json results(const std::string& name) const { return json::parse(read_file(path(name) + "/results.json")); }
  std::string path(const std::string& name) const { return (directory_.path() / name).string(); }

  TemporaryDirectory directory_;
  std::string text_ = directory_.write("text.jsonl", records());
};

using Row = std::pair<std::string, std::string>;  // reader, tokens

std::map<Row, double> perplexities(const json& results) {
  std::map<Row, double> found;
  for (const json& row : results.at("results")) {
    if (row.at("score") != "perplexity" || row["tags"]["context"] == "other-document") continue;
    found[{row["tags"]["reader"], row["tags"]["tokens"]}] = row.at("value");
  }
  return found;
}

TEST_F(EvalLm, EveryReaderScoresTheSameTokens) {
  const CommandResult result =
      run_cepe(lm("out", {"--control", "other-document", "--replug-chunk", "32", "--baseline",
                          "plain,full,pi,ntk,dynamic,yarn,streaming,replug,model:" + golden("plain")}));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(read_file(path("out") + "/table.md"), result.out);
  EXPECT_THAT(result.out, HasSubstr("the last 16 of 64 decoder tokens, tales: 6 windows in 6 documents"));
  EXPECT_THAT(result.out, HasSubstr("| yarn: other document | 128 | 6 | 6 |"));
  EXPECT_THAT(result.out, HasSubstr("Contexts of 128 tokens are left out for full, model:"));
  EXPECT_THAT(
      result.out,
      HasSubstr("Contexts of 32 tokens are left out for pi, ntk, dynamic, yarn: beside the decoder's 64 they fit"));
  EXPECT_THAT(read_file(path("out") + "/plot.svg"), HasSubstr(">streaming</text>"));

  const json record = results("out");
  const std::map<Row, double> found = perplexities(record);
  EXPECT_EQ(found.size(), 1u + 2u + 1u + 4u + 2u + 2u + 2u);
  // The same decoder under another name, reading the same text in the same way, and compared with itself alone.
  const std::string other = "model:" + golden("plain");
  EXPECT_NEAR(found.at({other, "32"}) / found.at({"full", "32"}), 1, 1e-5);
  EXPECT_NEAR(found.at({other, "0"}) / found.at({"plain", "0"}), 1, 1e-5);
  EXPECT_THAT(result.out, HasSubstr("| " + other + ": none | 0 | 6 | 6 |"));
  const std::vector<json> samples = samples_of(path("out"));
  EXPECT_EQ(record.at("examples"), samples.size());
  std::map<Row, std::vector<double>> losses;
  for (const json& sample : samples) {
    if (sample["tags"]["context"] == "other-document") continue;
    losses[{sample["tags"]["reader"], sample["tags"]["tokens"]}].push_back(sample.at("scores").at("loss"));
  }
  for (const auto& [row, values] : losses) {
    ASSERT_EQ(values.size(), 6u);
    double sum = 0;
    for (const double loss : values) sum += loss;
    EXPECT_NEAR(found.at(row) / std::exp(sum / 6), 1, 1e-9) << row.first;
  }
  std::map<std::string, int> costs;
  for (const json& cost : record.at("costs")) {
    EXPECT_GE(cost.at("value"), cost.at("score") == "working_memory" ? 0 : 1e-9) << cost;
    ++costs[cost.at("score")];
  }
  EXPECT_EQ(costs["tokens_per_second"], costs["peak_memory"]);
  EXPECT_EQ(costs["seconds"], 14 + 12) << "controls of all rows with a context";

  // `cepe perplexity` gives the same numbers.
  const CommandResult plain =
      run_cepe({"perplexity", "--model", golden("published"), "--text", text_, "--decoder-tokens", "64",
                "--scored-tokens", "16", "--windows", "6", "--stride", "16", "--context-tokens", "0,32,128",
                "--full-window", "--device", "cpu", "--json"});
  ASSERT_EQ(plain.status, 0) << plain.err;
  for (const json& row : json::parse(plain.out).at("rows")) {
    const std::string control = row.at("control"), tokens = std::to_string(row.at("context_tokens").get<int64_t>());
    if (control == "full-window-other-document") continue;
    const std::string reader = tokens == "0" ? "plain" : control == "own" ? "cepe" : "full";
    EXPECT_EQ(row.at("perplexity"), found.at({reader, tokens})) << reader << " " << tokens;
  }
}

TEST_F(EvalLm, AKilledRunGoesOnToTheSameFile) {
  const std::vector<std::string> more = {"--baseline", "plain,streaming,replug", "--replug-chunk", "16"};
  const CommandResult whole = run_cepe(lm("whole", more));
  ASSERT_EQ(whole.status, 0) << whole.err;
  const std::string expected = read_file(path("whole") + "/samples.jsonl");
  const std::string file = path("killed") + "/samples.jsonl";
  const CommandResult killed =
      run_cepe(lm("killed", more),
               {.shell = "(for i in $(seq 6000); do if [ $(cat '" + file +
                         "' | wc -l) -ge 9 ]; then kill -9 $$; break; fi; sleep 0.002; done) >/dev/null 2>&1 & true"});
  ASSERT_EQ(killed.status, 128 + 9) << killed.err;
  const std::string left = read_file(file);
  ASSERT_LT(left.size(), expected.size());
  EXPECT_EQ(left, expected.substr(0, left.size()));
  const CommandResult resumed = run_cepe(lm("killed", more));
  ASSERT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_EQ(read_file(file), expected);
  EXPECT_GE(results("killed").at("resumed"), 9);
  EXPECT_EQ(results("killed").at("results"), results("whole").at("results"));

  // Of a finished run nothing is scored again, and the costs are still known.
  const json before = results("whole");
  ASSERT_EQ(run_cepe(lm("whole", more)).status, 0);
  EXPECT_EQ(results("whole").at("resumed"), before.at("examples"));
  EXPECT_EQ(results("whole").at("costs"), before.at("costs"));
  EXPECT_EQ(read_file(path("whole") + "/table.md"), whole.out);
}

TEST_F(EvalLm, TheReportShowsRunsSideBySide) {
  ASSERT_EQ(run_cepe(lm("a", {"--latents", "stored"})).status, 0);
  ASSERT_EQ(run_cepe(lm("b", {"--latents", "int8"})).status, 0);
  const CommandResult report =
      run_cepe({"report", path("a"), path("b"), "--out", path("page.html"), "--examples", "6"});
  ASSERT_EQ(report.status, 0) << report.err;
  const std::string page = read_file(path("page.html"));
  EXPECT_THAT(page, HasSubstr("cepe eval lm of "));
  EXPECT_THAT(page, HasSubstr("Side by side"));
  EXPECT_THAT(page, HasSubstr("<td>perplexity</td>"));
  EXPECT_THAT(page, HasSubstr("Results costs"));
  EXPECT_THAT(page, HasSubstr(" tokens/s</td>"));
  EXPECT_THAT(page, HasSubstr("Windows: 6 of 24"));
}

TEST_F(EvalLm, OptionsWithoutSenseAreRefused) {
  const auto refused = [&](const std::vector<std::string>& more, const std::string& phrase) {
    expect_refused(lm("x", more), phrase);
  };
  refused({"--baseline", "yarm"}, "found \"yarm\"; did you mean yarn?");
  refused({"--baseline", "full,yarn,full"}, "--baseline: expected each reader once, found \"full\" again");
  refused({"--context-tokens", "2q"}, "--context-tokens: expected tokens such as 4096, 4k or 1M, found \"2q\"");
  refused({"--context-tokens", "40"}, "40 tokens is not a whole number of chunks");
  refused({"--context-tokens", "64,32"}, "must ascend");
  refused({"--replug-scores", "dense"}, "--replug-scores: expected bm25 or uniform");
  refused({"--baseline", "replug"}, "a chunk of 256 tokens and the decoder's 64 exceed the decoder's window of 128");
  refused({"--baseline", "streaming", "--recent-tokens", "200"}, "exceed the decoder's window of 128");
  refused({"--baseline", "model:" + std::string(CEPE_TEST_DATA "/replug")}, "its tokens are not those of");
  refused({"--control", "sideways"}, "--control: expected other-document");
  ASSERT_EQ(run_cepe(lm("out", {"--baseline", "plain"})).status, 0);
  expect_refused(lm("out", {"--baseline", "full"}), "was begun here");
  expect_refused(lm("y", {"--baseline", "plain", "--control", "shuffled"}, golden("plain")), "has no encoder");
}

// Why another model leaves out a length: its window, or what full attention costs.
TEST_F(EvalLm, AnotherModelSaysWhichLimitItMeets) {
  const std::string other = "model:" + golden("plain");
  const CommandResult result = run_cepe(lm("out", {"--baseline", other, "--attention-tokens", "95"}));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("Contexts of 32 tokens are left out for " + other +
                                    ": with the decoder's they are more than the 95 that full attention is to read."));
  EXPECT_THAT(result.out, HasSubstr("Contexts of 128 tokens are left out for " + other +
                                    ": beside the decoder's 64 they do not fit its window of 128."));
}

// A decoder without an encoder is compared with its baselines alone.
TEST_F(EvalLm, APlainDecoderHasItsBaselines) {
  const CommandResult result = run_cepe(lm("out", {"--baseline", "plain,full,yarn"}, golden("plain")));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("Contexts of 32 and 128 tokens are left out for cepe: the model has no encoder."));
  EXPECT_EQ(perplexities(results("out")).size(), 3u);
}

}  // namespace
}  // namespace cepe
