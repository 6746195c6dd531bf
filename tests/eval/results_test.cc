#include "eval/results.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"

namespace cepe {
namespace {

using nlohmann::json;

ScoredExample scored(const std::string& task, const std::string& length, double match,
                     const std::string& cluster = "") {
  return {{{"task", task}, {"length", length}}, cluster, {{"match", match}}};
}

TEST(GroupResults, AreMeansOverExamplesWithTheSameTags) {
  std::vector<ScoredExample> examples;
  for (int i = 0; i < 8; ++i) examples.push_back(scored("b", "4096", i % 4 == 0 ? 1 : 0));
  examples.push_back(scored("a", "4096", 0.5));
  examples.push_back({{{"length", "4096"}}, "", {{"match", 9}}});  // without a task
  const std::vector<Result> results = group_results(examples, {"task", "length"});
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results[0].tags.at("task"), "b") << "in order of appearance";
  EXPECT_EQ(results[0].examples, 8);
  EXPECT_DOUBLE_EQ(results[0].value.value, 0.25);
  // Of independent examples: s / sqrt(n), with n - 1 in s.
  EXPECT_NEAR(results[0].value.standard_error.value(), std::sqrt(0.25 * 0.75 / 7), 1e-12);
  EXPECT_DOUBLE_EQ(results[1].value.value, 0.5);
  EXPECT_FALSE(results[1].value.standard_error.has_value()) << "one example";
  EXPECT_EQ(group_results(examples, {"length"}).at(0).examples, 10);
}

TEST(GroupResults, CountClustersNotExamples) {
  std::vector<ScoredExample> alone, together;
  for (int i = 0; i < 40; ++i) {
    const double match = i / 4 % 2;  // equal within a cluster of four
    alone.push_back(scored("a", "1", match));
    together.push_back(scored("a", "1", match, std::to_string(i / 4)));
  }
  const Result one = group_results(alone, {"task"}).at(0), other = group_results(together, {"task"}).at(0);
  EXPECT_NEAR(*one.value.standard_error, std::sqrt(0.25 / 39), 1e-12);
  EXPECT_NEAR(*other.value.standard_error, std::sqrt(0.25 / 9), 1e-12) << "as ten examples would have it";
}

TEST(MeanResult, AddsIndependentErrors) {
  std::vector<Result> results(2);
  results[0] = {{}, "match", 10, {0.2, 0.03, 0.1}};
  results[1] = {{}, "match", 20, {0.6, 0.04, 0.1}};
  const Result mean = mean_result(results, {{"task", "mean"}});
  EXPECT_EQ(mean.tags.at("task"), "mean");
  EXPECT_EQ(mean.examples, 30);
  EXPECT_DOUBLE_EQ(mean.value.value, 0.4);
  EXPECT_DOUBLE_EQ(mean.value.standard_error.value(), 0.025);
  results[1].value.standard_error.reset();
  EXPECT_FALSE(mean_result(results, {}).value.standard_error.has_value());
  EXPECT_THROW(mean_result({}, {}), Error);
}

TEST(ResultsTable, HasALineATaskAndAColumnACombination) {
  const std::vector<Result> results = {
      {{{"task", "a|b"}, {"length", "4096"}, {"placement", "encoder"}}, "match", 10, {0.25, 0.1, 0.2}},
      {{{"task", "c"}, {"length", "131072"}, {"placement", "decoder"}}, "match", 10, {1, std::nullopt, std::nullopt}}};
  EXPECT_EQ(to_markdown(results, "task", {"length", "placement"}),
            "| task | 4,096, encoder | 131,072, decoder |\n|---|---:|---:|\n"
            "| a\\|b | 25.0 ± 10.0 |  |\n| c |  | 100.0 |\n");
}

TEST(ResultsJson, HasNullForAnAbsentError) {
  const json value = to_json(Result{{{"task", "a"}}, "match", 3, {0.5, std::nullopt, std::nullopt}});
  EXPECT_EQ(value, json({{"tags", {{"task", "a"}}},
                         {"score", "match"},
                         {"value", 0.5},
                         {"standard_error", nullptr},
                         {"half_width", nullptr},
                         {"n", 3}}));
}

}  // namespace
}  // namespace cepe
