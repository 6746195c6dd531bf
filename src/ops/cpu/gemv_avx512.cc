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

template <int kRows>
CEPE_AVX512_INLINE void add_pair(__m512i weights, const uint16_t* x, int64_t stride, __m512 (&sum)[kRows]) {
  for (int r = 0; r < kRows; ++r) {
    const __m512i both = _mm512_set1_epi32(*reinterpret_cast<const int*>(x + r * stride));
    sum[r] = _mm512_dpbf16_ps(sum[r], (__m512bh)weights, (__m512bh)both);
  }
}

// x times the 16 rows of the matrix from `first` on; lanes are those.
template <int kRows>
CEPE_AVX512_INLINE void int4_tile(const Gemv& gemv, const GemvInputs& inputs, int64_t first, __m512 (&sum)[kRows]) {
  const int64_t groups = gemv.inputs / kGroup, stride = gemv.inputs;
  const uint8_t* values = static_cast<const uint8_t*>(gemv.values) + first * gemv.inputs / 2;
  const uint16_t* scales = static_cast<const uint16_t*>(gemv.scales) + first * groups * 2;
  const uint16_t* x = inputs.narrow.data();
  const __m512i table = values_of_codes();
  for (int r = 0; r < kRows; ++r) sum[r] = _mm512_setzero_ps();
  for (int64_t group = 0; group < groups; ++group, values += kGroupBytes, scales += kGroupScales) {
    for (int64_t line = 0; line < kGroupBytes; line += 64) ask_for(values + kAhead + line);
    ask_for(scales + kAhead / 8);
    __m512 even[kRows], odd[kRows];  // two chains of additions instead of one twice as long
    for (int r = 0; r < kRows; ++r) even[r] = odd[r] = _mm512_setzero_ps();
#pragma GCC unroll 4
    for (int64_t line = 0; line < kGroupBytes; line += 64, x += 8) {
      const __m512i words = _mm512_loadu_si512(values + line);
      add_pair(pair_of<0>(words, table), x, stride, even);
      add_pair(pair_of<1>(words, table), x + 2, stride, odd);
      add_pair(pair_of<2>(words, table), x + 4, stride, even);
      add_pair(pair_of<3>(words, table), x + 6, stride, odd);
    }
    const __m512 scale = load_float16(scales), least = load_float16(scales + kTileRows);
    for (int r = 0; r < kRows; ++r) {
      sum[r] = _mm512_fmadd_ps(scale, _mm512_add_ps(even[r], odd[r]), sum[r]);
      sum[r] = _mm512_fmadd_ps(least, _mm512_set1_ps(inputs.sums[r * groups + group]), sum[r]);
    }
  }
}

// x times 16 rows that lie one after another: lanes are inputs, and are added up at the end. add(row,
// input, sums) takes in kStep inputs of a row from one on.
template <int kRows, int kStep, typename Add>
CEPE_AVX512_INLINE void rows_tile(int64_t inputs, Add add, __m512 (&sum)[kRows]) {
  constexpr int kAtOnce = 4;
  alignas(64) float dots[kRows][kTileRows];
  for (int row = 0; row < kTileRows; row += kAtOnce) {
    __m512 dot[kAtOnce][kRows];
    for (auto& lanes : dot) {
      for (__m512& lane : lanes) lane = _mm512_setzero_ps();
    }
    for (int64_t i = 0; i < inputs; i += kStep) {
#pragma GCC unroll 4
      for (int k = 0; k < kAtOnce; ++k) add(row + k, i, dot[k]);
    }
    for (int k = 0; k < kAtOnce; ++k) {
      for (int r = 0; r < kRows; ++r) dots[r][row + k] = _mm512_reduce_add_ps(dot[k][r]);
    }
  }
  for (int r = 0; r < kRows; ++r) sum[r] = _mm512_load_ps(dots[r]);
}

template <int kRows>
CEPE_AVX512_INLINE void bfloat16_tile(const Gemv& gemv, const GemvInputs& inputs, int64_t first, __m512 (&sum)[kRows]) {
  const int64_t stride = gemv.inputs;
  const uint16_t* const values = static_cast<const uint16_t*>(gemv.values) + first * stride;
  const uint16_t* const x = inputs.narrow.data();
  const auto add = [=](int row, int64_t i, __m512(&dot)[kRows]) CEPE_AVX512_LAMBDA {
    const uint16_t* const at = values + row * stride + i;
    ask_for(at + kAhead / 2);
    const __m512bh weights = (__m512bh)_mm512_loadu_si512(at);
    for (int r = 0; r < kRows; ++r) {
      dot[r] = _mm512_dpbf16_ps(dot[r], weights, (__m512bh)_mm512_loadu_si512(x + r * stride + i));
    }
  };
  rows_tile<kRows, 2 * kLanes>(stride, add, sum);
}

template <int kRows>
CEPE_AVX512 void multiply(const Gemv& gemv, const GemvInputs& inputs, int64_t first,
                          float (&sums)[kGemvRows][kTileRows]) {
  __m512 sum[kRows];
  gemv.format == MatrixFormat::int4 ? int4_tile(gemv, inputs, first, sum) : bfloat16_tile(gemv, inputs, first, sum);
  for (int r = 0; r < kRows; ++r) _mm512_storeu_ps(sums[r], sum[r]);
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
