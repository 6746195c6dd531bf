#include "generate/slots.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "base/error.h"

namespace cepe {

KeyValueCache slot_of(const KeyValueCache& cache, int64_t slot, int64_t length) {
  KeyValueCache part;
  part.length = length, part.capacity = cache.capacity;
  for (const LayerCache& layer : cache.layers) {
    part.layers.push_back({layer.k_BSGK.narrow(0, slot, 1), layer.v_BSGK.narrow(0, slot, 1)});
  }
  return part;
}

void move_slot(const KeyValueCache& cache, int64_t from, int64_t to, int64_t length) {
  const int64_t slots = cache.layers.at(0).k_BSGK.size(0);
  require(from >= 0 && from < slots && to >= 0 && to < slots && length >= 0 && length <= cache.capacity,
          "key-value cache: {} tokens from slot {} to {} of a cache of {} slots of {} tokens", length, from, to, slots,
          cache.capacity);
  if (from == to) return;
  const at::NoGradGuard no_gradients;
  for (const LayerCache& layer : cache.layers) {
    for (const at::Tensor& of : {layer.k_BSGK, layer.v_BSGK}) {
      at::Tensor target = of.select(0, to).narrow(0, 0, length);
      target.copy_(of.select(0, from).narrow(0, 0, length));
    }
  }
}

}  // namespace cepe
