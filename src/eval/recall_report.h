// What `eval recall` shows of its results: a table, a plot of the score over length, heat maps of depth and length.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "eval/results.h"

namespace cepe {

struct RecallReport {
  std::vector<Result> results;    // by task, length and placement; last the means over RULER's tasks
  std::vector<Result> at_depths;  // by task, length, placement and depth, of the tasks at chosen depths
};
// Means over RULER's tasks ("mean of 13") are of the lengths and placements that all of RULER's tasks in the run have;
// none where only one was run.
RecallReport report_recall(std::span<const ScoredExample> examples);

// table.md: percent with standard errors.
std::string recall_table(const RecallReport& report);

// plot.svg: the mean over RULER's tasks, or where there is none each task, over the length, a line a placement; and
// heat_TASK_PLACEMENT.svg: depth by length. -> the files written.
std::vector<std::filesystem::path> write_recall_plots(const RecallReport& report,
                                                      const std::filesystem::path& directory);

}  // namespace cepe
