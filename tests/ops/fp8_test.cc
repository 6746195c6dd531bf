// Rounding to fp8 on a CPU against e4m3's own grid, and refusals where its products cannot be had.
#include "ops/gemm/fp8.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "ops/gemv/quantised_weight.h"

namespace cepe {
namespace {

// The nearest number of e4m3 to x, |x| <= 448, ties to even: steps of 2^-3 of the power of two, 2^-9 below 2^-6.
double nearest_e4m3(double x) {
  const int exponent = x == 0 ? -6 : std::max(std::ilogb(x), -6);
  const double step = std::ldexp(1.0, exponent - 3);
  return std::nearbyint(x / step) * step;
}

TEST(Fp8, RoundsToTheNearest) {
  at::manual_seed(1);
  const at::Tensor x = (at::randn({17, 48}) * at::logspace(-4, 3, 17).unsqueeze(1)).to(at::kBFloat16);
  const Fp8Rows rows = fp8_rows(x);
  ASSERT_EQ(rows.values.scalar_type(), at::kFloat8_e4m3fn);
  ASSERT_EQ(rows.scales.sizes(), (at::IntArrayRef{17, 1}));
  const at::Tensor values = rows.values.to(at::kFloat), wide = x.to(at::kFloat);
  for (int64_t r = 0; r < 17; ++r) {
    const float greatest = wide[r].abs().max().item<float>(), inverse = 448.f / greatest;
    EXPECT_EQ(rows.scales[r][0].item<float>(), greatest / 448.f);
    EXPECT_EQ(values[r].abs().max().item<float>(), 448.f);
    for (int64_t i = 0; i < 48; ++i) {
      EXPECT_EQ(values[r][i].item<float>(), nearest_e4m3(wide[r][i].item<float>() * inverse)) << r << " " << i;
    }
  }
}

TEST(Fp8, ZerosStay) {
  const Fp8Rows rows = fp8_rows(at::zeros({2, 16}));
  EXPECT_EQ(rows.values.to(at::kFloat).abs().max().item<float>(), 0);
  EXPECT_GT(rows.scales.min().item<float>(), 0);
}

TEST(Fp8, SwigluIsRoundedOnce) {
  at::manual_seed(2);
  const at::Tensor gate = at::randn({2, 5, 32}), up = at::randn({2, 5, 32});
  const Fp8Rows found = fp8_swiglu(gate, up), expected = fp8_rows(at::silu(gate) * up);
  EXPECT_TRUE(at::equal(found.values.to(at::kFloat), expected.values.to(at::kFloat)));
  EXPECT_TRUE(at::equal(found.scales, expected.scales));
  EXPECT_THROW(fp8_swiglu(gate, up.narrow(2, 0, 16)), Error);
}

// A normal weight loses at most 2^-4 of itself; below 2^-6 of e4m3's range half a step of 2^-9, in units of the scale.
TEST(Fp8, QuantisedWeightsAreNear) {
  at::manual_seed(3);
  const at::Tensor weight = at::randn({64, 96});
  const QuantisedWeight packed = quantise_weight(weight, WeightType::fp8);
  const at::Tensor bound = weight.abs() / 16 + packed.scales.unsqueeze(1) * std::ldexp(1.0, -10);
  EXPECT_TRUE(((dequantise_weight(packed, at::kFloat) - weight).abs() <= bound * 1.0001).all().item<bool>());
  EXPECT_EQ(packed.bytes(), 64 * 96 + 64 * 4);
  EXPECT_FALSE(can_quantise(WeightType::fp8, 64, 40));
  EXPECT_FALSE(can_quantise(WeightType::fp8, 40, 64));
  EXPECT_THROW(quantise_weight(at::randn({64, 40}), WeightType::fp8), Error);
}

TEST(Fp8, ProductsOnACpuAreRefused) {
  EXPECT_THAT(fp8_refusal(at::kCPU), testing::HasSubstr("compute capability 9.0"));
  const QuantisedWeight packed = quantise_weight(at::randn({32, 32}), WeightType::fp8);
  try {
    quantised_linear(at::randn({2, 32}).to(at::kBFloat16), packed);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr("Hopper"), testing::HasSubstr("cpu")));
  }
  EXPECT_THROW(quantised_linear(at::randn({2, 32}), packed), Error);  // float32
}

}  // namespace
}  // namespace cepe
