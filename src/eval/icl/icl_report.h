// What `eval icl` shows of its results: a table of accuracy and macro F1 by setting, and a plot.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "eval/icl/icl_run.h"
#include "eval/results.h"

namespace cepe {

struct IclReport {
  // By task, setting and the setting's parts: "accuracy" and "macro_f1" by the ranking that counts, calibrated where
  // there is a calibration, and "accuracy_RANKING" and "macro_f1_RANKING" by the others. Errors are of the asked texts'
  // spread, a text's records with all seeds being one cluster.
  std::vector<Result> results;
  std::vector<Result> by_seed;  // the first two of each seed
};
IclReport report_icl(std::span<const IclRecord> records);

// table.md: percent with standard errors; two lines a task and, where there is a calibration, the accuracy without it.
std::string icl_table(const IclReport& report);

// plot.svg: the accuracy over the number of demonstrations, a line for each task and kind of setting.
void write_icl_plot(const IclReport& report, const std::filesystem::path& path);

}  // namespace cepe
