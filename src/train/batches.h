// Batches: samples as tensors, built on the CPU by a thread of their own while the device works.
//
// Shape suffixes: B batch, M chunks, L chunk length, T decoder tokens.
#pragma once

#include <ATen/core/Tensor.h>

#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "train/span_sampler.h"
#include "train/train_config.h"

namespace cepe {

struct Batch {
  at::Tensor ids_BML;              // int64
  at::Tensor mask_BML;             // bool; undefined when no chunk is masked
  at::Tensor decoder_BT1;          // int64, T + 1: input [0, T), labels [1, T + 1)
  std::vector<int64_t> documents;  // index into Corpus::documents, one a sample
  // The same on a device; from pinned memory the copy does not wait.
  Batch to(const at::Device& device) const;
};

// Lays out the tokens of `samples` spans (each TrainConfig::span_tokens() long, one after the other): the `chunks` most
// recent chunks before the decoder's part, or in stage warmup the decoder's own tokens.
Batch lay_out(const TrainConfig& config, const std::vector<int64_t>& tokens, int64_t chunks);

// Masks chunks in place: each with probability `share`; of these one in ten wholly, else a random suffix of 1 to
// L - 1 tokens. A pure function of the key.
struct MaskKey {
  uint64_t seed, step, micro_step;
};
at::Tensor draw_chunk_mask(const at::Tensor& ids_BML, double share, const MaskKey& key);

// The batch of one micro-step: a pure function of (seed, step, micro_step).
class BatchBuilder {
 public:
  // config and corpus must outlive the builder.
  BatchBuilder(const TrainConfig& config, const Corpus& corpus);
  Batch build(int64_t step, int64_t micro_step) const;
  const SpanSampler& sampler() const { return sampler_; }

 private:
  const TrainConfig& config_;
  SpanSampler sampler_;
};

// Builds the batches of steps first, first + 1, ... `last` - 1 ahead of time, in a thread that lives as long as the
// object.
class Prefetcher {
 public:
  struct Range {
    int64_t first, last, micro_steps;
  };
  Prefetcher(const BatchBuilder& builder, Range range, bool pinned);
  ~Prefetcher();
  Batch next();  // rethrows what the thread threw

 private:
  void work();
  const BatchBuilder& builder_;
  const Range range_;
  const bool pinned_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Batch> ready_;
  std::exception_ptr error_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace cepe
