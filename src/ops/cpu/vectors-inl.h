// What the kernels of this folder share for each instruction set: loads of every type as float32, and the exponential.
// Included once for each target (Highway's foreach_target.h). Vectors stand in arrays, which scalable ones (SVE)
// cannot: those targets are left out, and NEON serves their processors.
#if defined(CEPE_OPS_CPU_VECTORS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CEPE_OPS_CPU_VECTORS_INL_H_
#undef CEPE_OPS_CPU_VECTORS_INL_H_
#else
#define CEPE_OPS_CPU_VECTORS_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <cstdint>
#include <limits>

HWY_BEFORE_NAMESPACE();
namespace cepe::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Vector = hn::Vec<Floats>;
constexpr Floats kFloats;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(Floats()));

// Registers for vectors: what a tile's sums may occupy follows from it. Highway 1.0 has no SSE2: there the name is 0.
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SSE2 || HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
constexpr int kRegisters = 16;
#else
constexpr int kRegisters = 32;
#endif

HWY_INLINE Vector load(const float* p) { return hn::LoadU(kFloats, p); }
HWY_INLINE Vector load(const uint16_t* p) {  // bfloat16: the upper half of a float32
  const hn::RebindToUnsigned<Floats> bits;
  const hn::Rebind<uint16_t, Floats> halves;
  return hn::BitCast(kFloats, hn::ShiftLeft<16>(hn::PromoteTo(bits, hn::LoadU(halves, p))));
}
HWY_INLINE Vector load_float16(const uint16_t* p) {
  const hn::Rebind<uint16_t, Floats> bits;
  const hn::Rebind<hwy::float16_t, Floats> halves;
  return hn::PromoteTo(kFloats, hn::BitCast(halves, hn::LoadU(bits, p)));
}
HWY_INLINE Vector load(const int8_t* p) {
  const hn::RebindToSigned<Floats> integers;
  const hn::Rebind<int8_t, Floats> bytes;
  return hn::ConvertTo(kFloats, hn::PromoteTo(integers, hn::LoadU(bytes, p)));
}
HWY_INLINE Vector load(const uint8_t* p) {
  const hn::RebindToSigned<Floats> integers;
  const hn::Rebind<uint8_t, Floats> bytes;
  return hn::ConvertTo(kFloats, hn::PromoteTo(integers, hn::LoadU(bytes, p)));
}
HWY_INLINE void store(float* p, Vector x) { hn::StoreU(x, kFloats, p); }

HWY_INLINE void store(uint16_t* p, Vector x) {  // to bfloat16, to nearest, ties to even
  const hn::RebindToUnsigned<Floats> bits;
  const hn::Rebind<uint16_t, Floats> halves;
  const auto whole = hn::BitCast(bits, x);
  const auto odd = hn::And(hn::ShiftRight<16>(whole), hn::Set(bits, 1));
  const auto rounded = hn::ShiftRight<16>(hn::Add(whole, hn::Add(odd, hn::Set(bits, 0x7fff))));
  const auto kept = hn::IfThenElse(hn::RebindMask(bits, hn::IsNaN(x)), hn::Set(bits, 0x7fc0), rounded);
  hn::StoreU(hn::TruncateTo(halves, kept), halves, p);
}

// e^x, of at most e^88; 0 of -infinity; not-a-number stays.
HWY_INLINE Vector exponential(Vector x) {
  const Vector e = hn::Exp(kFloats, hn::Min(x, hn::Set(kFloats, 88.0f)));
  return hn::IfThenElse(hn::IsNaN(x), x, e);
}

HWY_INLINE float sum_of_lanes(Vector x) { return hn::GetLane(hn::SumOfLanes(kFloats, x)); }
// Highway's own begins with the lowest finite number on EMU128.
HWY_INLINE float max_of_lanes(Vector x) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  if (hn::AllTrue(kFloats, hn::Eq(x, hn::Set(kFloats, kLowest)))) return kLowest;
  return hn::GetLane(hn::MaxOfLanes(kFloats, x));
}

#if HWY_TARGET == HWY_SCALAR
HWY_INLINE void store_sums(const Vector (&x)[4], float* to) {
  for (int t = 0; t < 4; ++t) to[t] = hn::GetLane(x[t]);
}
HWY_INLINE void store_columns(const Vector (&x)[4], float* to, int64_t) { store_sums(x, to); }
#else
// Lane 4 b + i of x[t] becomes lane 4 b + t of x[i].
HWY_INLINE void transpose_quads(Vector (&x)[4]) {
  const hn::Repartition<uint64_t, Floats> pairs;
  const auto ab_low = hn::BitCast(pairs, hn::InterleaveLower(kFloats, x[0], x[1]));
  const auto ab_high = hn::BitCast(pairs, hn::InterleaveUpper(kFloats, x[0], x[1]));
  const auto cd_low = hn::BitCast(pairs, hn::InterleaveLower(kFloats, x[2], x[3]));
  const auto cd_high = hn::BitCast(pairs, hn::InterleaveUpper(kFloats, x[2], x[3]));
  x[0] = hn::BitCast(kFloats, hn::InterleaveLower(pairs, ab_low, cd_low));
  x[1] = hn::BitCast(kFloats, hn::InterleaveUpper(pairs, ab_low, cd_low));
  x[2] = hn::BitCast(kFloats, hn::InterleaveLower(pairs, ab_high, cd_high));
  x[3] = hn::BitCast(kFloats, hn::InterleaveUpper(pairs, ab_high, cd_high));
}

// Every 128 bits hold a part of four sums: adds the parts up.
template <class D>
HWY_INLINE void store_folded(D d, hn::Vec<D> x, float* to) {
  if constexpr (hn::MaxLanes(D()) > 4) {
    const hn::Half<D> half;
    store_folded(half, hn::Add(hn::LowerHalf(half, x), hn::UpperHalf(half, x)), to);
  } else {
    hn::StoreU(x, d, to);
  }
}

// Sums of the lanes of four vectors, side by side.
HWY_INLINE void store_sums(const Vector (&x)[4], float* to) {
  Vector quads[4] = {x[0], x[1], x[2], x[3]};
  transpose_quads(quads);
  store_folded(kFloats, hn::Add(hn::Add(quads[0], quads[1]), hn::Add(quads[2], quads[3])), to);
}

// Every 128 bits, four times `stride` numbers after those before.
template <class D>
HWY_INLINE void store_quads(D d, hn::Vec<D> x, float* to, int64_t stride) {
  if constexpr (hn::MaxLanes(D()) > 4) {
    const hn::Half<D> half;
    store_quads(half, hn::LowerHalf(half, x), to, stride);
    store_quads(half, hn::UpperHalf(half, x), to + static_cast<int64_t>(hn::MaxLanes(half)) * stride, stride);
  } else {
    hn::StoreU(x, d, to);
  }
}

// Four columns of kLanes rows become four numbers of each row; rows are `stride` numbers apart.
HWY_INLINE void store_columns(const Vector (&x)[4], float* to, int64_t stride) {
  Vector quads[4] = {x[0], x[1], x[2], x[3]};
  transpose_quads(quads);
  for (int64_t t = 0; t < 4; ++t) store_quads(kFloats, quads[t], to + t * stride, stride);
}
#endif

}  // namespace cepe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
