// Attention on kept keys and values. Keys are transposed, so that scores are products of the same shape as the sums of
// values.
#include <algorithm>
#include <vector>

#include "ops/cpu/attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/context_attention.cc"
#include <hwy/foreach_target.h>

#include "ops/cpu/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cepe::cpu::HWY_NAMESPACE {

constexpr int64_t kGroup = 24;  // rows whose scores of a block lie on the stack

template <class Element>
struct Block {
  const Element *k, *v;  // (width, kBlock), (kBlock, width)
  const float *k_scales, *v_scales;
  int64_t tokens;
  const bool* real;
};

HWY_INLINE void scale(float* p, const float* scales) {
  for (int64_t n = 0; n < kBlock; n += kLanes) store(p + n, hn::Mul(load(p + n), load(scales + n)));
}

// Rows `first` to `first + count`.
template <class Element>
HWY_INLINE void read_block(const AttentionRows& rows, int64_t first, int64_t count, const Block<Element>& block) {
  HWY_ALIGN float p[kGroup * kBlock];
  float factor[kGroup];
  const int64_t width = rows.width;
  multiply_columns<Element>({rows.query + first * width, width, width, p, kBlock, nullptr}, count, kBlock, block.k,
                            kBlock);
  for (int64_t r = 0; r < count; ++r) {
    float* const scores = p + r * kBlock;
    if (block.k_scales) scale(scores, block.k_scales);
    if (block.real || block.tokens < kBlock) hide(scores, block.tokens, block.real);
    factor[r] = weigh(scores, rows.highest[first + r], rows.total[first + r]);
    if (block.v_scales) scale(scores, block.v_scales);
  }
  if (!rows.sum) return;
  multiply_columns<Element>({p, kBlock, kBlock, rows.sum + first * width, width, factor}, count, width, block.v, width);
}

template <class Element>
HWY_INLINE void read_span(const AttentionRows& rows, const KeyValueSpan& span) {
  for (int64_t first = 0; first < span.tokens; first += kBlock) {
    const int64_t offset = first * rows.width;
    const Block<Element> block{
        static_cast<const Element*>(span.k) + offset,    static_cast<const Element*>(span.v) + offset,
        span.k_scales ? span.k_scales + first : nullptr, span.v_scales ? span.v_scales + first : nullptr,
        std::min(kBlock, span.tokens - first),           span.real ? span.real + first : nullptr};
    for (int64_t row = 0; row < rows.count; row += kGroup) {
      read_block<Element>(rows, row, std::min(kGroup, rows.count - row), block);
    }
  }
}

void read_context(const AttentionRows& rows, const KeyValueSpan& span) {
  switch (span.type) {
    case KeyValueType::float32: return read_span<float>(rows, span);
    case KeyValueType::bfloat16: return read_span<uint16_t>(rows, span);
    case KeyValueType::int8: return read_span<int8_t>(rows, span);
  }
}

// -> the scale; not a number where any of x is not finite. width is a multiple of kMostLanes.
HWY_INLINE float narrow_row(const float* x, int64_t width, int8_t* out) {
  const hn::Rebind<int8_t, Floats> bytes;
  Vector most = hn::Set(kFloats, 1e-12f);
  Vector nothing = hn::Zero(kFloats);  // 0, or not a number, which Max drops
  for (int64_t i = 0; i < width; i += kLanes) {
    most = hn::Max(most, hn::Abs(load(x + i)));
    nothing = hn::MulAdd(load(x + i), hn::Zero(kFloats), nothing);
  }
  const float scale = hn::GetLane(hn::MaxOfLanes(kFloats, most)) / 127 + hn::GetLane(hn::SumOfLanes(kFloats, nothing));
  const Vector divisor = hn::Set(kFloats, scale);
  for (int64_t i = 0; i < width; i += kLanes) {
    hn::StoreU(hn::DemoteTo(bytes, hn::NearestInt(hn::Div(load(x + i), divisor))), bytes, out + i);
  }
  return scale;
}

void narrow_rows(const Int8Source& from, int8_t* out, float* scales) {
  for (int64_t t = 0; t < from.tokens; ++t) {
    scales[t] = narrow_row(from.numbers + t * from.stride, from.width, out + t * from.width);
  }
}

}  // namespace cepe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cepe::cpu {

HWY_EXPORT(narrow_rows);
void write_int8_values(const Int8Source& from, int8_t* out, float* scales) {
  HWY_DYNAMIC_DISPATCH(narrow_rows)(from, out, scales);
}

void write_int8_keys(const Int8Source& from, int8_t* out, float* scales) {
  std::vector<int8_t> rows(static_cast<size_t>(kBlock * from.width));
  for (int64_t first = 0; first < from.tokens; first += kBlock, out += kBlock * from.width) {
    const int64_t count = std::min(kBlock, from.tokens - first);
    write_int8_values({from.numbers + first * from.stride, count, from.width, from.stride}, rows.data(),
                      scales + first);
    for (int64_t i = 0; i < from.width; ++i) {
      for (int64_t t = 0; t < count; ++t) out[i * kBlock + t] = rows[static_cast<size_t>(t * from.width + i)];
    }
  }
}

HWY_EXPORT(read_context);
void read_keys_values(const AttentionRows& rows, const KeyValueSpan& span) {
  HWY_DYNAMIC_DISPATCH(read_context)(rows, span);
}

}  // namespace cepe::cpu
#endif
