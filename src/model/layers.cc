#include "model/layers.h"

#include <ATen/ATen.h>

#include "ops/gemv/gemv.h"

namespace cepe {

at::Tensor Linear::operator()(const at::Tensor& x) const { return gemv(x, *this, {.bias = bias}); }

KeyValueCache make_cache(const Stack& stack, int64_t batch, int64_t capacity) {
  KeyValueCache cache;
  cache.capacity = capacity;
  const auto shape = {batch, capacity, stack.config.num_kv_heads, stack.config.head_dim};
  for (int64_t i = 0; i < stack.config.num_layers; ++i) {
    cache.layers.push_back({at::empty(shape, stack.norm.options()), at::empty(shape, stack.norm.options())});
  }
  return cache;
}

}  // namespace cepe
