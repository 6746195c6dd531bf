// cepe report as a user runs it, on what the commands themselves wrote.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "e2e/run_cepe.h"

namespace cepe {
namespace {

using nlohmann::json;
using testing::HasSubstr;

const std::string kTraining = CEPE_TEST_DATA "/training/";

TEST(Report, ShowsAnEvaluationAndATrainingRun) {
  const TemporaryDirectory directory;
  const auto path = [&](const std::string& name) { return (directory.path() / name).string(); };
  const std::string model = golden("published");
  CommandResult result = run_cepe({"eval",
                                   "qa",
                                   "--model",
                                   model,
                                   "--window",
                                   "4096",
                                   "--out",
                                   path("qa"),
                                   "--data",
                                   CEPE_TEST_DATA "/qa/squad.json",
                                   "--encoder-passages",
                                   "1",
                                   "--limit",
                                   "3",
                                   "--max-tokens",
                                   "4",
                                   "--device",
                                   "cpu",
                                   "--form",
                                   "question"});
  ASSERT_EQ(result.status, 0) << result.err;
  result = run_cepe({"data", "--model", model, "--out", path("shards"), kTraining + "corpus.jsonl"});
  ASSERT_EQ(result.status, 0) << result.err;
  result = run_cepe({"train", kTraining + "train.toml", "--run", path("train"), "--device", "cpu",
                     "--model.base=" + model, "--data.train=" + path("shards"), "--data.validation=" + path("shards"),
                     "--train.steps=3", "--run.validation_samples=4"});
  ASSERT_EQ(result.status, 0) << result.err;

  result = run_cepe({"report", path("qa"), path("train"), "--out", path("page.html"), "--examples", "4"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("page.html: 1 evaluations, 1 training runs, 4 examples, "));
  const std::string page = read_file(path("page.html"));
  const json results = json::parse(read_file(path("qa/results.json")));
  for (const json& row : results.at("results")) {
    EXPECT_THAT(page, HasSubstr("<td>" + row.at("score").get<std::string>() + "</td>"));
  }
  EXPECT_THAT(page, HasSubstr("cepe eval qa of " + model + ", cpu, float32: " + results.at("examples").dump()));
  EXPECT_THAT(page, HasSubstr("Examples: 4 of " + results.at("examples").dump()));
  EXPECT_THAT(page, HasSubstr("cepe train: 3 steps, "));
  EXPECT_THAT(page, HasSubstr("<h3>Validation on documents</h3>"));
  EXPECT_THAT(page, HasSubstr("steps = 3\n"));

  // On standard output the page stands alone.
  result = run_cepe({"report", path("qa"), path("train"), "--out", "-", "--examples", "4"});
  EXPECT_EQ(result.out, page);
  EXPECT_THAT(result.err, HasSubstr("4 examples"));
}

TEST(Report, RefusesWhatItCannotDo) {
  const TemporaryDirectory directory;
  const std::string run = directory.path().string(), page = run + "/page.html";
  expect_refused({"report", run, "--out", page}, run + ": expected the directory of an evaluation");
  EXPECT_FALSE(std::filesystem::exists(page));
  const std::string log = directory.write("log.jsonl", "");
  directory.write("config.toml", "");
  expect_refused({"report", run, "--out", log}, "found an input of the command");
  expect_refused({"report", run, "--out", page, "--examples", "-1"}, "--examples");
  expect_refused({"report", run, "--out", run + "/absent/page.html"}, "absent");
  expect_refused({"report", run}, "--out");
  const CommandResult result = run_cepe({"report", run, "--out", page});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(run_cepe({"report", run, "--out", page}).status, 0) << "a page in the directory is written again";
}

}  // namespace
}  // namespace cepe
