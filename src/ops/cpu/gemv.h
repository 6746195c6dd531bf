// Products of up to four rows with a matrix in bfloat16, 8 or 4 bits: the kernels of a CPU, as raw pointers and plain
// structs. With a matrix in 8 or 4 bits x is rounded for the product to 16 bits with a step for each group of 32
// inputs; with one in bfloat16 to bfloat16, where bfloat16_products(). What stands before a product (the norm) and
// after it (bias, SwiGLU or the residual addition) is part of the pass; ops/gemv/gemv.h says what each means. Whoever
// calls deals tiles to threads. Nothing here sees LibTorch.
#pragma once

#include <cstdint>

#include "ops/cpu/gemv_args.h"

namespace cepe::cpu {

void prepare(const Gemv& gemv, GemvInputs& inputs);

// x's groups `begin` to `end` in 16 bits: whole, steps, sums and eights, which have their sizes.
void round_groups(const float* x, GemvInputs& made, int64_t begin, int64_t end);

// Tiles `begin` to `end` of the result.
void multiply_tiles(const Gemv& gemv, const GemvInputs& inputs, int64_t begin, int64_t end);

// Into the order of gemv_args.h.
struct Int4Matrix {
  const uint8_t* codes = nullptr;    // (outputs, inputs), 0 .. 15
  const uint16_t* scales = nullptr;  // (outputs, inputs / 32, 2) float16: scale, least
  int64_t outputs = 0, inputs = 0;
};
// The tiles `begin` to `end`.
void tile_int4(const Int4Matrix& matrix, uint8_t* values, uint16_t* scales, int64_t begin, int64_t end);

// One tile: scale * value + least of 16 rows, (16, inputs). In bfloat16 only where bfloat16_products().
void widen_int4_tile(const uint8_t* values, const uint16_t* scales, int64_t inputs, float* out);
void widen_int4_tile(const uint8_t* values, const uint16_t* scales, int64_t inputs, uint16_t* out);

}  // namespace cepe::cpu
