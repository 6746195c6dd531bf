// CUDA kernels of GEMVs and skinny GEMMs behind plain structs of pointers: no torch here. bfloat16 in and out, float32
// sums. Asynchronous on the given stream (a cudaStream_t) of the current device; a launch that CUDA refuses throws
// Error. Weights are read before the grid dependency sync: the work before this launch must not have written them.
// Built only with CEPE_CUDA. docs/kernels/gemv.md and skinny_gemm.md derive them.
#pragma once

#include <cstdint>

#include "ops/dispatch.h"

namespace cepe::gemv_kernel {

// What the matrix holds (ops/gemv/quantised_weight.h).
enum class Format {
  bf16,
  int8,  // scales (outputs) float32; inputs a multiple of 16
  fp8,   // e4m3, the same
  int4,  // values (outputs, inputs / 2), scales (outputs, inputs / 32, 2) float16, aligned to 4 bytes; inputs a
         // multiple of 32
};

// out[b, h, o] = sum over i of x[b, h, i] weight[h, o, i], or weight[h, i, o] where transposed. All pointers but
// bias, residual and scales are aligned to 16 bytes; inputs, and outputs where transposed, are multiples of 8. norm,
// bias, residual, gated and the formats but bf16 are for one head, not transposed.
struct Args {
  const void* x = nullptr;       // (rows, heads, inputs)
  Format format = Format::bf16;  // of weight
  const void* scales = nullptr;
  const void* weight = nullptr;  // (heads, outputs, inputs), transposed (heads, inputs, outputs)
  void* out = nullptr;           // (rows, heads, outputs)
  int64_t rows = 0;              // at most kMostRows
  int64_t heads = 1, inputs = 0, outputs = 0;
  bool transposed = false;     // made for few inputs
  const void* norm = nullptr;  // (inputs): x / sqrt(mean(x^2) + eps) * norm is what is multiplied
  float eps = 0;
  const void* bias = nullptr;      // (outputs): added
  const void* residual = nullptr;  // (rows, outputs): added
  bool gated = false;              // outputs 0 .. n and n .. 2 n are gate and up: out (rows, n) = silu(gate) up
  void* parts = nullptr;           // skinny_gemm()'s workspace: tile_part_bytes(args) bytes, aligned to 16
  void* semaphores = nullptr;      // of skinny_gemm(): kMostTiles 32-bit zeros, and zeros again when it has ended
};
constexpr int64_t kMostRows = dispatch::kGemvRows;  // of gemv()
constexpr bool width_fits(int64_t inputs) { return inputs > 0 && inputs % 8 == 0 && inputs <= dispatch::kGemvInputs; }
constexpr bool width_fits(Format format, int64_t inputs) {
  const int64_t piece = format == Format::bf16 ? 8 : format == Format::int4 ? 32 : 16;
  return width_fits(inputs) && inputs % piece == 0;
}
void gemv(const Args& args, void* stream);
void quantised_gemv(const Args& args, void* stream);  // gemv() of the other formats

// Up to kMostTileRows rows of bfloat16: tiles of 128 outputs, divided by Stream-K over all multiprocessors. Without
// norm. inputs is a multiple of 64, outputs (of `out`) of 8, transposed of 64. The same bits in every run.
constexpr int64_t kMostTileRows = dispatch::kSkinnyGemmRows, kMostTiles = dispatch::kSkinnyGemmTiles;
bool tiles_fit(const Args& args);  // whatever x, weight, out, parts and semaphores
int64_t tile_part_bytes(const Args& args);
void skinny_gemm(const Args& args, void* stream);

// int4 (values, scales as above) -> out (outputs, inputs) bfloat16, aligned to 16 bytes
void widen_int4(const void* values, const void* scales, void* out, int64_t weights, void* stream);

}  // namespace cepe::gemv_kernel
