// Decoding steps for a batch whose size changes while it runs: one step, and on a CUDA device one graph, for each of
// the sizes 1, 2, 4, ... up to the cache's slots, all over one key-value cache. When a sequence comes or goes the
// smallest step that holds those at work is placed, and recorded only the first time.
//
//   StepBuckets buckets(model, make_cache(model.decoder.stack, 16, capacity));  // and decode() of prompts into it
//   DecodeStep& step = buckets.place({.ids = ids, .positions = positions, .contexts = contexts});
//   for (...) step.run();                                                     // until a sequence comes or goes
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "model/decode_step.h"

namespace cepe {

// The sequences at work, which stand in the first slots of the cache.
struct PlacedBatch {
  std::span<const int64_t> ids, positions;  // as DecodeStep::place() takes them, one for each sequence
  std::vector<StepContext> contexts = {};   // as DecodeStepOptions has them
  // A slot after those whose first `spared_length` tokens the step must leave as they are: a prompt is being read
  // into it. -1: none.
  int64_t spared_slot = -1, spared_length = 0;
};

// Not thread-safe. No gradients. The model must outlive it.
class StepBuckets {
 public:
  // cache: shared as by DecodeStep. options: of every size, without contexts, which come with place(); a sampler has at
  // least as many rows as the cache has slots. Throws Error where a step cannot be made (can_step).
  StepBuckets(const Cepe& model, const KeyValueCache& cache, const DecodeStepOptions& options = {});

  // The step of the smallest size that holds the batch, placed and with these contexts; only the first rows of its
  // logits are the batch's. In a slot of the step that no sequence has, run() writes token 0 at the positions from 0
  // on, in the spared slot at those from spared_length on. Valid as long as the buckets. Throws Error where there are
  // no sequences, or more than slots.
  DecodeStep& place(const PlacedBatch& batch);

  // The sequences that read this context have ended: steps that hold it let go of it, and of the others that they hold
  // until they are placed again.
  void forget(const Latents& context);

  const std::vector<int64_t>& sizes() const { return sizes_; }
  int64_t made() const;  // steps so far

 private:
  struct Bucket {
    std::unique_ptr<DecodeStep> step;
    std::vector<StepContext> contexts;
  };

  const Cepe& model_;
  KeyValueCache cache_;
  DecodeStepOptions options_;
  std::vector<int64_t> sizes_;   // the last one is the cache's slots
  std::vector<Bucket> buckets_;  // one a size; made when it is first placed
};

}  // namespace cepe
