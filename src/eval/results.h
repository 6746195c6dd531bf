// Results of an evaluation: means of scores by group, with standard errors, and how they are shown.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "eval/statistics.h"
#include "tasks/scorer.h"

namespace cepe {

struct ScoredExample {
  std::map<std::string, std::string> tags;  // Example::tags
  std::string cluster;                      // Example::cluster; empty: a cluster of its own
  Scores scores;
};

// The mean of one score over the examples that share some tags.
struct Result {
  std::map<std::string, std::string> tags;
  std::string score;
  int64_t examples = 0;
  Estimate value;         // the mean; its error is of the clusters' spread (statistics.h)
  std::string unit = {};  // empty: the value is a share of 1, shown in percent
};

// A result for each combination of values of the tags `by` that occurs, and each score, in order of appearance.
// Examples that lack one of the tags are left out.
std::vector<Result> group_results(std::span<const ScoredExample> examples, const std::vector<std::string>& by);

// The mean of several results' values, such as of several tasks, whose errors are independent. No error where one of
// them has none. Its examples are all of theirs. Error where there are none.
Result mean_result(std::span<const Result> results, const std::map<std::string, std::string>& tags);

// {"tags": {...}, "score", "value", "standard_error", "half_width", "n"}, and "unit" where there is one; null where
// there is no error.
nlohmann::json to_json(const Result& result);

// A Markdown table in percent, "83.3 ± 4.2": a line for each value of the tag `line`, a column for each combination of
// the tags `columns`. Empty cells where there is no result.
std::string to_markdown(std::span<const Result> results, const std::string& line,
                        const std::vector<std::string>& columns);

}  // namespace cepe
