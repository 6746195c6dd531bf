// What both kernels of attention are made of, for each target: a softmax that is read block by block, and the product
// of few rows that sums values.
#if defined(CEPE_OPS_CPU_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CEPE_OPS_CPU_ATTENTION_INL_H_
#undef CEPE_OPS_CPU_ATTENTION_INL_H_
#else
#define CEPE_OPS_CPU_ATTENTION_INL_H_
#endif

#include <cmath>
#include <limits>

#include "ops/cpu/attention.h"
#include "ops/cpu/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cepe::cpu::HWY_NAMESPACE {

constexpr float kNone = -std::numeric_limits<float>::infinity();  // the score of what is not there

// A tile's sums stay in registers: 3 x 4 of 16, 6 x 4 of 32.
constexpr int kTileRows = kRegisters == 16 ? 3 : 6;
constexpr int kTileVectors = 4;

// One row of a softmax: scores p[0 .. kBlock) become exp(score - highest); highest and total (the sum of these) take
// the block in. -> the factor for what was read before.
HWY_INLINE float weigh(float* p, float& highest, float& total) {
  Vector most = hn::Set(kFloats, highest);
  for (int64_t n = 0; n < kBlock; n += kLanes) {
    const Vector x = load(p + n);
    most = hn::IfThenElse(hn::Gt(x, most), x, most);  // what is not a number is never the highest
  }
  const float now = max_of_lanes(most);
  const float shift = now == kNone ? 0.0f : now;  // nothing real so far: all stays as it is
  Vector sum = hn::Zero(kFloats);
  for (int64_t n = 0; n < kBlock; n += kLanes) {
    const Vector e = exponential(hn::Sub(load(p + n), hn::Set(kFloats, shift)));
    store(p + n, e);
    sum = hn::Add(sum, e);
  }
  const float factor = highest == now ? 1.0f : std::exp(highest - shift);
  total = total * factor + sum_of_lanes(sum);
  highest = now;
  return factor;
}

// Scores of tokens that are not there.
HWY_INLINE void hide(float* p, int64_t tokens, const bool* real) {
  for (int64_t n = 0; n < kBlock; ++n) {
    if (n >= tokens || (real && !real[n])) p[n] = kNone;
  }
}

// A product of few rows: out[r] = out[r] * factor[r] + sum over i of a[r][i] b[i]; factor null: out counts as zero.
struct Product {
  const float* a;
  int64_t a_stride, count;
  float* out;
  int64_t out_stride;
  const float* factor;
};

// kVectors vectors of kRows rows.
template <int kRows, int kVectors, class Element>
HWY_INLINE void multiply(const Product& product, const Element* b, int64_t b_stride) {
  Vector sums[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = hn::Zero(kFloats);
      if (!product.factor) continue;
      sums[r][v] =
          hn::Mul(load(product.out + r * product.out_stride + v * kLanes), hn::Set(kFloats, product.factor[r]));
    }
  }
  const float* a = product.a;
  for (int64_t i = 0; i < product.count; ++i, ++a, b += b_stride) {
    Vector x[kVectors];
    for (int v = 0; v < kVectors; ++v) x[v] = load(b + v * kLanes);
    for (int r = 0; r < kRows; ++r) {
      const Vector factor = hn::Set(kFloats, a[r * product.a_stride]);
      for (int v = 0; v < kVectors; ++v) sums[r][v] = hn::MulAdd(x[v], factor, sums[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) store(product.out + r * product.out_stride + v * kLanes, sums[r][v]);
  }
}

// All of `rows` rows, in tiles of kRows and one smaller tile.
template <int kRows, int kVectors, class Element>
HWY_INLINE void multiply_rows(Product product, int64_t rows, const Element* b, int64_t b_stride) {
  for (; rows >= kRows; rows -= kRows) {
    multiply<kRows, kVectors>(product, b, b_stride);
    product.a += kRows * product.a_stride, product.out += kRows * product.out_stride;
    if (product.factor) product.factor += kRows;
  }
  if constexpr (kRows > 1) {
    if (rows > 0) multiply_rows<kRows - 1, kVectors>(product, rows, b, b_stride);
  }
}

// All columns: those of one tile's width are read again by the next rows while they are in the nearest cache.
template <class Element>
HWY_INLINE void multiply_columns(Product product, int64_t rows, int64_t columns, const Element* b, int64_t b_stride) {
  constexpr int64_t kWidth = kTileVectors * kLanes;
  float* const out = product.out;
  int64_t column = 0;
  for (; column + kWidth <= columns; column += kWidth) {
    product.out = out + column;
    multiply_rows<kTileRows, kTileVectors>(product, rows, b + column, b_stride);
  }
  for (; column < columns; column += kLanes) {
    product.out = out + column;
    multiply_rows<kTileRows, 1>(product, rows, b + column, b_stride);
  }
}

}  // namespace cepe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
