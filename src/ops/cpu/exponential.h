// The exponential of the CPU kernels: plain C++ that the compiler turns into vector instructions of the caller's
// target.
#pragma once

#include <bit>
#include <cstdint>

// g++ notes the ABI of functions that take vectors where they are instantiated, which is after the last line of the
// including file. All such functions are inlined: the note is off from here on.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace cepe {

// e^x of a float (Bits = uint32_t), or of each lane of a GCC vector of floats (Bits = the vector of as many uint32_t).
// 2^n e^r with |r| <= ln(2) / 2 and e^r's Taylor series to degree 7, whose first term left out is below 2^-24 of the
// result. ln(2) is split in two, so that n times its first part is exact. x is clamped to [-87, 88]: -infinity gives
// e^-87. Not-a-number stays.
template <class Bits, class Float>
inline __attribute__((always_inline)) Float exponential(const Float& x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding and subtracting it rounds to a whole number
  const Float above = x > -87.0f ? x : Float{} - 87.0f;
  const Float clamped = above < 88.0f ? above : Float{} + 88.0f;
  const Float rounded = clamped * 1.44269504f + kRound;
  const Float n = rounded - kRound;
  const Float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  Float p = r * (1.0f / 5040) + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const Bits exponent = (std::bit_cast<Bits>(rounded) - std::bit_cast<uint32_t>(kRound)) << 23;
  const Float value = std::bit_cast<Float>(std::bit_cast<Bits>(p) + exponent);
  return x == x ? value : x;
}

}  // namespace cepe
