// What is asked of a scoring of windows, and what it gives: one form for `cepe perplexity` and `cepe eval lm`.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "eval/record.h"

namespace cepe {

struct PerplexityOptions {
  int64_t decoder_tokens = 2048;
  std::vector<int64_t> context_tokens = {0};  // ascending; changes are against 0 and absent where it is not listed
  int64_t scored_tokens = 256;                // the last so many of the decoder's labels
  bool other_document = false;                // also another document's context of the same lengths
  bool same_source = false;                   // also one of another document of the same source
  bool shuffled = false;                      // also the own chunks in another order
  bool full_window = false;   // also the plain decoder with these contexts in its own window, where they fit
  bool int8_latents = false;  // the encoder's states in 8 bits, as they would be kept (model/cross_attention.h)
  int64_t windows = 100;      // at most so many a domain; 0: as many as fit at the stride
  int64_t stride = 2048;      // the least distance of two windows; at least scored_tokens
  int64_t batch = 0;          // windows at once; 0: 1 on a CPU (least memory), 8 on a GPU
  std::function<void(int64_t done, int64_t total)> progress;  // called after each row of each batch; may be empty
};

struct PerplexityScores {
  std::vector<ScoredWindow> windows;  // of all domains
  std::vector<ScoredRow> rows;        // in the order of the record's rows
  std::vector<std::string> notes;     // a sentence each: domains, controls and windows that were left out, and why
};

}  // namespace cepe
