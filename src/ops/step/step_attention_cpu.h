// A decoding step's self-attention (step_ops.h) on a CPU with AVX-512 and its bfloat16 products, as raw pointers and
// plain structs. bfloat16 in and out, float32 inside. Needs cpu::bfloat16_products().
#pragma once

#include <cstdint>

#include "ops/dispatch.h"

namespace cepe::step_attention_cpu {

constexpr int64_t kMostHeadSize = dispatch::kStepHeadSize;
constexpr bool head_size_fits(int64_t head_size) {
  return head_size % 32 == 0 && head_size > 0 && head_size <= kMostHeadSize;
}

struct Args {
  const uint16_t* qkv = nullptr;  // (batch, (heads + 2 kv_heads) head_size)
  const float* cos = nullptr;     // (positions, head_size / 2)
  const float* sin = nullptr;
  const int64_t* positions = nullptr;  // (batch), each less than capacity
  const uint16_t* q_norm = nullptr;    // (head_size), or null: none
  const uint16_t* k_norm = nullptr;
  uint16_t* k_cache = nullptr;  // (batch, capacity, kv_heads, head_size)
  uint16_t* v_cache = nullptr;
  uint16_t* out = nullptr;  // (batch, heads head_size)
  int64_t batch = 0, capacity = 0, heads = 0, kv_heads = 0, head_size = 0;
  float eps = 0;
};
void attention(const Args& args);

}  // namespace cepe::step_attention_cpu
