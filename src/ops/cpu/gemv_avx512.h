// Tiles of a product in AVX-512 with bfloat16 products, where bfloat16_products(): Highway 1.0 has no target with
// `vdpbf16ps`, and no lookup in 32 words, by which 512 weights in 4 bits are some 52 instructions instead of 130.
// Elsewhere nothing of this is called.
#pragma once

#include <cstdint>

#include "ops/cpu/gemv_args.h"

namespace cepe::cpu::avx512 {

// Sums of the 16 rows of the matrix from `first` on, for each row of x: int4 and bfloat16, without bias.
void tile(const Gemv& gemv, const GemvInputs& inputs, int64_t first, float (&sums)[kGemvRows][kTileRows]);

// scale * value + least, (16, inputs).
void widen_tile(const uint8_t* values, const uint16_t* scales, int64_t inputs, uint16_t* out);

}  // namespace cepe::cpu::avx512
