#include "ops/gemv/gemv_cpu.h"

#include <ATen/Parallel.h>

namespace cepe::gemv_cpu {
namespace {

template <class Element>
void widen(const Int4Tiles& tiles, Element* out) {
  const int64_t inputs = tiles.inputs;
  at::parallel_for(0, tiles.outputs / cpu::kTileRows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin * cpu::kTileRows; first < end * cpu::kTileRows; first += cpu::kTileRows) {
      cpu::widen_int4_tile(tiles.values + first * inputs / 2, tiles.scales + first * inputs / cpu::kGroup * 2, inputs,
                           out + first * inputs);
    }
  });
}

}  // namespace

void gemv(const cpu::Gemv& gemv) {
  static thread_local cpu::GemvInputs kept;  // keeps its memory from product to product
  const cpu::GemvInputs& inputs = kept;
  cpu::prepare(gemv, kept);
  at::parallel_for(0, gemv.tiles(), 1,
                   [&](int64_t begin, int64_t end) { cpu::multiply_tiles(gemv, inputs, begin, end); });
}

void tile_int4(const cpu::Int4Matrix& matrix, uint8_t* values, uint16_t* scales) {
  at::parallel_for(0, matrix.outputs / cpu::kTileRows, 1,
                   [=](int64_t begin, int64_t end) { cpu::tile_int4(matrix, values, scales, begin, end); });
}

void widen_int4(const Int4Tiles& tiles, float* out) { widen(tiles, out); }
void widen_int4(const Int4Tiles& tiles, uint16_t* out) { widen(tiles, out); }

}  // namespace cepe::gemv_cpu
