// What AVX-512 does with numbers in bfloat16, where bfloat16_products(): Highway 1.0 has no target with `vdpbf16ps` and
// `vcvtneps2bf16`. Elsewhere nothing of this is called.
#pragma once

#include <cstdint>

#include "ops/cpu/gemv_args.h"

namespace cepe::cpu::avx512 {

// Sums of the 16 rows of a bfloat16 matrix from `first` on, for each row of x, without bias.
void tile(const Gemv& gemv, const GemvInputs& inputs, int64_t first, float (&sums)[kGemvRows][kTileRows]);

// A tile in 4 bits: scale * value + least, (16, inputs).
void widen_tile(const uint8_t* values, const uint16_t* scales, int64_t inputs, uint16_t* out);

}  // namespace cepe::cpu::avx512
