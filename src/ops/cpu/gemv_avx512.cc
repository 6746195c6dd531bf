#include "ops/cpu/gemv_avx512.h"

#include "ops/cpu/avx512.h"

namespace cepe::cpu::avx512 {

#ifdef CEPE_HAS_AVX512
namespace {

// How far ahead of the arithmetic weights are asked for: the processor's own prefetching stops at pages of 4 KB. With
// 4 KB ahead a head of 49,152 rows of 576 took 1.7 ms on 2 cores instead of 2.2.
constexpr int64_t kAhead = 4096;

CEPE_AVX512_INLINE void ask_for(const void* address) { _mm_prefetch(static_cast<const char*>(address), _MM_HINT_T0); }

// Values in bfloat16 by the low 4 bits of an index; the fifth, which is the next nibble's, makes no difference.
CEPE_AVX512_INLINE __m512i values_of_codes() {
  const __m512i integers = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  return _mm512_broadcast_i64x4(narrow(_mm512_cvtepi32_ps(integers)));
}

// The widened values of two neighbouring inputs, of 16 rows of the matrix. words: 64 bytes of a tile.
template <int kPair>
CEPE_AVX512_INLINE __m512i pair_of(__m512i words, __m512i values) {
  return _mm512_permutexvar_epi16(kPair == 0 ? words : _mm512_srli_epi16(words, 4 * kPair), values);
}

// x times 16 rows that lie one after another: lanes are inputs, and are added up at the end.
template <int kRows>
CEPE_AVX512 void multiply(const Gemv& gemv, const GemvInputs& inputs, int64_t first,
                          float (&sums)[kGemvRows][kTileRows]) {
  constexpr int kAtOnce = 4;
  const int64_t stride = gemv.inputs;
  const uint16_t* values = static_cast<const uint16_t*>(gemv.values) + first * stride;
  const uint16_t* const x = inputs.narrow.data();
  for (int row = 0; row < kTileRows; row += kAtOnce, values += kAtOnce * stride) {
    __m512 dot[kAtOnce][kRows];
    for (auto& lanes : dot) {
      for (__m512& lane : lanes) lane = _mm512_setzero_ps();
    }
    for (int64_t i = 0; i < stride; i += 2 * kLanes) {
#pragma GCC unroll 4
      for (int k = 0; k < kAtOnce; ++k) {
        const uint16_t* const at = values + k * stride + i;
        ask_for(at + kAhead / 2);
        const __m512bh weights = (__m512bh)_mm512_loadu_si512(at);
        for (int r = 0; r < kRows; ++r) {
          dot[k][r] = _mm512_dpbf16_ps(dot[k][r], weights, (__m512bh)_mm512_loadu_si512(x + r * stride + i));
        }
      }
    }
    for (int k = 0; k < kAtOnce; ++k) {
      for (int r = 0; r < kRows; ++r) sums[r][row + k] = _mm512_reduce_add_ps(dot[k][r]);
    }
  }
}

// A group of a tile: 16 rows of 32 widened values, rows `stride` numbers apart.
CEPE_AVX512_INLINE void widen_group(const uint8_t* values, const uint16_t* scales, int64_t stride, uint16_t* out) {
  const __m512i table = values_of_codes(), high = _mm512_set1_epi32(static_cast<int>(0xffff0000));
  const __m512 scale = load_float16(scales), least = load_float16(scales + kTileRows);
  const auto widened = [&](__m512i pair) CEPE_AVX512 {
    const __m512 left = _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16));
    const __m512 right = _mm512_castsi512_ps(_mm512_and_si512(pair, high));
    const __m512i low = _mm512_cvtepu16_epi32(narrow(_mm512_fmadd_ps(left, scale, least)));
    const __m512i up = _mm512_cvtepu16_epi32(narrow(_mm512_fmadd_ps(right, scale, least)));
    return _mm512_or_si512(low, _mm512_slli_epi32(up, 16));
  };
  __m512i pairs[16];
#pragma GCC unroll 4
  for (int line = 0; line < 4; ++line) {
    const __m512i words = _mm512_loadu_si512(values + 64 * line);
    pairs[4 * line] = widened(pair_of<0>(words, table)), pairs[4 * line + 1] = widened(pair_of<1>(words, table));
    pairs[4 * line + 2] = widened(pair_of<2>(words, table)), pairs[4 * line + 3] = widened(pair_of<3>(words, table));
  }
  transpose(pairs);
  for (int row = 0; row < 16; ++row) _mm512_storeu_si512(out + row * stride, pairs[row]);
}

CEPE_AVX512 void widen_groups(const uint8_t* values, const uint16_t* scales, int64_t inputs, uint16_t* out) {
  for (int64_t group = 0; group < inputs / kGroup; ++group) {
    widen_group(values + group * kGroupBytes, scales + group * kGroupScales, inputs, out + group * kGroup);
  }
}

}  // namespace

void tile(const Gemv& gemv, const GemvInputs& inputs, int64_t first, float (&sums)[kGemvRows][kTileRows]) {
  switch (gemv.rows) {
    case 1: return multiply<1>(gemv, inputs, first, sums);
    case 2: return multiply<2>(gemv, inputs, first, sums);
    case 3: return multiply<3>(gemv, inputs, first, sums);
    default: return multiply<4>(gemv, inputs, first, sums);
  }
}

void widen_tile(const uint8_t* values, const uint16_t* scales, int64_t inputs, uint16_t* out) {
  widen_groups(values, scales, inputs, out);
}
#else
void tile(const Gemv&, const GemvInputs&, int64_t, float (&)[kGemvRows][kTileRows]) {}
void widen_tile(const uint8_t*, const uint16_t*, int64_t, uint16_t*) {}
#endif

}  // namespace cepe::cpu::avx512
