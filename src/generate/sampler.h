// Choosing the next token from the model's logits.
//
// Steps, in the order and by the definitions of Hugging Face's logits processors:
//   repetition penalty  of each token seen so far: logit / r where positive, logit * r where negative (arXiv
//   1909.05858) temperature         logits / t top-k               the k best, and all that equal the k-th top-p the
//   best tokens until their probabilities add up to p or more (arXiv 1904.09751) min-p               the tokens with at
//   least m times the best one's probability (arXiv 2407.01082)
// The best token always stays. Of equal logits the lower id counts as the better one.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "text/tokenizer.h"

namespace cepe {

struct SamplerOptions {
  double temperature = 0.0;         // 0: greedy, always the best token
  int64_t top_k = 0;                // 0: off
  double top_p = 1.0;               // in (0, 1]; 1: off
  double min_p = 0.0;               // in [0, 1]; 0: off
  double repetition_penalty = 1.0;  // > 0; 1: off
  uint64_t seed = 0;                // the same seed, options and logits give the same tokens on every machine
};

// A token that may be chosen.
struct Candidate {
  TokenId token;
  double probability;
};

// Holds the tokens seen so far and the state of the random numbers. Not thread-safe.
class Sampler {
 public:
  // Throws Error naming an option that is out of its range.
  explicit Sampler(const SamplerOptions& options);

  // Tokens that the repetition penalty counts besides the chosen ones: the prompt, not the encoder's context.
  void observe(std::span<const TokenId> tokens);

  // The tokens that the options leave, with probabilities that add up to 1; greedy: the best token alone.
  // Throws Error when a logit is NaN or +infinity, or none is finite.
  std::vector<Candidate> candidates(std::span<const float> logits) const;

  // Draws one of the candidates, and observes it.
  TokenId sample(std::span<const float> logits);

 private:
  std::vector<float> penalised(std::span<const float> logits) const;

  SamplerOptions options_;
  std::vector<bool> seen_;    // by token id
  std::mt19937_64 random_;
};

}  // namespace cepe
