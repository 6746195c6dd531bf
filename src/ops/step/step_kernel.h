// CUDA kernels of a decoding step, one token for each sequence of a batch, as raw pointers and plain structs: no torch
// here. bfloat16 in and out, float32 inside. Each launch is asynchronous on the given stream (a cudaStream_t) of the
// current device; a launch that CUDA refuses throws Error. All sizes that change from step to step are read on the
// device, so that a captured launch stays valid. Built only with CEPE_CUDA. docs/kernels/step_attention.md derives
// them.
#pragma once

#include <cstdint>

#include "ops/dispatch.h"

namespace cepe::step_kernel {

// Self-attention of one token a sequence: its queries and key are normalised (where there are norms) and rotated, key
// and value go into the cache at the token's position, and the queries read the cache up to and including it.
struct AttentionArgs {
  const void* qkv;   // (batch, (heads + 2 kv_heads) * head_size): queries, keys, values
  const float* cos;  // (at least capacity, head_size / 2)
  const float* sin;
  const int64_t* positions;  // (batch). A sequence whose position is not inside the cache gives not-a-number.
  const void* q_norm;        // (head_size), weights of a norm over each head before it is rotated; or null
  const void* k_norm;
  void* k_cache;  // (batch, capacity, kv_heads, head_size)
  void* v_cache;
  void* out;  // (batch, heads * head_size)
  int64_t batch, capacity, heads, kv_heads, head_size;
  float eps;  // of the norms
};
// Each half of a head is a whole number of 16-byte vectors. All pointers are aligned to 16 bytes.
constexpr bool head_size_fits(int64_t size) { return size > 0 && size % 16 == 0 && size <= dispatch::kStepHeadSize; }
void attention(const AttentionArgs& args, void* stream);

// out[row, i] = silu(gate_up[row, i]) * gate_up[row, width + i]. width is a multiple of 8; pointers are aligned to 16
// bytes.
struct SwigluArgs {
  const void* gate_up;  // (rows, 2 width)
  void* out;            // (rows, width)
  int64_t rows, width;
};
void swiglu(const SwigluArgs& args, void* stream);

}  // namespace cepe::step_kernel
