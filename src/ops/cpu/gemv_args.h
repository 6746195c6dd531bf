// What a product of few rows takes (gemv.h), and how its matrix lies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cepe::cpu {

constexpr int64_t kTileRows = 16;  // of the matrix: a tile is computed together
constexpr int64_t kGemvRows = 4;   // of x, at most
constexpr int64_t kGroup = 32;     // inputs of a row that share a scale in 4 bits

enum class MatrixFormat { int4, int8, bfloat16 };

struct Gemv {
  MatrixFormat format = MatrixFormat::int4;
  bool half = false;             // x, out, norm, bias, residual are bfloat16; else float32. Sums are float32
  const void* x = nullptr;       // (rows, inputs)
  const void* values = nullptr;  // (outputs, inputs); int4: tiles, see below
  const void* scales = nullptr;  // int8: float (outputs). int4: tiles. bfloat16: none
  void* out = nullptr;           // (rows, outputs), where gated (rows, outputs / 2)
  int64_t rows = 0, inputs = 0, outputs = 0;
  const void* norm = nullptr;  // (inputs)
  float eps = 0;
  const void* bias = nullptr;      // (outputs)
  const void* residual = nullptr;  // as out; not where gated
  bool gated = false;              // outputs / 2 is a multiple of kTileRows

  int64_t tiles() const { return outputs / kTileRows / (gated ? 2 : 1); }
};

// x as the tiles want it, made once for all of them; keeps its memory from product to product.
struct GemvInputs {
  std::vector<float> wide;       // (rows, inputs), normed
  std::vector<uint16_t> narrow;  // bfloat16 where its products are used: the same rounded
  // int4 and int8: in 16 bits, x = step * whole, a step for each group of each row.
  std::vector<int16_t> whole;
  std::vector<float> steps;
  // int4: of each group the sum of x, and 8 times that of whole.
  std::vector<float> sums;
  std::vector<int32_t> eights;

  void make_room_in_16_bits(int64_t numbers) {
    const auto groups = static_cast<std::size_t>(numbers / kGroup);
    whole.resize(static_cast<std::size_t>(numbers)), steps.resize(groups), sums.resize(groups), eights.resize(groups);
  }
};

// Weights in 4 bits as the product reads them, from first to last byte: for each 16 rows of the matrix, for each group
// of 32 inputs, 256 bytes of values; and beside them 16 scales and 16 least values in float16. The lanes of a register
// are rows of the matrix, so that no sum across lanes is left at the end, and a group's scales are one load. 64 of the
// 256 bytes hold 8 inputs: 16 bits for each row and parity, whose nibbles, lowest first, are the inputs 0, 2, 4, 6 (or
// 1, 3, 5, 7) of the 8. Shifted by 0, 4, 8 and 12 bits they are indices into a register of the 16 values in bfloat16,
// and two neighbours lie in one lane, where a bfloat16 product wants them.
constexpr int64_t kGroupBytes = kTileRows * kGroup / 2;  // of a tile's values
constexpr int64_t kGroupScales = 2 * kTileRows;          // and of its scales and least values

}  // namespace cepe::cpu
