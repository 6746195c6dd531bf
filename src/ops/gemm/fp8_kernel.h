// The CUDA kernel behind fp8.h, as raw pointers and a plain struct, in the manner of elementwise_kernel.h.
#pragma once

#include <cstdint>

#include "ops/dispatch.h"

namespace cepe::fused {

// The widths that the kernel takes: a row lives in the registers of one warp or one block.
constexpr bool fp8_width_fits(int64_t width) { return width > 0 && width % 8 == 0 && width <= dispatch::kFp8Width; }

// values = e4m3(s * (448 / max |s|)), scales = max |s| / 448 for each of `rows` contiguous rows, where s = x, or
// silu(gate) * x in float32 when a gate is given. Each input is read once. x and gate are aligned to 16 bytes.
struct Fp8RowsArgs {
  const void* x;     // (rows, width) bfloat16
  const void* gate;  // (rows, width) bfloat16, or null
  void* values;      // (rows, width) e4m3, aligned to 8 bytes
  float* scales;     // (rows)
  int64_t rows, width;
};
void fp8_rows(const Fp8RowsArgs& args, void* stream);

}  // namespace cepe::fused
