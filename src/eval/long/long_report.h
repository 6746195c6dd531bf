// What `eval long` shows of its results: a table of scores by setting, and a plot.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "eval/results.h"

namespace cepe {

struct LongReport {
  std::vector<Result> results;    // by task, setting, placement and document, each score
  std::vector<Result> by_length;  // the same by length, of each task's main score alone
  std::vector<Result> cut;        // by setting: the share of examples whose document was cut in the middle
};
LongReport report_long(std::span<const ScoredExample> examples);

// table.md: percent with standard errors; a line for each task and score, a column for each setting.
std::string long_table(const LongReport& report);

// plot.svg: the mean of the tasks' main scores over the length of the documents, a line for each setting.
void write_long_plot(const LongReport& report, const std::filesystem::path& path);

}  // namespace cepe
