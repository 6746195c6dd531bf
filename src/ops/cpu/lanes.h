// Vectors of sixteen floats for the CPU kernels of attention: plain C++ that is inlined whole into one copy for each
// instruction set. A vector is one AVX-512 register or several smaller ones.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include "ops/cpu/exponential.h"

#define CEPE_INLINE inline __attribute__((always_inline))

namespace cepe::lanes {

constexpr int64_t kLanes = 16;
constexpr float kNone = -std::numeric_limits<float>::infinity();  // the score of what is not there

using Vector = float __attribute__((vector_size(64), aligned(4)));
using Bits = uint32_t __attribute__((vector_size(64)));
using Halves = uint16_t __attribute__((vector_size(32), aligned(2)));

CEPE_INLINE Vector load(const float* p) { return *reinterpret_cast<const Vector*>(p); }
CEPE_INLINE Vector load(const uint16_t* p) {  // bfloat16: the upper half of a float32
  return std::bit_cast<Vector>(__builtin_convertvector(*reinterpret_cast<const Halves*>(p), Bits) << 16);
}
CEPE_INLINE void store(float* p, Vector x) { *reinterpret_cast<Vector*>(p) = x; }

// The sum of the lanes, in pairs: four additions one after another where lane by lane would take sixteen.
CEPE_INLINE float lane_sum(Vector x) {
  x += __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
  x += __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
  x += __builtin_shufflevector(x, x, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  x += __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
  return x[0];
}

// The largest lane that is a number, or `least` where none is larger.
CEPE_INLINE float lane_max(Vector x, float least) {
  for (int64_t lane = 0; lane < kLanes; ++lane) least = x[lane] > least ? x[lane] : least;
  return least;
}

// e^(x - shift) for x <= shift, 0 for x = -infinity. Not-a-number stays.
CEPE_INLINE Vector exp_below(Vector x, float shift) { return x == kNone ? Vector{} : exponential<Bits>(x - shift); }

// One row of a softmax that is read block by block: scores p[0 .. count) become exp(score - highest); highest and total
// (the sum of these) take the block in. count is a multiple of kLanes. -> the factor for what was read before.
CEPE_INLINE float weigh(float* p, int64_t count, float& highest, float& total) {
  Vector most = load(p);
  for (int64_t n = kLanes; n < count; n += kLanes) {
    const Vector x = load(p + n);
    most = x > most ? x : most;
  }
  const float now = lane_max(most, highest);
  const float shift = now == kNone ? 0.0f : now;  // nothing real so far: all stays as it is
  Vector sum = {};
  for (int64_t n = 0; n < count; n += kLanes) {
    const Vector e = exp_below(load(p + n), shift);
    store(p + n, e);
    sum += e;
  }
  const float factor = highest == now ? 1.0f : exp_below(Vector{} + highest, shift)[0];
  total = total * factor + lane_sum(sum);
  highest = now;
  return factor;
}

}  // namespace cepe::lanes
