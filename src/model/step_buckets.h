// Decoding steps for a batch whose size changes while it runs ("batch buckets"): one step, and on a CUDA device one
// graph, for each of the sizes 1, 2, 4, ... up to the cache's batch, all over one key-value cache. When a sequence
// comes or goes the smallest step that holds those at work is placed, and recorded only the first time.
//
//   StepBuckets buckets(model, make_cache(model.decoder.stack, 16, capacity));  // and decode() of prompts into it
//   DecodeStep& step = buckets.place({.ids = ids, .positions = positions, .contexts = contexts});
//   for (...) step.run();                                                     // until a sequence comes or goes
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "model/decode_step.h"

namespace cepe {

// The sequences at work, which stand in the first places of the cache.
struct PlacedBatch {
  std::span<const int64_t> ids, positions;  // as DecodeStep::place() takes them, one for each sequence
  std::vector<StepContext> contexts = {};   // as DecodeStepOptions has them
};

struct StepBucketsOptions {
  DecodeStepOptions step;  // of every size; without contexts and sampler
  // The sampler of a step of so many sequences, which must outlive the buckets; null: the best tokens. Called once a
  // size.
  std::function<DeviceSampler*(int64_t sequences)> sampler = nullptr;
};

// Not thread-safe. No gradients. The model must outlive it.
class StepBuckets {
 public:
  // cache: of the most sequences, shared as by DecodeStep. Throws Error where a step cannot be made (can_step), or the
  // options have contexts or a sampler of their own.
  StepBuckets(const Cepe& model, const KeyValueCache& cache, const StepBucketsOptions& options = {});

  // The step of the smallest size that holds the batch, placed and with these contexts; only the first rows of its
  // logits are the batch's. A place of the step that no sequence has reads token 0 from position 0 on and writes over
  // its own part of the cache. Valid as long as the buckets. Throws Error where there are no sequences, or more than
  // places.
  DecodeStep& place(const PlacedBatch& batch);

  // The first `length` tokens that the cache holds for one place, copied to another: so that those at work stand in the
  // first places again when one has ended.
  void move(int64_t from, int64_t to, int64_t length);

  const std::vector<int64_t>& sizes() const { return sizes_; }
  int64_t made() const;  // steps so far

 private:
  struct Bucket {
    std::unique_ptr<DecodeStep> step;
    std::vector<StepContext> contexts;
  };
  Bucket& make(size_t index, const std::vector<StepContext>& contexts);

  const Cepe& model_;
  KeyValueCache cache_;
  StepBucketsOptions options_;
  std::vector<int64_t> sizes_;   // the last one is the cache's batch
  std::vector<Bucket> buckets_;  // one a size; made when it is first placed
};

}  // namespace cepe
