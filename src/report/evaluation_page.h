// The parts of the page about evaluations.
#pragma once

#include <string>
#include <vector>

#include "report/evaluation_run.h"

namespace cepe {

// One evaluation: what was run, its results, its plots, and examples to read.
std::string evaluation_section(const EvaluationRun& run);

// Evaluations of the same task side by side: runs of one command that share a result (same tags, same score) stand in
// one table, a column each, directly or by way of others. Its rows are the results that at least two of them have.
// Below it stand the settings in which the runs differ. Empty where no runs share a result.
std::string merged_tables(const std::vector<EvaluationRun>& runs);

}  // namespace cepe
