// What is read of a run's directory, and what is refused.
#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "report/evaluation_run.h"
#include "report/run_files.h"
#include "report/training_run.h"

namespace cepe {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> groups_of(const std::vector<int>& sizes) {
  std::vector<std::string> groups;
  for (size_t g = 0; g < sizes.size(); ++g)
    groups.insert(groups.end(), static_cast<size_t>(sizes[g]), std::to_string(g));
  return groups;
}

TEST(ChosenExamples, AreEvenOverTheGroups) {
  EXPECT_THAT(chosen_examples(groups_of({4, 4}), 4), ElementsAre(0, 2, 4, 6));
  EXPECT_THAT(chosen_examples(groups_of({1, 100}), 3), ElementsAre(0, 1, 51));  // what a small group lacks, others give
  EXPECT_THAT(chosen_examples(groups_of({1, 1, 1, 1}), 2), ElementsAre(0, 2));
  EXPECT_THAT(chosen_examples({"a", "b", "a", "b"}, 2), ElementsAre(0, 1));
  EXPECT_THAT(chosen_examples(groups_of({2, 1}), 50), ElementsAre(0, 1, 2));
  EXPECT_THAT(chosen_examples(groups_of({2, 1}), 0), ElementsAre());
  EXPECT_THAT(chosen_examples({}, 5), ElementsAre());
}

// Of any sizes: as many as asked for, each once, and no group has two fewer than another that is not exhausted.
TEST(ChosenExamples, NoGroupIsLeftBehind) {
  const std::vector<int> sizes = {7, 1, 30, 3, 12};
  const std::vector<std::string> groups = groups_of(sizes);
  for (size_t most = 5; most <= 60; ++most) {
    const std::vector<size_t> chosen = chosen_examples(groups, most);
    ASSERT_EQ(chosen.size(), std::min<size_t>(most, groups.size()));
    std::vector<int> counts(sizes.size());
    for (size_t i = 0; i < chosen.size(); ++i) {
      ASSERT_TRUE(i == 0 || chosen[i - 1] < chosen[i]);
      ++counts[std::stoul(groups[chosen[i]])];
    }
    const int greatest = *std::max_element(counts.begin(), counts.end());
    for (size_t g = 0; g < sizes.size(); ++g) {
      ASSERT_GE(counts[g], std::min(sizes[g], greatest - 1)) << most << " examples, group " << g;
    }
  }
}

TEST(ReadEvaluation, TakesResultsSamplesAndPlots) {
  TemporaryDirectory directory;
  json values = results("tiny", {result({{"task", "squad"}}, "em", 0.25)});
  values["results"][0]["standard_error"] = nullptr;
  values.erase("by_answerable");
  values["by_length"] = json::array({result({{"length", "4096"}}, "em", 0.5)});  // eval long's
  write_evaluation(directory / "run", values, {sample("one", {{"task", "squad"}}, "x", 1)});
  for (const char* name : {"heat_kv_decoder.svg", "plot.svg", "heat_kv_a.svg"}) {
    write_text(directory / "run" / name, "<svg/>");
  }
  const EvaluationRun run = read_evaluation(directory / "run", 50);
  EXPECT_TRUE(run.finished);
  EXPECT_EQ(run.examples, 900);
  EXPECT_EQ(run.seconds, 75.9);
  ASSERT_EQ(run.results.size(), 1u);
  EXPECT_EQ(run.results[0].value, 0.25);
  EXPECT_FALSE(run.results[0].standard_error);
  EXPECT_EQ(run.results[0].half_width, 0.047);
  EXPECT_EQ(run.details_name, "by_length");
  ASSERT_EQ(run.details.size(), 1u);
  EXPECT_EQ(run.details[0].value, 0.5);
  ASSERT_EQ(run.samples.size(), 1u);
  EXPECT_EQ(run.samples[0].scores.at("f1"), 1);
  EXPECT_EQ(run.samples[0].context_tokens, 346);
  ASSERT_EQ(run.plots.size(), 3u);
  EXPECT_EQ(run.plots[0].file + " " + run.plots[1].file + " " + run.plots[2].file,
            "plot.svg heat_kv_a.svg heat_kv_decoder.svg");
}

// What is not finite is null in JSON: one such loss leaves the other results to be read.
TEST(ReadEvaluation, AValueThatIsNotFiniteIsNotANumber) {
  TemporaryDirectory directory;
  json values = results("tiny", {result({{"task", "a"}}, "em", 0), result({{"task", "b"}}, "em", 0.5)});
  values["results"][0]["value"] = std::numeric_limits<double>::quiet_NaN();
  write_evaluation(directory / "run", values, {});
  ASSERT_THAT(read_file(directory / "run" / "results.json"), HasSubstr("\"value\": null"));
  const EvaluationRun run = read_evaluation(directory / "run", 50);
  ASSERT_EQ(run.results.size(), 2u);
  EXPECT_TRUE(std::isnan(run.results[0].value));
  EXPECT_EQ(run.results[1].value, 0.5);
}

TEST(ReadEvaluation, AnUnfinishedRunHasItsWholeLines) {
  TemporaryDirectory directory;
  write_text(directory / "run/run.json", configuration("tiny").dump());
  const std::string line = sample("one", {{"task", "squad"}}, "x", 1).dump();
  write_text(directory / "run/samples.jsonl", line + "\n" + line + "\n" + line.substr(0, 30));
  ASSERT_TRUE(is_evaluation(directory / "run"));
  const EvaluationRun run = read_evaluation(directory / "run", 50);
  EXPECT_FALSE(run.finished);
  EXPECT_EQ(run.examples, 2);
  EXPECT_EQ(run.samples.size(), 2u);
  EXPECT_EQ(run.configuration["model"], "tiny");
}

TEST(ReadEvaluation, NamesFileAndLineOfWhatItRefuses) {
  TemporaryDirectory directory;
  const std::filesystem::path run = directory / "run";
  const std::string good = sample("one", {{"task", "squad"}}, "x", 1).dump() + "\n";
  const auto error = [&] { return error_of<Error>([&] { read_evaluation(run, 50); }); };
  write_evaluation(run, results("tiny", {}), {});
  for (const std::string line :
       {"[]", "nonsense", R"({"id": "x", "prediction": 1})", "", "{\"id\": \"\\ud800\"}", "{\"n\": 1e999}"}) {
    write_text(run / "samples.jsonl", good + line + "\n");
    EXPECT_THAT(error(), HasSubstr((run / "samples.jsonl").string() + ":2: ")) << line;
  }
  write_text(run / "samples.jsonl", good);
  for (const char* text : {"{}", "[]", "{\"configuration\": 1", R"({"configuration": 1, "results": [{"tags": 3}]})"}) {
    write_text(run / "results.json", text);
    EXPECT_THAT(error(), HasSubstr((run / "results.json").string() + ": ")) << text;
  }
  json values = results("tiny", {});
  values["configuration"] = "text";
  write_text(run / "results.json", values.dump());
  EXPECT_THAT(error(), HasSubstr("expected a configuration"));
}

TEST(ReadTraining, TakesStepsAndValidations) {
  TemporaryDirectory directory;
  const json documents = {{"domain", "books"},         {"samples", 64},
                          {"loss_context", 2.5},       {"loss_no_context", 2.75},
                          {"loss_other_context", 2.8}, {"reading_gain", 0.25}};
  json last = documents;
  last["loss_context"] = 2.25;
  const json asked = {{"domain", "needle"}, {"samples", 40}, {"loss", 0.3}, {"exact", 0.825}};
  std::string log = step(1, 11.5).dump() + "\n" + step(2, nullptr).dump() + "\n";
  log += json({{"step", 2}, {"seconds", 1.0}, {"validation", {documents}}}).dump() + "\n";
  json of_size = asked;
  of_size["chunks"] = 16;
  of_size["exact"] = 0.75;
  log += json({{"step", 4},
               {"seconds", 1.0},
               {"validation", {last}},
               {"ask_validation", {asked}},
               {"ask_validation_by_chunks", {of_size}}})
             .dump() +
         "\n";
  const json text = {{"domain", "code"}, {"samples", 8}, {"loss", 1.5}, {"accuracy", 0.625}};
  log += json({{"step", 5}, {"seconds", 1.0}, {"text_validation", {text}}}).dump() + "\n";
  log += step(5, 1.0).dump().substr(0, 20);  // cut off by a crash
  write_text(directory / "run/log.jsonl", log);
  EXPECT_FALSE(is_training(directory / "run"));
  write_text(directory / "run/config.toml", "[train]\nsteps = 4\n");
  ASSERT_TRUE(is_training(directory / "run"));
  const TrainingRun run = read_training(directory / "run");
  EXPECT_EQ(run.configuration, "[train]\nsteps = 4\n");
  ASSERT_THAT(run.loss.steps, ElementsAre(1, 2));
  EXPECT_EQ(run.loss.values[0], 11.5);
  EXPECT_TRUE(std::isnan(run.loss.values[1]));
  EXPECT_EQ(run.tokens, 8192);
  EXPECT_DOUBLE_EQ(run.seconds, 1.0);
  EXPECT_EQ(run.of_steps, 4);
  EXPECT_EQ(run.not_finite, 1);
  EXPECT_FALSE(run.seconds_left);
  const DomainValidation& books = run.validation.at("books");
  EXPECT_THAT(books.loss.steps, ElementsAre(2, 4));
  EXPECT_THAT(books.loss.values, ElementsAre(2.5, 2.25));
  EXPECT_THAT(books.reading_gain.values, ElementsAre(0.25, 0.25));
  EXPECT_THAT(run.ask_validation.at("needle").exact.values, ElementsAre(0.825));
  EXPECT_THAT(run.ask_validation.at("needle").by_chunks.at(16).exact.values, ElementsAre(0.75));
  EXPECT_THAT(run.text_validation.at("code").loss.values, ElementsAre(1.5));
  EXPECT_THAT(run.text_validation.at("code").accuracy.values, ElementsAre(0.625));
  write_text(directory / "run/log.jsonl", step(1, 1.0).dump() + "\n{\"step\": \"one\"}\n");
  EXPECT_THAT(error_of<Error>([&] { read_training(directory / "run"); }), HasSubstr("log.jsonl:2: "));
}

TEST(Smoothed, IsTheMeanOfTheFiniteValuesInTheWindow) {
  Curve curve;
  for (const double value : {1.0, 3.0, std::nan(""), 7.0}) curve.add(static_cast<double>(curve.steps.size()), value);
  EXPECT_THAT(smoothed(curve, 2).values, ElementsAre(2, 3, 7, 7));
  EXPECT_THAT(smoothed(curve, 3).values, ElementsAre(2, 2, 5, 7));
  EXPECT_THAT(smoothed(curve, 9).values, testing::Each(testing::DoubleNear(11.0 / 3, 1e-12)));
  EXPECT_TRUE(std::isnan(smoothed(curve, 1).values[2]));
  EXPECT_EQ(smoothed(curve, 2).steps, curve.steps);
}

TEST(Thinned, KeepsTheExtremesAndTheOrder) {
  Curve curve;
  for (int i = 0; i < 10000; ++i) curve.add(i, std::sin(i * 0.01));
  curve.values[4321] = 50;
  curve.values[8765] = -50;
  const Curve thin = thinned(curve, 200);
  EXPECT_LE(thin.values.size(), 200u);
  EXPECT_GE(thin.values.size(), 100u);
  EXPECT_TRUE(std::is_sorted(thin.steps.begin(), thin.steps.end()));
  for (size_t i = 0; i < thin.steps.size(); ++i) {
    EXPECT_EQ(thin.values[i], curve.values[static_cast<size_t>(thin.steps[i])]);
  }
  EXPECT_THAT(thin.values, testing::Contains(50));
  EXPECT_THAT(thin.values, testing::Contains(-50));
  EXPECT_EQ(thinned(curve, 10000).values, curve.values);
  Curve none;
  for (int i = 0; i < 100; ++i) none.add(i, std::nan(""));
  EXPECT_LE(thinned(none, 10).values.size(), 10u);
}

}  // namespace
}  // namespace cepe
