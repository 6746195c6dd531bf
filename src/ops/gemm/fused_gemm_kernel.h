// Products of many rows that take in what follows them, as a CUDA kernel: silu(gate) * up, and rotary positions. Raw
// pointers and plain structs, no torch. bfloat16 in and out, float32 inside: what is multiplied or turned was not
// rounded before. Launches are asynchronous on the given stream (a cudaStream_t) of the current device; a launch that
// CUDA refuses throws Error. Results are the same bits in every run. Built only with CEPE_CUDA, for Hopper.
// docs/kernels/fused_gemm.md derives the kernel.
#pragma once

#include <cstdint>

namespace cepe::fused_gemm_kernel {

// out = silu(x gate^T) * (x up^T)
struct SwigluArgs {
  const void* x;     // (rows, inputs)
  const void* gate;  // (outputs, inputs)
  const void* up;    // (outputs, inputs)
  void* out;         // (rows, outputs)
  int64_t rows, inputs, outputs;
};
// inputs: a multiple of 64; outputs: of 128. All pointers are aligned to 16 bytes, all arrays contiguous.
bool fits(const SwigluArgs& args);
// Whether it was measured to be faster than the products and what follows one after another: where its tiles fill the
// multiprocessors evenly.
bool pays(const SwigluArgs& args);
void swiglu_gemm(const SwigluArgs& args, void* stream);

// out = (x q^T, x k^T, x v^T) side by side in each row, where heads of q and k are turned: the two halves (a, b) of a
// head become (a cos - b sin, b cos + a sin), row r standing at position first + r % tokens.
struct RotaryArgs {
  const void* x;                  // (rows, inputs)
  const void *q, *k, *v;          // (outputs of each, inputs)
  int64_t q_outputs, kv_outputs;  // kv_outputs: of k, and of v
  const float *cos, *sin;         // (positions, head_size / 2)
  void* out;                      // (rows, q_outputs + 2 kv_outputs)
  int64_t rows, inputs, head_size, tokens, first;
};
// As above; heads of 64 or 128, outputs of each matrix a multiple of 128, of all together of 256.
bool fits(const RotaryArgs& args);
bool pays(const RotaryArgs& args);
void rotary_gemm(const RotaryArgs& args, void* stream);

}  // namespace cepe::fused_gemm_kernel
