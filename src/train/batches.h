// Batches: the samples of a step as tensors, built on the CPU by a thread of their own while the device works.
//
// Shape suffixes: B batch, M chunks, L chunk length, T decoder positions, N scored labels.
#pragma once

#include <ATen/core/Tensor.h>

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "train/samples/masked_piece.h"
#include "train/samples/sample_sampler.h"
#include "train/throughput.h"
#include "train/train_config.h"

namespace cepe {

// Samples at once. A sample of fewer chunks than the batch has masked chunks after its own, one of fewer decoder tokens
// padding after them, which is not scored.
struct Batch {
  at::Tensor ids_BML;               // int64; undefined: no sample has a context
  at::Tensor mask_BML;              // bool, true = a real token; undefined: all are
  at::Tensor encoded_R;             // int64, the chunks to encode, of B * M: all that have a token; undefined: all
  at::Tensor decoder_BT1;           // int64, T + 1: input [0, T), labels [1, T + 1)
  at::Tensor scored_N;              // int64, which of the B * T labels are scored, in order; undefined: all
  at::Tensor weight_N;              // float32, of the losses of these; undefined: 1 each
  double weight = 0;                // the sum of the weights
  bool asked = false;               // samples of data.ask; else plain ones
  std::vector<SampleShape> shapes;  // of each sample, without padding
  int64_t tokens() const;           // context and decoder, without padding
  // The same on a device; from pinned memory the copy does not wait.
  Batch to(const at::Device& device) const;
  Batch pinned() const;
};

// The sample in a span of TrainConfig::span_tokens() tokens: the `chunks` most recent chunks before the decoder's part,
// or in stage warmup the decoder's own tokens.
Sample plain_sample(const TrainConfig& config, const int64_t* span, int64_t chunks);

// Samples that differ are padded to one of few shapes (a power of two or three quarters of one), but to no more chunks
// and positions than a plain sample or the longest of them has.
Batch lay_out(const TrainConfig& config, const std::vector<Sample>& samples);
// Of these samples alone, in this order.
Batch lay_out(const TrainConfig& config, const std::vector<Sample>& samples, const std::vector<size_t>& indices);

// Cuts samples (indices into `samples`) into batches in the order of their chunks, so that padding and the number of
// batches together cost least. A batch's padded context and padded decoder tokens are each no more than those of
// train.micro_batch plain samples; a sample that exceeds them is a batch of its own. Samples that differ make batches
// of a power of two.
// batch_tokens: what a batch costs whatever it holds, in padded tokens.
std::vector<std::vector<size_t>> cut_into_batches(const TrainConfig& config, const std::vector<Sample>& samples,
                                                  std::vector<size_t> indices, int64_t batch_tokens);
// An estimate for a GPU: the operations that it does while the host launches the kernels of a small batch, and the
// tokens that SmolLM2's parts train on with so many. A CPU launches nothing: 0.
constexpr double kGpuBatchFlops = 6e12;
constexpr int64_t kGpuBatchTokens = 16384;
// The same tokens of a model that does so many operations for each.
int64_t gpu_batch_tokens(double flops_per_token);

// A plain sample as the stage has it: in stage mlm the masked piece (samples/masked_piece.h), in stage window no
// context.
Sample stage_sample(const TrainConfig& config, const int64_t* span, int64_t chunks, const MaskKey& key);

// Masks ends of chunks: shortens each with probability `share`; one in ten of these to nothing, the others by 1 to
// length - 1 tokens. A pure function of the key.
void mask_chunks(Sample& sample, double share, const MaskKey& key);

// One rank of those that share a step's samples.
struct RankOf {
  int64_t rank = 0, size = 1;
};
// This rank's of the samples, indices into them in order: each sample, the largest first, goes to the rank that has
// least to read so far. Tokens stand for time.
std::vector<size_t> share_of_rank(const std::vector<Sample>& samples, const RankOf& rank);

// What one rank computes of a step, and what it must know of the whole.
struct StepBatches {
  std::vector<Batch> batches;             // of this rank
  double weight = 0, answers_weight = 0;  // of all ranks: sums of weights, of all samples and of those of data.ask
  std::vector<SampleShape> shapes;        // of all ranks' samples
};

// The batches of one step. Its samples are a pure function of (seed, step), whatever the micro-batch and the ranks.
class BatchBuilder {
 public:
  struct Options {
    int64_t batch_tokens = 0;  // cut_into_batches()
    RankOf rank;
  };
  // config and corpora must outlive the builder. ask: of samples, empty but in stage ask; plain: may be empty where
  // every sample is of ask.
  BatchBuilder(const TrainConfig& config, const Corpus& plain, const Corpus& ask, const Options& options);
  BatchBuilder(const TrainConfig& config, const Corpus& plain, const Corpus& ask)
      : BatchBuilder(config, plain, ask, Options{}) {}
  std::vector<Sample> draw(int64_t step) const;  // of all ranks: plain samples, then those of data.ask
  StepBatches build(int64_t step) const;
  void set_batch_tokens(int64_t tokens) { options_.batch_tokens = tokens; }  // before the first step is built
  const std::optional<SpanSampler>& sampler() const { return sampler_; }     // of plain samples

 private:
  int64_t plain_samples(int64_t step) const { return config_.batch - (asked_ ? asked_->count(step) : 0); }

  const TrainConfig& config_;
  Options options_;
  std::optional<SpanSampler> sampler_;
  std::optional<SampleSampler> asked_;
};

// Builds the batches of steps first, first + 1, ... `last` - 1 ahead of time, in a thread that lives as long as the
// object.
class Prefetcher {
 public:
  struct Range {
    int64_t first, last;
  };
  Prefetcher(const BatchBuilder& builder, Range range, bool pinned);
  ~Prefetcher();
  StepBatches next();  // a step's; rethrows what the thread threw

 private:
  void work();
  const BatchBuilder& builder_;
  const Range range_;
  const bool pinned_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<StepBatches> ready_;
  std::exception_ptr error_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace cepe
