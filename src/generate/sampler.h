// Choosing the next token from the model's logits.
// On the host. What the options mean, and how a token is drawn: ops/step/sample.h.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/step/sample.h"
#include "text/tokenizer/tokenizer.h"

namespace cepe {

// A token that may be chosen.
struct Candidate {
  TokenId token;
  double probability;
};

// Holds the tokens seen so far and the number of draws. Not thread-safe.
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

  struct Weighted {
    TokenId token;
    uint64_t weight;
  };
  std::vector<Weighted> weigh(std::span<const float> logits) const;

  SamplerOptions options_;
  std::vector<bool> seen_;  // by token id
  uint64_t draws_ = 0;
};

}  // namespace cepe
