// A sample as it is drawn, before it is laid out in a batch. No torch here.
#pragma once

#include <cstdint>
#include <vector>

#include "train/samples/span_sampler.h"

namespace cepe {

struct Sample {
  std::vector<int64_t> tokens;  // the chunks of its context, one after another, then the decoder's
  std::vector<int64_t> chunks;  // their lengths; 0: a chunk that is masked wholly. Empty: no context
  std::vector<float> weights;   // of the loss of each label; empty: 1 each
  int64_t context_tokens() const;
  // Positions that the decoder reads, one fewer than its tokens: the last is a label alone.
  int64_t positions() const { return static_cast<int64_t>(tokens.size()) - context_tokens() - 1; }
};

// A sample of a shard of samples; document: index into Corpus::documents. Weights are multiplied by `factor`.
Sample read_sample(const Corpus& corpus, int64_t document, float factor);

struct SampleLimits {
  int64_t chunk_tokens = 0, positions = 0;  // the longest chunk; the most that the decoder reads
  float factor = 1;                         // on the weights: each stays finite, and above 0 where it was
  int64_t context_tokens = 1 << 24;         // the most that chunks padded to chunk_tokens take: far above any use
};
// Error naming shard and sample where one of a corpus of samples exceeds the limits. Returns the most that the decoder
// reads of one; 0 of an empty corpus.
int64_t check_samples(const Corpus& corpus, const SampleLimits& limits);

}  // namespace cepe
