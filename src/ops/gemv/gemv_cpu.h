// Products of up to four rows with a matrix in bfloat16, 8 or 4 bits, on a CPU with AVX-512 and its bfloat16 products,
// as raw pointers and plain structs. The norm before a product, and bias, SwiGLU or the residual addition after it, are
// part of the pass (gemv.h says what each means). bfloat16 in and out, float32 inside. Elsewhere available() is
// false and nothing else may be called.
#pragma once

#include <cstdint>

#include "ops/dispatch.h"

namespace cepe::gemv_cpu {

// Whether this processor can, and LibTorch was not told to leave AVX-512 alone (ATEN_CPU_CAPABILITY).
bool available();

constexpr int64_t kTileRows = 16;                   // of the matrix: a tile is computed together
constexpr int64_t kMostRows = dispatch::kGemvRows;  // of x
constexpr bool sizes_fit(int64_t outputs, int64_t inputs) { return outputs % kTileRows == 0 && inputs % 32 == 0; }

enum class Format { int4, int8, bfloat16 };

struct Args {
  Format format = Format::int4;
  const uint16_t* x = nullptr;   // (rows, inputs)
  const void* values = nullptr;  // (outputs, inputs); int4: tiles, see tile_int4()
  const void* scales = nullptr;  // int8: float (outputs). int4: tiles. bfloat16: none
  uint16_t* out = nullptr;       // (rows, outputs), where gated (rows, outputs / 2)
  int64_t rows = 0, inputs = 0, outputs = 0;
  const uint16_t* norm = nullptr;  // (inputs)
  float eps = 0;
  const uint16_t* bias = nullptr;      // (outputs)
  const uint16_t* residual = nullptr;  // as out; not where gated
  bool gated = false;                  // outputs / 2 is a multiple of kTileRows
};
void gemv(const Args& args);

// Weights in 4 bits as the product reads them, from first to last byte: for each 16 rows of the matrix, for each group
// of 32 inputs, 256 bytes of values; and beside them 16 scales and 16 zeros. The lanes of a register are rows of the
// matrix, so that no sum across lanes is left at the end, and a group's scales are one load. 64 of the 256 bytes hold 8
// inputs: 16 bits for each row and parity, whose nibbles, lowest first, are the inputs 0, 2, 4, 6 (or 1, 3, 5, 7) of
// the 8. Shifted by 0, 4, 8 and 12 bits they are indices into a register of the 16 values in bfloat16, and two
// neighbours lie in one lane, where a bfloat16 product wants them.
struct Int4Matrix {
  const uint8_t* codes = nullptr;        // (outputs, inputs), 0 .. 15
  const uint16_t* scale_zero = nullptr;  // (outputs, inputs / 32, 2) bfloat16
  int64_t outputs = 0, inputs = 0;
};
void tile_int4(const Int4Matrix& matrix, uint8_t* values, uint16_t* scales);

// (value - 8) * scale + zero of all, (outputs, inputs) bfloat16.
void widen_int4(const uint8_t* values, const uint16_t* scales, int64_t outputs, int64_t inputs, uint16_t* out);

}  // namespace cepe::gemv_cpu
