#include "ops/gemv/gemv_cpu.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "ops/cpu/avx512.h"

namespace cepe::gemv_cpu {
namespace {

constexpr int64_t kGroup = 32;                           // inputs that share a scale
constexpr int64_t kGroupBytes = kTileRows * kGroup / 2;  // of a tile's values
constexpr int64_t kGroupScales = 2 * kTileRows;          // and of its scales and zeros

#ifdef CEPE_HAS_AVX512
using namespace avx512;

// How far ahead of the arithmetic weights are asked for: the processor's own prefetching stops at pages of 4 KB. With
// 4 KB ahead a head of 49,152 rows of 576 took 1.7 ms on 2 cores instead of 2.2.
constexpr int64_t kAhead = 4096;

CEPE_AVX512_INLINE void ask_for(const void* address) { _mm_prefetch(static_cast<const char*>(address), _MM_HINT_T0); }

// x as the tiles want it, made once for all of them.
struct Inputs {
  std::vector<uint16_t> narrow;  // (rows, inputs)
  std::vector<float> wide;       // int8: the same
  std::vector<float> sums;       // int4: (rows, groups), what a group's zero is multiplied with
};

CEPE_AVX512 void norm_row(const uint16_t* x, const Args& args, uint16_t* out) {
  __m512 squares = _mm512_setzero_ps();
  for (int64_t i = 0; i < args.inputs; i += kLanes) squares = _mm512_fmadd_ps(load(x + i), load(x + i), squares);
  const float mean = _mm512_reduce_add_ps(squares) / static_cast<float>(args.inputs);
  const __m512 scale = _mm512_set1_ps(1 / std::sqrt(mean + args.eps));
  for (int64_t i = 0; i < args.inputs; i += kLanes) {
    store(out + i, _mm512_mul_ps(_mm512_mul_ps(load(x + i), scale), load(args.norm + i)));
  }
}

CEPE_AVX512 void prepare(const Args& args, Inputs& made) {
  const int64_t numbers = args.rows * args.inputs;
  made.narrow.resize(numbers);
  for (int64_t row = 0; row < args.rows; ++row) {
    const uint16_t* const x = args.x + row * args.inputs;
    uint16_t* const to = made.narrow.data() + row * args.inputs;
    args.norm ? norm_row(x, args, to) : static_cast<void>(std::copy_n(x, args.inputs, to));
  }
  if (args.format == Format::int8) {
    made.wide.resize(numbers);
    for (int64_t i = 0; i < numbers; i += kLanes) _mm512_storeu_ps(made.wide.data() + i, load(made.narrow.data() + i));
    return;
  }
  if (args.format != Format::int4) return;
  made.sums.resize(numbers / kGroup);
  for (int64_t group = 0; group < numbers / kGroup; ++group) {
    const uint16_t* const x = made.narrow.data() + group * kGroup;
    made.sums[group] = _mm512_reduce_add_ps(_mm512_add_ps(load(x), load(x + kLanes)));
  }
}

// value - 8 in bfloat16 by the low 4 bits of an index; the fifth, which is the next nibble's, makes no difference.
CEPE_AVX512_INLINE __m512i values_of_codes() {
  const __m512i integers =
      _mm512_sub_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), _mm512_set1_epi32(8));
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
CEPE_AVX512_INLINE void int4_tile(const Args& args, const Inputs& inputs, int64_t first, __m512 (&sum)[kRows]) {
  const int64_t groups = args.inputs / kGroup, stride = args.inputs;
  const uint8_t* values = static_cast<const uint8_t*>(args.values) + first * args.inputs / 2;
  const uint16_t* scales = static_cast<const uint16_t*>(args.scales) + first * groups * 2;
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
    const __m512 scale = load(scales), zero = load(scales + kTileRows);
    for (int r = 0; r < kRows; ++r) {
      sum[r] = _mm512_fmadd_ps(scale, _mm512_add_ps(even[r], odd[r]), sum[r]);
      sum[r] = _mm512_fmadd_ps(zero, _mm512_set1_ps(inputs.sums[r * groups + group]), sum[r]);
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
CEPE_AVX512_INLINE void int8_tile(const Args& args, const Inputs& inputs, int64_t first, __m512 (&sum)[kRows]) {
  const int64_t stride = args.inputs;
  const int8_t* const values = static_cast<const int8_t*>(args.values) + first * stride;
  const float* const x = inputs.wide.data();
  const auto add = [=](int row, int64_t i, __m512(&dot)[kRows]) CEPE_AVX512_LAMBDA {
    const int8_t* const at = values + row * stride + i;
    ask_for(at + kAhead);
    const __m512i integers = _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
    const __m512 weights = _mm512_cvtepi32_ps(integers);
    for (int r = 0; r < kRows; ++r) dot[r] = _mm512_fmadd_ps(weights, _mm512_loadu_ps(x + r * stride + i), dot[r]);
  };
  rows_tile<kRows, kLanes>(stride, add, sum);
  const __m512 scales = _mm512_loadu_ps(static_cast<const float*>(args.scales) + first);
  for (int r = 0; r < kRows; ++r) sum[r] = _mm512_mul_ps(sum[r], scales);
}

template <int kRows>
CEPE_AVX512_INLINE void bfloat16_tile(const Args& args, const Inputs& inputs, int64_t first, __m512 (&sum)[kRows]) {
  const int64_t stride = args.inputs;
  const uint16_t* const values = static_cast<const uint16_t*>(args.values) + first * stride;
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
CEPE_AVX512_INLINE void tile(const Args& args, const Inputs& inputs, int64_t first, __m512 (&sum)[kRows]) {
  switch (args.format) {
    case Format::int4: int4_tile(args, inputs, first, sum); break;
    case Format::int8: int8_tile(args, inputs, first, sum); break;
    case Format::bfloat16: bfloat16_tile(args, inputs, first, sum); break;
  }
  if (!args.bias) return;
  for (int r = 0; r < kRows; ++r) sum[r] = _mm512_add_ps(sum[r], load(args.bias + first));
}

CEPE_AVX512_INLINE __m512 swiglu(__m512 gate, __m512 up) {
  const __m512 one = _mm512_set1_ps(1), decay = exponential(_mm512_sub_ps(_mm512_setzero_ps(), gate));
  return _mm512_mul_ps(_mm512_div_ps(gate, _mm512_add_ps(one, decay)), up);
}

// Tiles `begin` to `end` of the result.
template <int kRows>
CEPE_AVX512 void tiles(const Args& args, const Inputs& inputs, int64_t begin, int64_t end) {
  const int64_t width = args.gated ? args.outputs / 2 : args.outputs;
  for (int64_t first = begin * kTileRows; first < end * kTileRows; first += kTileRows) {
    __m512 sum[kRows];
    tile(args, inputs, first, sum);
    if (args.gated) {
      __m512 up[kRows];
      tile(args, inputs, width + first, up);
      for (int r = 0; r < kRows; ++r) sum[r] = swiglu(sum[r], up[r]);
    }
    for (int r = 0; r < kRows; ++r) {
      const int64_t at = r * width + first;
      store(args.out + at, args.residual ? _mm512_add_ps(sum[r], load(args.residual + at)) : sum[r]);
    }
  }
}

// A group of a tile: 16 rows of 32 widened values, rows `stride` numbers apart.
CEPE_AVX512_INLINE void widen_group(const uint8_t* values, const uint16_t* scales, int64_t stride, uint16_t* out) {
  const __m512i table = values_of_codes(), high = _mm512_set1_epi32(static_cast<int>(0xffff0000));
  const __m512 scale = load(scales), zero = load(scales + kTileRows);
  const auto widened = [&](__m512i pair) CEPE_AVX512 {
    const __m512 left = _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16));
    const __m512 right = _mm512_castsi512_ps(_mm512_and_si512(pair, high));
    const __m512i low = _mm512_cvtepu16_epi32(narrow(_mm512_fmadd_ps(left, scale, zero)));
    const __m512i up = _mm512_cvtepu16_epi32(narrow(_mm512_fmadd_ps(right, scale, zero)));
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

CEPE_AVX512 void widen_tile(const uint8_t* values, const uint16_t* scales, int64_t inputs, uint16_t* out) {
  for (int64_t group = 0; group < inputs / kGroup; ++group) {
    widen_group(values + group * kGroupBytes, scales + group * kGroupScales, inputs, out + group * kGroup);
  }
}
#endif

}  // namespace

bool available() {
#ifdef CEPE_HAS_AVX512
  static const bool found = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                            __builtin_cpu_supports("avx512bf16") && at::get_cpu_capability() == "AVX512";
  return found;
#else
  return false;
#endif
}

void gemv(const Args& args) {
#ifdef CEPE_HAS_AVX512
  static thread_local Inputs inputs;  // keeps its memory from product to product
  const Inputs& made = inputs;
  prepare(args, inputs);
  const int64_t count = args.outputs / kTileRows / (args.gated ? 2 : 1);
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    switch (args.rows) {
      case 1: return tiles<1>(args, made, begin, end);
      case 2: return tiles<2>(args, made, begin, end);
      case 3: return tiles<3>(args, made, begin, end);
      default: return tiles<4>(args, made, begin, end);
    }
  });
#else
  fail("GEMV: this processor has no AVX-512");
#endif
}

void tile_int4(const Int4Matrix& matrix, uint8_t* values, uint16_t* scales) {
  const auto [codes, scale_zero, outputs, inputs] = matrix;
  const int64_t groups = inputs / kGroup;
  at::parallel_for(0, outputs / kTileRows, 1, [=](int64_t begin, int64_t end) {
    for (int64_t at = begin * groups; at < end * groups; ++at) {
      const int64_t first = at / groups * kTileRows, group = at % groups;
      for (int64_t row = 0; row < kTileRows; ++row) {
        const uint8_t* const from = codes + (first + row) * inputs + group * kGroup;
        for (int64_t eighth = 0; eighth < 4; ++eighth) {
          uint8_t* const to = values + at * kGroupBytes + eighth * 64 + row * 4;
          const uint8_t* const x = from + 8 * eighth;
          to[0] = static_cast<uint8_t>(x[0] | x[2] << 4), to[1] = static_cast<uint8_t>(x[4] | x[6] << 4);
          to[2] = static_cast<uint8_t>(x[1] | x[3] << 4), to[3] = static_cast<uint8_t>(x[5] | x[7] << 4);
        }
        const uint16_t* const pair = scale_zero + ((first + row) * groups + group) * 2;
        scales[at * kGroupScales + row] = pair[0], scales[at * kGroupScales + kTileRows + row] = pair[1];
      }
    }
  });
}

void widen_int4(const uint8_t* values, const uint16_t* scales, int64_t outputs, int64_t inputs, uint16_t* out) {
#ifdef CEPE_HAS_AVX512
  at::parallel_for(0, outputs / kTileRows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      const int64_t first = tile * kTileRows;
      widen_tile(values + first * inputs / 2, scales + first * inputs / kGroup * 2, inputs, out + first * inputs);
    }
  });
#else
  fail("int4 weights in tiles: this processor has no AVX-512");
#endif
}

}  // namespace cepe::gemv_cpu
