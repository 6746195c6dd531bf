#include "generate/step_buckets.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace cepe {
namespace {

// The cache of its first slots.
KeyValueCache first_slots(const KeyValueCache& cache, int64_t slots) {
  KeyValueCache part;
  part.length = cache.length, part.capacity = cache.capacity;
  for (const LayerCache& layer : cache.layers) {
    part.layers.push_back({layer.k_BSGK.narrow(0, 0, slots), layer.v_BSGK.narrow(0, 0, slots)});
  }
  return part;
}

bool same(const at::Tensor& a, const at::Tensor& b) { return a.is_same(b) || (!a.defined() && !b.defined()); }

bool same(const StepContext& a, const StepContext& b) {
  const Latents &x = a.latents, &y = b.latents;
  return a.first == b.first && a.count == b.count && same(x.states_BSE, y.states_BSE) && same(x.mask_BS, y.mask_BS) &&
         same(x.scales_BS, y.scales_BS) && x.cache == y.cache;
}

bool same(const std::vector<StepContext>& a, const std::vector<StepContext>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const StepContext& x, const StepContext& y) { return same(x, y); });
}

std::vector<int64_t> padded(std::span<const int64_t> values, int64_t size) {
  std::vector<int64_t> all(values.begin(), values.end());
  all.resize(static_cast<size_t>(size), 0);
  return all;
}

}  // namespace

StepBuckets::StepBuckets(const Cepe& model, const KeyValueCache& cache, const DecodeStepOptions& options)
    : model_(model), cache_(cache), options_(options) {
  require(can_step(model, cache.capacity), "batch buckets: rotary frequencies depend on the length of {} tokens",
          cache.capacity);
  require(options.contexts.empty(), "batch buckets: contexts come with place()");
  const int64_t most = cache.layers.at(0).k_BSGK.size(0);
  // A lone sequence's context changes only with the sequence: its step may read it in the form that is fastest.
  options_.contexts_change = most > 1;
  for (int64_t size = 1; size < most; size *= 2) sizes_.push_back(size);
  sizes_.push_back(most);
  buckets_.resize(sizes_.size());
}

DecodeStep& StepBuckets::place(const PlacedBatch& batch) {
  const int64_t sequences = static_cast<int64_t>(batch.ids.size());
  require(sequences >= 1 && sequences <= sizes_.back(), "batch buckets: {} sequences for a cache of {}", sequences,
          sizes_.back());
  require(batch.positions.size() == batch.ids.size(), "batch buckets: {} tokens at {} positions", sequences,
          batch.positions.size());
  require(batch.spared_slot < 0 || batch.spared_slot >= sequences, "batch buckets: slot {} of {} sequences is spared",
          batch.spared_slot, sequences);
  for (const StepContext& context : batch.contexts) {
    require(context.first + context.count <= sequences, "batch buckets: a context for sequences {} to {} of {}",
            context.first, context.first + context.count - 1, sequences);
  }
  const auto size = std::lower_bound(sizes_.begin(), sizes_.end(), sequences);
  Bucket& bucket = buckets_[static_cast<size_t>(size - sizes_.begin())];
  if (!bucket.step) {
    DecodeStepOptions options = options_;
    options.contexts = batch.contexts;
    bucket.step = std::make_unique<DecodeStep>(model_, first_slots(cache_, *size), options);
    bucket.contexts = batch.contexts;
  } else if (!same(bucket.contexts, batch.contexts)) {
    bucket.step->set_contexts(batch.contexts);
    bucket.contexts = batch.contexts;
  }
  std::vector<int64_t> positions = padded(batch.positions, *size);
  if (batch.spared_slot >= 0 && batch.spared_slot < *size) {
    positions[static_cast<size_t>(batch.spared_slot)] = batch.spared_length;
  }
  bucket.step->place(padded(batch.ids, *size), positions);
  return *bucket.step;
}

void StepBuckets::forget(const Latents& context) {
  for (Bucket& bucket : buckets_) {
    const bool holds = std::any_of(bucket.contexts.begin(), bucket.contexts.end(), [&](const StepContext& held) {
      return same(held.latents.states_BSE, context.states_BSE);
    });
    if (!holds) continue;
    bucket.step->set_contexts({});
    bucket.contexts.clear();
  }
}

int64_t StepBuckets::made() const {
  return std::count_if(buckets_.begin(), buckets_.end(), [](const Bucket& bucket) { return bucket.step != nullptr; });
}

}  // namespace cepe
