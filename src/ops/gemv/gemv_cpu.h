// The kernels of cpu/gemv.h with their tiles dealt to LibTorch's threads.
#pragma once

#include <cstdint>

#include "ops/cpu/gemv.h"
#include "ops/dispatch.h"

namespace cepe::gemv_cpu {

static_assert(cpu::kGemvRows == dispatch::kGemvRows);
constexpr bool sizes_fit(int64_t outputs, int64_t inputs) {
  return outputs % cpu::kTileRows == 0 && inputs % cpu::kGroup == 0;
}

void gemv(const cpu::Gemv& gemv);

// All tiles of a matrix.
void tile_int4(const cpu::Int4Matrix& matrix, uint8_t* values, uint16_t* scales);

// scale * value + least of all, (outputs, inputs). In bfloat16 only where cpu::bfloat16_products().
struct Int4Tiles {
  const uint8_t* values = nullptr;
  const uint16_t* scales = nullptr;
  int64_t outputs = 0, inputs = 0;
};
void widen_int4(const Int4Tiles& tiles, float* out);
void widen_int4(const Int4Tiles& tiles, uint16_t* out);

}  // namespace cepe::gemv_cpu
