// Choosing the next tokens of the sequences in a batch's slots, whatever the device: on a CUDA device by DeviceSampler,
// on another by a Sampler a slot. What a slot was set to, has seen and drawn moves with its sequence.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "generate/answer.h"
#include "generate/sampler.h"

namespace cepe {

struct TokenChoice {
  TokenId token = 0;
  std::string error = {};  // not empty: the logits are damaged, and there is no token
};

// Not thread-safe.
class SlotSamplers {
 public:
  // vocabulary: tokens that may be chosen; what logits hold beyond (a padded embedding's rows) is never chosen.
  SlotSamplers(const at::Device& device, int64_t slots, int64_t vocabulary);

  // A sequence begins in a slot. seen: tokens that the repetition penalty counts from the beginning. Throws Error for
  // options out of range.
  void set(int64_t slot, const SamplerOptions& options, std::span<const TokenId> seen);
  void move(int64_t from, int64_t to);

  // Where it is not null a step chooses in its own graph (DecodeStepOptions::sampler), for its first slots.
  DeviceSampler* on_device() { return device_.get(); }

  // Tokens of the slots first .. first + N from their logits (N, V), on the device. stepped_N: what a step with
  // on_device() has chosen already; undefined: nothing.
  std::vector<TokenChoice> choose(const at::Tensor& logits_NV, int64_t first, const at::Tensor& stepped_N = {});

 private:
  std::vector<TokenChoice> choose_on_device(const at::Tensor& logits_NV, int64_t first, at::Tensor ids_N);

  int64_t vocabulary_;
  std::unique_ptr<DeviceSampler> device_;
  std::vector<std::optional<Sampler>> host_;
};

// Whose log-probabilities are wanted: a row of the logits, the token chosen from it, and how many of the best beside
// it.
struct LogProbabilityRow {
  int64_t row = 0;
  TokenId chosen = 0;
  int64_t best = 0;
};
// One for each of `rows`; computed by log_softmax in float32 on the logits' device. The best are of the tokens below
// `vocabulary`.
std::vector<TokenLogProbabilities> log_probabilities(const at::Tensor& logits_NV,
                                                     const std::vector<LogProbabilityRow>& rows, int64_t vocabulary);

}  // namespace cepe
