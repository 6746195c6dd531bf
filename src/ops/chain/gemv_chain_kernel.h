// The persistent CUDA kernel of a GEMV chain behind plain structs of pointers: no torch here. bfloat16 in and out,
// float32 sums. Asynchronous on the given stream (a cudaStream_t) of the current device; a launch that CUDA refuses
// throws Error. Results do not depend on the order in which blocks run. Weights are read before the grid dependency
// sync: nothing that may still run on the stream may write them. Built only with CEPE_CUDA. docs/kernels/gemv_chain.md
// derives it.
#pragma once

#include <cstdint>

#include "ops/dispatch.h"

namespace cepe::gemv_chain_kernel {

// out[b, h, g, o] = sum over i of x[b, h, g, i] weight[h, o, i], or weight[h, i, o] where transposed, with a fused
// prologue (norm) and epilogue (bias, residual, SwiGLU). A column is one of the rows x group vectors that a head's
// matrix is multiplied with. All pointers are aligned to 16 bytes.
struct Product {
  const void* x = nullptr;       // (rows, heads, group, inputs)
  const void* weight = nullptr;  // (heads, outputs, inputs), transposed (heads, inputs, outputs)
  void* out = nullptr;           // (rows, heads, group, outputs)
  int64_t heads = 1, group = 1, inputs = 0, outputs = 0;
  bool transposed = false;
  // Of one head that is not transposed:
  const void* norm = nullptr;  // (inputs): x / sqrt(mean(x^2) + eps) * norm is what is multiplied
  float eps = 0;
  const void* bias = nullptr;      // (outputs): added
  const void* residual = nullptr;  // (rows, outputs): added
  bool gated = false;              // outputs 0 .. n and n .. 2 n are gate and up: out (rows, n) = silu(gate) up
};

// Products in their order. A product may read the output of an earlier one as x or residual, whole and in the same
// order. CTAs do not synchronise beyond that: no two products write the same memory, and no product writes memory that
// it or an earlier product reads.
constexpr int kMostProducts = 8;
struct Args {
  Product products[kMostProducts];
  int count = 0;
  int64_t rows = 0;
  // At least workspace_bytes(args), aligned to 128 bytes; before the first launch all zeros but for a 1 in the first 32
  // bits (the epoch). Launches that share it are ordered on one stream. Nothing else may write there.
  void* workspace = nullptr;
};
constexpr int64_t kMostColumns = dispatch::kChainColumns;  // rows x group

// Whether the kernel supports these sizes on the current device. Pointers are ignored.
bool fits(const Args& args);
int64_t workspace_bytes(const Args& args);

// Every multiprocessor runs one CTA, and CTAs wait for each other's outputs. Only one launch may run on a device at a
// time, whatever stream, thread or process starts it: two launches would each hold multiprocessors that the other
// needs, and deadlock.
void run(const Args& args, void* stream);

}  // namespace cepe::gemv_chain_kernel
