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

HWY_BEFORE_NAMESPACE();
namespace cepe::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Vector = hn::Vec<Floats>;
constexpr Floats kFloats;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(Floats()));

// Registers for vectors: what a tile's sums may occupy follows from it.
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
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

// e^x, 0 of -infinity; not-a-number stays.
HWY_INLINE Vector exponential(Vector x) { return hn::IfThenElse(hn::IsNaN(x), x, hn::Exp(kFloats, x)); }

HWY_INLINE float sum_of_lanes(Vector x) { return hn::GetLane(hn::SumOfLanes(kFloats, x)); }

}  // namespace cepe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
