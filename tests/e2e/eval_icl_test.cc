// cepe eval icl as a user runs it: a tiny golden model on texts of the test's own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "e2e/eval_samples.h"
#include "e2e/run_cepe.h"

namespace cepe {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class EvalIcl : public testing::Test {
 protected:
  std::vector<std::string> icl(const std::string& out, const std::vector<std::string>& more,
                               const std::string& model = golden("published")) const {
    std::vector<std::string> arguments = {"eval",  "icl",     "--model",  model, "--window", "4096",
                                          "--out", path(out), "--device", "cpu", "--limit",  "4"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  void fails(const std::vector<std::string>& arguments, const std::string& phrase) const {
    const CommandResult result = run_cepe(arguments);
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, HasSubstr(phrase));
  }
  std::string path(const std::string& name) const { return (directory_.path() / name).string(); }
  json results_of(const std::string& out) const { return json::parse(read_file(path(out) + "/results.json")); }

  TemporaryDirectory directory_;
  const std::string sst_ = directory_.write("stsa.test", "0 dull\n1 fine\n0 bad\n1 grand\n0 poor\n1 great\n");
  const std::string sst_train_ = directory_.write("stsa.train", "0 sad\n1 glad\n0 mean\n1 kind\n0 cold\n1 warm\n");
  const std::string bank_ = directory_.write(
      "test.csv",
      "text,category\nlost it,lost_card\nwhere is it,card_arrival\nwhat rate,exchange_rate\nno card,lost_card\n");
};

TEST_F(EvalIcl, EachSettingIsAColumnWithItsControls) {
  const CommandResult result = run_cepe(
      icl("out", {"--data", sst_, bank_, "--demonstrations", sst_train_, bank_, "--task", "sst2,banking77",
                  "--decoder-shots", "1", "--encoder-shots", "0,3", "--decoder-alone", "4", "--seeds", "7,8"}));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, testing::StartsWith(
                              "| texts | no demonstrations | decoder 1 | decoder 1 + encoder 3 | decoder 1 + encoder "
                              "3, shuffled labels | decoder 4 |\n"));
  for (const char* line : {"| sst2, accuracy |", "| sst2, macro F1 |", "| sst2, accuracy, not calibrated |",
                           "| banking77, accuracy |", "| banking77, macro F1 |"}) {
    EXPECT_THAT(result.out, HasSubstr(line));
  }
  EXPECT_EQ(read_file(path("out") + "/table.md"), result.out);
  EXPECT_THAT(read_file(path("out") + "/plot.svg"), HasSubstr("banking77: decoder 1 + encoder, shuffled labels"));
  const std::vector<json> samples = samples_of(path("out"));
  ASSERT_EQ(samples.size(), 2u * 4u * (5u + 4u));
  const json results = results_of("out");
  EXPECT_EQ(results["labels"]["banking77"], (json{"card arrival", "exchange rate", "lost card"}));
  EXPECT_EQ(results["configuration"]["command"], "eval icl");
  EXPECT_EQ(results["configuration"]["demonstrations"][0]["sha256"], sha256_file(sst_train_));
  int seen = 0;
  for (const json& row : results["by_seed"]) {
    if (row["score"] != "accuracy" || row["tags"]["setting"] != "decoder 4" || row["tags"]["task"] != "sst2") continue;
    double right = 0;
    for (const json& sample : samples) {
      if (sample["tags"] == row["tags"]) right += sample["scores"]["calibrated"].get<double>();
    }
    EXPECT_EQ(row["n"], 4);
    EXPECT_NEAR(row["value"], right / 4, 1e-12);
    ++seen;
  }
  EXPECT_EQ(seen, 2) << "seeds";

  // The page of several runs reads these files as well.
  const CommandResult report = run_cepe({"report", path("out"), "--out", path("page.html")});
  ASSERT_EQ(report.status, 0) << report.err;
  EXPECT_THAT(read_file(path("page.html")), HasSubstr("Results by seed"));
}

TEST_F(EvalIcl, AKilledRunGoesOnToTheSameFile) {
  const std::vector<std::string> more = {"--data", sst_, "--task", "sst2", "--encoder-shots", "2,3", "--seeds", "1,2"};
  ASSERT_EQ(run_cepe(icl("whole", more)).status, 0);
  const std::string expected = read_file(path("whole") + "/samples.jsonl"), file = path("killed") + "/samples.jsonl";
  const CommandResult killed =
      run_cepe(icl("killed", more),
               {.shell = "(for i in $(seq 6000); do if [ $(cat '" + file +
                         "' | wc -l) -ge 5 ]; then kill -9 $$; break; fi; sleep 0.002; done) >/dev/null 2>&1 & true"});
  const size_t before = read_file(file).size();
  ASSERT_TRUE(killed.status == 128 + 9 || killed.status == 0) << killed.err;
  if (killed.status == 0) GTEST_SKIP() << "the run was faster than the kill";
  ASSERT_LT(before, expected.size());
  ASSERT_EQ(run_cepe(icl("killed", more)).status, 0);
  EXPECT_EQ(read_file(file), expected);
  EXPECT_EQ(results_of("killed").at("results"), results_of("whole").at("results"));
  fails(icl("killed", {"--data", sst_, "--task", "sst2", "--encoder-shots", "2", "--seeds", "1,2"}),
        "an evaluation with");
}

TEST_F(EvalIcl, APlainDecoderReadsAllDemonstrationsItself) {
  const CommandResult result = run_cepe(icl("out", {"--data", sst_, "--task", "sst2"}, golden("plain")));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, testing::StartsWith("| texts | no demonstrations | decoder 2 |\n"));
  fails(icl("x", {"--data", sst_, "--task", "sst2", "--encoder-shots", "2"}, golden("plain")), "--encoder-shots 2: ");
}

TEST_F(EvalIcl, FilesOfOneNameAreToldApartByTheirFolders) {
  const std::string lines = read_file(sst_);
  const auto write = [&](const std::string& name) {
    std::filesystem::create_directories(std::filesystem::path(path(name)).parent_path());
    return directory_.write(name, lines);
  };
  const std::string a = write("x1/sst2/dev.txt"), b = write("y1/sst2/dev.txt");
  const std::vector<std::string> more = {"--task", "sst2", "--encoder-shots", "0", "--seeds", "1", "--data", a};
  std::vector<std::string> both = more, same = more;
  both.push_back(b);
  same.push_back(path("x1/../x1/sst2/dev.txt"));
  const CommandResult result = run_cepe(icl("out", both));
  ASSERT_EQ(result.status, 0) << result.err;
  const json labels = results_of("out")["labels"];
  EXPECT_EQ(labels.size(), 2u);
  EXPECT_TRUE(labels.contains("x1/sst2/dev.txt") && labels.contains("y1/sst2/dev.txt")) << labels;
  fails(icl("x", same), "--data: " + same.back() + " is given twice");
}

// The window has room for the longest label that is ranked, here "Transportation", whether a file has it or not.
TEST_F(EvalIcl, LabelsThatNoFileHasNeedRoomAsWell) {
  std::string films;
  for (int i = 0; i < 40; ++i) films += "12 " + std::string(static_cast<size_t>(i + 1), 'x') + "\n";
  const std::string asked = directory_.write("films", films);
  const auto left_out = [&](const std::string& name, const std::string& label) {
    const std::string shown = directory_.write(name, label + " shown\n");
    const CommandResult result = run_cepe({"eval",       "icl",
                                           "--model",    golden("published"),
                                           "--window",   "48",
                                           "--out",      path("o" + name),
                                           "--device",   "cpu",
                                           "--limit",    "0",
                                           "--in-order", "--data",
                                           asked,        "--demonstrations",
                                           shown,        "--task",
                                           "dbpedia",    "--decoder-shots",
                                           "0",          "--encoder-shots",
                                           "0",          "--seeds",
                                           "1"});
    EXPECT_EQ(result.status, 0) << result.err;
    const size_t at = result.err.find("texts left out");
    return at == std::string::npos ? "none" : result.err.substr(at, result.err.find('\n', at) - at);
  };
  const std::string expected = left_out("transport", "5");
  EXPECT_NE(expected, "none");
  EXPECT_EQ(left_out("book", "13"), expected);
}

TEST_F(EvalIcl, OptionsWithoutSenseAreRefused) {
  const auto refused = [&](std::vector<std::string> more, const std::string& phrase) {
    more.insert(more.end(), {"--data", sst_});
    fails(icl("x", more), phrase);
  };
  refused({"--task", "sst3"}, "--task: expected one of sst2, sst5");
  refused({"--task", "sst2,mr,trec"}, "--task: expected one, or one for each of the 1 files of --data, found 3");
  refused({"--task", "sst2", "--controls", "all"}, "--controls: expected no-demonstrations, shuffled-labels or none");
  refused({"--task", "sst2", "--encoder-shots", "-1"}, "--encoder-shots: expected 0 or more, found -1");
  refused({"--task", "sst2", "--seeds", "1,1"}, "--seeds: expected each seed once");
  refused({"--task", "trec", "--demonstrations", sst_, sst_}, "--demonstrations: expected a file for each of the 1");
  refused({"--task", "plain"}, "stsa.test:1: the label is the number 0, and plain has no names for numbers");
}

}  // namespace
}  // namespace cepe
