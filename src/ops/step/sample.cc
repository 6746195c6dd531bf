#include "ops/step/sample.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "ops/step/sample_kernel.h"

namespace cepe {

void check_sampler_options(const SamplerOptions& options) {
  require(options.temperature >= 0 && std::isfinite(options.temperature),
          "temperature: expected 0 (greedy) or more, found {}", options.temperature);
  require(options.top_k >= 0, "top-k: expected 0 (off) or more tokens, found {}", options.top_k);
  require(options.top_p > 0 && options.top_p <= 1, "top-p: expected a probability above 0 and at most 1, found {}",
          options.top_p);
  require(options.min_p >= 0 && options.min_p <= 1, "min-p: expected a share from 0 to 1, found {}", options.min_p);
  // Beyond these bounds a logit times or by the penalty leaves the range of a float.
  require(options.repetition_penalty >= 1e-30 && options.repetition_penalty <= 1e30,
          "repetition penalty: expected a number from 1e-30 to 1e30, found {}", options.repetition_penalty);
}

DeviceSampler::DeviceSampler(const c10::Device& device, int64_t batch, int64_t vocabulary)
    : batch_(batch), vocabulary_(vocabulary) {
  require(applies(device), "sampling on the device {}: expected a CUDA device, and a build with CUDA", device.str());
  require(batch > 0 && vocabulary > 0 && vocabulary < int64_t{1} << 31,
          "sampling: expected a batch and a vocabulary, found {} sequences and {} tokens", batch, vocabulary);
  const auto options = at::TensorOptions().device(device);
  settings_ = at::empty({batch, static_cast<int64_t>(sizeof(sample_kernel::Settings))}, options.dtype(at::kByte));
  seen_BV_ = at::zeros({batch, vocabulary}, options.dtype(at::kByte));
  failed_B_ = at::zeros({batch}, options.dtype(at::kInt));
  scores_BV_ = at::empty({batch, vocabulary}, options.dtype(at::kFloat));
  weights_BV_ = at::empty({batch, vocabulary}, options.dtype(at::kLong));
  for (int64_t b = 0; b < batch; ++b) set(b, {});
}

void DeviceSampler::set(int64_t sequence, const SamplerOptions& options, std::span<const int32_t> seen) {
  check_sampler_options(options);
  require(sequence >= 0 && sequence < batch_, "sampling: sequence {} of a batch of {}", sequence, batch_);
  const sample_kernel::Settings settings{.temperature = options.temperature,
                                         .top_p = options.top_p,
                                         .min_p = options.min_p,
                                         .repetition_penalty = static_cast<float>(options.repetition_penalty),
                                         .top_k = static_cast<int32_t>(std::min(options.top_k, vocabulary_)),
                                         .seed = options.seed};
  at::Tensor bytes = at::empty({settings_.size(1)}, at::kByte);
  std::memcpy(bytes.mutable_data_ptr(), &settings, sizeof settings);
  at::Tensor marks = at::zeros({vocabulary_}, at::kByte);
  for (const int32_t token : seen) {
    require(token >= 0 && token < vocabulary_, "sampling: token {} is outside the vocabulary of {}", token,
            vocabulary_);
    marks.mutable_data_ptr<uint8_t>()[token] = 1;
  }
  settings_[sequence].copy_(bytes);
  seen_BV_[sequence].copy_(marks);
  failed_B_[sequence].zero_();
}

void DeviceSampler::move(int64_t from, int64_t to) {
  require(from >= 0 && from < batch_ && to >= 0 && to < batch_, "sampling: row {} to row {} of a batch of {}", from, to,
          batch_);
  if (from == to) return;
  for (const at::Tensor& rows : {settings_, seen_BV_, failed_B_}) rows[to].copy_(rows[from]);
}

void DeviceSampler::sample(const at::Tensor& logits_NV, const at::Tensor& ids_N, int64_t first) {
  const bool bf16 = logits_NV.scalar_type() == at::kBFloat16;
  require(logits_NV.dim() == 2 && logits_NV.size(1) >= vocabulary_ && logits_NV.is_contiguous() &&
              (bf16 || logits_NV.scalar_type() == at::kFloat) && logits_NV.device() == failed_B_.device(),
          "sampling: expected contiguous logits of {} tokens or more on {}, float32 or bfloat16", vocabulary_,
          failed_B_.device().str());
  const int64_t rows = logits_NV.size(0);
  require(first >= 0 && first + rows <= batch_, "sampling: {} rows from row {} on of a batch of {}", rows, first,
          batch_);
  require(ids_N.dim() == 1 && ids_N.size(0) == rows && ids_N.is_contiguous() && ids_N.scalar_type() == at::kLong &&
              ids_N.device() == failed_B_.device(),
          "sampling: expected room for {} ids, int64 on {}", rows, failed_B_.device().str());
  launch(logits_NV, ids_N, first);
}

}  // namespace cepe
