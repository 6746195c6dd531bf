// Choosing the next token from logits: the options, what they mean to the last bit, and the sampler that works on a
// CUDA device. generate/sampler.h is the same on the host: one seed gives the same tokens on either, but where the two
// machines' exponentials round a weight to different sides.
//
// Steps, in the order and by the definitions of Hugging Face's logits processors:
//   repetition penalty  of each token seen so far: logit / r where positive, else logit * r (arXiv 1909.05858)
//   temperature         logits / t
//   top-k               the k best, and all that equal the k-th
//   top-p               the best tokens until their probabilities add up to p or more (arXiv 1904.09751)
//   min-p               the tokens with at least m times the best one's probability (arXiv 2407.01082)
// The best token always stays. Of equal logits the lower id counts as the better one.
//
// A token's weight is exp((logit - best) / t) as a multiple of 2^-40: sums of integers are the same in any order, and
// what rounds to none is never chosen. The n-th draw (from 0) takes 53 bits of the seed's n-th number of SplitMix64
// (Steele, Lea & Flood 2014) as a share of the total; the first token, by id, whose running sum exceeds it is chosen.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <span>

#include "ops/step/sample_weight.h"

namespace cepe {

struct SamplerOptions {
  double temperature = 0.0;         // 0: greedy, always the best token
  int64_t top_k = 0;                // 0: off
  double top_p = 1.0;               // in (0, 1]; 1: off
  double min_p = 0.0;               // in [0, 1]; 0: off
  double repetition_penalty = 1.0;  // > 0; 1: off
  uint64_t seed = 0;                // the same seed, options and logits give the same tokens
};
// Throws Error naming an option that is out of its range.
void check_sampler_options(const SamplerOptions& options);

// Tokens of a batch's sequences, chosen on a CUDA device by one kernel, which a CUDA graph can hold: options, tokens
// seen and the number of draws lie in device memory, a row a sequence. Rows keep them whatever steps of other batch
// sizes do, so that one sampler of the largest batch serves all sizes. Not thread-safe.
class DeviceSampler {
 public:
  // vocabulary: tokens that may be chosen; what logits hold beyond (a padded embedding's rows) is not looked at. All
  // sequences are greedy until set() says otherwise. Throws Error where applies() is false.
  DeviceSampler(const c10::Device& device, int64_t batch, int64_t vocabulary);
  static bool applies(const c10::Device& device);

  // A sequence begins in a row: its options, and the tokens that the repetition penalty counts besides those that are
  // chosen from now on. In order with the device's current stream. Throws Error for options out of range, tokens
  // outside the vocabulary, or a sequence outside the batch.
  void set(int64_t sequence, const SamplerOptions& options, std::span<const int32_t> seen = {});
  // A sequence goes on in another row: what it was set to, has seen and drawn. In order with the device's current
  // stream. Throws Error for a row outside the batch.
  void move(int64_t from, int64_t to);

  // Tokens of the rows first .. first + n. logits (n, V), float32 or bfloat16, V at least the vocabulary, contiguous ->
  // ids (n), int64 on the device. Where a logit is NaN or +infinity, or none is finite, the id is 0 and failed_B() is
  // not 0 from then on, until set(). Throws Error for rows outside the batch.
  void sample(const at::Tensor& logits_NV, const at::Tensor& ids_N, int64_t first = 0);
  const at::Tensor& failed_B() const { return failed_B_; }  // int32, on the device, of all rows

 private:
  void launch(const at::Tensor& logits_NV, const at::Tensor& ids_N, int64_t first);

  int64_t batch_, vocabulary_;
  at::Tensor settings_, seen_BV_, failed_B_;  // bytes of sample_kernel::Settings, bytes, int32
  at::Tensor scores_BV_, weights_BV_;         // scratch: float32, int64
};

}  // namespace cepe
