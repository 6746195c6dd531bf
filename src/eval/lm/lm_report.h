// What `eval lm` shows of its results (docs/eval.md).
#pragma once

#include <string>
#include <vector>

#include "eval/record.h"
#include "eval/results.h"

namespace cepe {

// Of each row its perplexity, and its comparisons as shares: change (against no context, of another model against its
// own), against_full_attention, against_cepe, reading_gain, same_source_gain, and the gains' differences to full
// attention's.
std::vector<Result> lm_results(const PerplexityRecord& record);
// Of each row whose cost is known: seconds of all windows, tokens_per_second (of context and decoder together) and
// peak_memory and working_memory in bytes (ScoredRow).
std::vector<Result> lm_costs(const PerplexityRecord& record);
// table.md: a line a row; below it what the columns mean and what they say.
std::string lm_table(const PerplexityRecord& record);

}  // namespace cepe
