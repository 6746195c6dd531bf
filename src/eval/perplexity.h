// Long-context perplexity: the same last tokens of each window scored with more and more context before them.
//
//   documents -> place_windows (windows.h) -> score_windows -> summarise -> record.h: JSON, table, plot
//
// Own context of n tokens: the n tokens before the decoder's, in chunks through the encoder. The longest context's
// chunks are encoded once; a shorter context is its most recent chunks. Controls: method, sections "Evaluation" and
// "Reading gain".
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "eval/documents.h"
#include "eval/record.h"
#include "model/cepe.h"

namespace cepe {

struct PerplexityOptions {
  int64_t decoder_tokens = 2048;
  std::vector<int64_t> context_tokens = {0};  // ascending; changes are against 0 and absent where it is not listed
  int64_t scored_tokens = 256;                // the last so many of the decoder's labels
  bool other_document = false;                // also another document's context of the same lengths
  bool shuffled = false;                      // also the own chunks in another order
  bool full_window = false;   // also the plain decoder with the context in its own window, where it fits
  bool int8_latents = false;  // the encoder's states in 8 bits, as they would be kept (model/cross_attention.h)
  int64_t windows = 100;      // at most so many a domain; 0: as many as fit at the stride
  int64_t stride = 2048;      // the least distance of two windows; at least scored_tokens
  int64_t batch = 0;          // windows at once; 0: 1 on a CPU (least memory), 8 on a GPU
  std::function<void(int64_t done, int64_t total)> progress;  // called after each row of each batch; may be empty
};

// Losses of one row of the result: one context length under one control, over all windows of a domain.
struct ScoredRow {
  std::string domain;
  int64_t context_tokens = 0;
  Control control = Control::own;
  std::vector<double> nll;        // mean loss of a window's scored tokens, nats, in the order of the windows
  std::vector<int64_t> document;  // of each window
  double seconds = 0;
  uint64_t peak_bytes = 0;
};

struct PerplexityScores {
  std::vector<ScoredRow> rows;     // in the order of the record's rows
  std::vector<std::string> notes;  // a sentence each: domains and controls that were left out, and why
};

// Error, one sentence, when the options contradict each other or the model: a list that does not ascend, a context that
// is not whole chunks, a context without an encoder (allowed for full_window alone), a window that the decoder does not
// have.
void check_perplexity_options(const Cepe& model, const PerplexityOptions& options);

// Scores all windows, without gradients. Error when the text is too short (place_windows) or has tokens outside the
// model's vocabulary.
PerplexityScores score_windows(const Cepe& model, const std::vector<TokenDocument>& documents,
                               const PerplexityOptions& options);

// Perplexities, paired changes and reading gains of the rows.
PerplexityRecord summarise(const PerplexityScores& scores, const std::string& model_name,
                           const PerplexityOptions& options);

}  // namespace cepe
