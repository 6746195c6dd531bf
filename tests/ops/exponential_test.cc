#include "ops/cpu/exponential.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace cepe {
namespace {

float of(float x) { return exponential<uint32_t>(x); }

TEST(Exponential, IsWithinAUnitInTheLastPlace) {
  for (int i = 0; i < 350000; ++i) {
    const float x = -87.0f + 0.0005f * static_cast<float>(i);
    ASSERT_NEAR(of(x) / std::exp(static_cast<double>(x)), 1.0, 0x1p-23) << x;
  }
  EXPECT_EQ(of(0), 1.0f);
}

TEST(Exponential, ClampsAndKeepsNotANumber) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(of(-infinity), of(-87));
  EXPECT_EQ(of(infinity), of(88));
  EXPECT_TRUE(std::isnan(of(std::numeric_limits<float>::quiet_NaN())));
}

// The same bits in a vector as alone would depend on fused multiplication and addition: within one unit.
TEST(Exponential, OfAVectorIsThatOfItsLanes) {
  using Vector = float __attribute__((vector_size(64)));
  using Bits = uint32_t __attribute__((vector_size(64)));
  Vector x = {};
  for (int i = 0; i < 16; ++i) x[i] = static_cast<float>(11 * i - 85);
  const Vector y = exponential<Bits>(x);
  for (int i = 0; i < 16; ++i) EXPECT_NEAR(y[i] / of(x[i]), 1.0f, 0x1p-22f) << x[i];
}

}  // namespace
}  // namespace cepe
