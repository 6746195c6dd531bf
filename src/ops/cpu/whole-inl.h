// Products of whole numbers: pairs of 16 bits, sums of 32. Included once for each target, like vectors-inl.h.
#if defined(CEPE_OPS_CPU_WHOLE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CEPE_OPS_CPU_WHOLE_INL_H_
#undef CEPE_OPS_CPU_WHOLE_INL_H_
#else
#define CEPE_OPS_CPU_WHOLE_INL_H_
#endif

#include "ops/cpu/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cepe::cpu::HWY_NAMESPACE {

// Vectors of 16-bit numbers, two in each lane of 32 bits.
using Ints = hn::RebindToSigned<Floats>;
constexpr Ints kInts;
constexpr int64_t kPairs = 2 * kLanes;
#if HWY_TARGET == HWY_SCALAR
using Shorts = uint32_t;
HWY_INLINE Shorts shorts_of(hn::Vec<hn::RebindToUnsigned<Floats>> words) { return hn::GetLane(words); }
HWY_INLINE Shorts load_shorts(const int16_t* p) { return static_cast<uint16_t>(p[0]) | uint32_t(uint16_t(p[1])) << 16; }
HWY_INLINE Shorts load_shorts(const int8_t* p) {
  const int16_t both[2] = {p[0], p[1]};
  return load_shorts(both);
}
HWY_INLINE void store_shorts(Shorts x, int32_t* to) { *to = static_cast<int32_t>(x); }
HWY_INLINE Shorts less_8(Shorts x) { return (((x & 0xffff) - 8) & 0xffff) | (((x >> 16) - 8) << 16); }
HWY_INLINE Vector as_vector(Shorts x) { return hn::BitCast(kFloats, hn::Set(hn::RebindToUnsigned<Floats>(), x)); }
struct Dot {
  int32_t sum = 0;
  HWY_INLINE void add(Shorts a, Shorts b) {
    sum += int16_t(a & 0xffff) * int16_t(b & 0xffff) + int16_t(a >> 16) * int16_t(b >> 16);
  }
  HWY_INLINE Vector sums() const { return hn::Set(kFloats, static_cast<float>(sum)); }
  HWY_INLINE Vector sums_of_pairs() const { return sums(); }
  HWY_INLINE Vector sums_of_pairs(int32_t less) const { return hn::Set(kFloats, static_cast<float>(sum - less)); }
};
#else
constexpr hn::Repartition<int16_t, Floats> kShorts;
using Shorts = hn::Vec<hn::Repartition<int16_t, Floats>>;
HWY_INLINE Shorts shorts_of(hn::Vec<hn::RebindToUnsigned<Floats>> words) { return hn::BitCast(kShorts, words); }
HWY_INLINE Shorts load_shorts(const int16_t* p) { return hn::LoadU(kShorts, p); }
HWY_INLINE Shorts load_shorts(const int8_t* p) {
  const hn::Rebind<int8_t, hn::Repartition<int16_t, Floats>> bytes;
  return hn::PromoteTo(kShorts, hn::LoadU(bytes, p));
}
HWY_INLINE void store_shorts(Shorts x, int32_t* to) { hn::StoreU(hn::BitCast(kInts, x), kInts, to); }
HWY_INLINE Shorts less_8(Shorts x) { return hn::Sub(x, hn::Set(kShorts, 8)); }
HWY_INLINE Vector as_vector(Shorts x) { return hn::BitCast(kFloats, x); }
// Sums of products in 32 bits, which Highway keeps in two registers on some targets.
struct Dot {
  hn::Vec<Ints> low, high;
  HWY_INLINE Dot() : low(hn::Zero(kInts)), high(hn::Zero(kInts)) {}
  HWY_INLINE void add(Shorts a, Shorts b) { low = hn::ReorderWidenMulAccumulate(kInts, a, b, low, high); }
  HWY_INLINE Vector sums() const { return hn::ConvertTo(kFloats, hn::Add(low, high)); }  // lanes in any order
  HWY_INLINE Vector sums_of_pairs() const { return hn::ConvertTo(kFloats, hn::RearrangeToOddPlusEven(low, high)); }
  HWY_INLINE Vector sums_of_pairs(int32_t less) const {
    return hn::ConvertTo(kFloats, hn::Sub(hn::RearrangeToOddPlusEven(low, high), hn::Set(kInts, less)));
  }
};
#endif

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
// Where vnni_products(): one instruction instead of two. Highway 1.0 has no target with it.
struct VnniDot {
  hn::Vec<Ints> sum;
  HWY_INLINE VnniDot() : sum(hn::Zero(kInts)) {}
  HWY_INLINE void add(Shorts a, Shorts b) {
#if HWY_TARGET == HWY_AVX3
    asm("vpdpwssd %2, %1, %0" : "+v"(sum.raw) : "v"(a.raw), "v"(b.raw));
#else
    asm("%{vex%} vpdpwssd %2, %1, %0" : "+x"(sum.raw) : "x"(a.raw), "x"(b.raw));
#endif
  }
  HWY_INLINE Vector sums_of_pairs() const { return hn::ConvertTo(kFloats, sum); }
};
#endif

}  // namespace cepe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
