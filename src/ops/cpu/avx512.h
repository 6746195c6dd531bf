// AVX-512 with bfloat16 products. Functions marked CEPE_AVX512 are compiled
// for such a processor whatever the build's own target is: whoever runs one asks bfloat16_products() before
// (targets.h). Sixteen lanes of float32 throughout; bfloat16 stands as its bits.
#pragma once

#if defined(__x86_64__)
#define CEPE_HAS_AVX512 1
#include <immintrin.h>

#include <cstdint>

#define CEPE_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define CEPE_AVX512_INLINE CEPE_AVX512 __attribute__((always_inline)) inline
#define CEPE_AVX512_LAMBDA CEPE_AVX512 __attribute__((always_inline))

namespace cepe::cpu::avx512 {

constexpr int64_t kLanes = 16;

CEPE_AVX512_INLINE __m512 load_float16(const uint16_t* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
CEPE_AVX512_INLINE __m256i narrow(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }
// Sixteen rows of sixteen 32-bit values become columns.
CEPE_AVX512_INLINE void transpose(__m512i (&rows)[16]) {
  __m512i pairs[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; i += 4) {
    const __m512i a = _mm512_unpacklo_epi32(rows[i], rows[i + 1]), b = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    const __m512i c = _mm512_unpacklo_epi32(rows[i + 2], rows[i + 3]);
    const __m512i d = _mm512_unpackhi_epi32(rows[i + 2], rows[i + 3]);
    pairs[i] = _mm512_unpacklo_epi64(a, c), pairs[i + 1] = _mm512_unpackhi_epi64(a, c);
    pairs[i + 2] = _mm512_unpacklo_epi64(b, d), pairs[i + 3] = _mm512_unpackhi_epi64(b, d);
  }
  // pairs[4 i + j] has, in its quarter q, the column 4 q + j of rows 4 i to 4 i + 3.
#pragma GCC unroll 16
  for (int j = 0; j < 4; ++j) {
    const __m512i a = _mm512_shuffle_i32x4(pairs[j], pairs[4 + j], 0x88);
    const __m512i b = _mm512_shuffle_i32x4(pairs[j], pairs[4 + j], 0xdd);
    const __m512i c = _mm512_shuffle_i32x4(pairs[8 + j], pairs[12 + j], 0x88);
    const __m512i d = _mm512_shuffle_i32x4(pairs[8 + j], pairs[12 + j], 0xdd);
    rows[j] = _mm512_shuffle_i32x4(a, c, 0x88), rows[8 + j] = _mm512_shuffle_i32x4(a, c, 0xdd);
    rows[4 + j] = _mm512_shuffle_i32x4(b, d, 0x88), rows[12 + j] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
}

}  // namespace cepe::cpu::avx512
#endif
