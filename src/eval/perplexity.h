// Long-context perplexity: the same last tokens of each window scored with more and more context before them.
//
//   documents -> place_windows (windows.h) -> score_windows -> summarise -> record.h: JSON, table, plot
//
// Readers, rows and groups of windows are those of `cepe eval lm` (lm/scoring.h).
//
// Own context of n tokens: the n tokens before the decoder's, in chunks through the encoder. The longest context's
// chunks are encoded once; a shorter context is its most recent chunks. Controls and comparisons: docs/perplexity.md.
#pragma once

#include <string>
#include <vector>

#include "eval/documents.h"
#include "eval/lm/scored_windows.h"
#include "eval/record.h"
#include "model/cepe.h"

namespace cepe {

// Error, one sentence, when the options of the windows contradict each other or the model: a list that does not ascend,
// a context that is not whole chunks of the encoder, a window that the decoder does not have.
void check_window_options(const Cepe& model, const PerplexityOptions& options);
// The same, and a control without a context, or a context without an encoder (allowed for full_window alone).
void check_perplexity_options(const Cepe& model, const PerplexityOptions& options);

// Scores all windows, without gradients. A window without a control (windows.h) is left out of that control's rows.
// Error when the text is too short (place_windows), has tokens outside the model's vocabulary, or names no source where
// same_source is asked for.
PerplexityScores score_windows(const Cepe& model, const std::vector<TokenDocument>& documents,
                               const PerplexityOptions& options);

// Perplexities of the rows, and their comparisons, each on the windows that all rows of the comparison have.
PerplexityRecord summarise(const PerplexityScores& scores, const std::string& model_name,
                           const PerplexityOptions& options);

}  // namespace cepe
