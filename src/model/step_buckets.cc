#include "model/step_buckets.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace cepe {
namespace {

// The cache of its first sequences.
KeyValueCache part_of(const KeyValueCache& cache, int64_t sequences) {
  KeyValueCache part;
  part.length = cache.length, part.capacity = cache.capacity;
  for (const LayerCache& layer : cache.layers) {
    part.layers.push_back({layer.k_BSGK.narrow(0, 0, sequences), layer.v_BSGK.narrow(0, 0, sequences)});
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

StepBuckets::StepBuckets(const Cepe& model, const KeyValueCache& cache, const StepBucketsOptions& options)
    : model_(model), cache_(cache), options_(options) {
  require(can_step(model, cache.capacity), "batch buckets: rotary frequencies depend on the length of {} tokens",
          cache.capacity);
  require(options.step.contexts.empty() && options.step.sampler == nullptr,
          "batch buckets: contexts come with place(), and each size has a sampler of its own");
  options_.step.contexts_change = true;
  const int64_t most = cache.layers.at(0).k_BSGK.size(0);
  for (int64_t size = 1; size < most; size *= 2) sizes_.push_back(size);
  sizes_.push_back(most);
  buckets_.resize(sizes_.size());
}

StepBuckets::Bucket& StepBuckets::make(size_t index, const std::vector<StepContext>& contexts) {
  DecodeStepOptions options = options_.step;
  options.contexts = contexts;
  if (options_.sampler) options.sampler = options_.sampler(sizes_[index]);
  Bucket& bucket = buckets_[index];
  bucket.step = std::make_unique<DecodeStep>(model_, part_of(cache_, sizes_[index]), options);
  bucket.contexts = contexts;
  return bucket;
}

DecodeStep& StepBuckets::place(const PlacedBatch& batch) {
  const int64_t sequences = static_cast<int64_t>(batch.ids.size());
  require(sequences >= 1 && sequences <= sizes_.back(), "batch buckets: {} sequences for a cache of {}", sequences,
          sizes_.back());
  require(batch.positions.size() == batch.ids.size(), "batch buckets: {} tokens at {} positions", sequences,
          batch.positions.size());
  for (const StepContext& context : batch.contexts) {
    require(context.first + context.count <= sequences, "batch buckets: a context for sequences {} to {} of {}",
            context.first, context.first + context.count - 1, sequences);
  }
  const auto size = std::lower_bound(sizes_.begin(), sizes_.end(), sequences);
  const size_t index = static_cast<size_t>(size - sizes_.begin());
  if (!buckets_[index].step) {
    make(index, batch.contexts);
  } else if (!same(buckets_[index].contexts, batch.contexts)) {
    buckets_[index].step->set_contexts(batch.contexts);
    buckets_[index].contexts = batch.contexts;
  }
  DecodeStep& step = *buckets_[index].step;
  step.place(padded(batch.ids, *size), padded(batch.positions, *size));
  return step;
}

void StepBuckets::move(int64_t from, int64_t to, int64_t length) {
  const int64_t most = sizes_.back();
  require(from >= 0 && from < most && to >= 0 && to < most && length >= 0 && length <= cache_.capacity,
          "batch buckets: {} tokens from place {} to {} of a cache of {} sequences of {}", length, from, to, most,
          cache_.capacity);
  if (from == to) return;
  const at::NoGradGuard no_gradients;
  for (const LayerCache& layer : cache_.layers) {
    for (const at::Tensor& of : {layer.k_BSGK, layer.v_BSGK}) {
      at::Tensor target = of.select(0, to).narrow(0, 0, length);
      target.copy_(of.select(0, from).narrow(0, 0, length));
    }
  }
}

int64_t StepBuckets::made() const {
  return std::count_if(buckets_.begin(), buckets_.end(), [](const Bucket& bucket) { return bucket.step != nullptr; });
}

}  // namespace cepe
