// One pass over memory gives what the composites of LibTorch's operations give, which a wanted gradient still takes.
#include "ops/elementwise/elementwise_cpu.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace cepe {
namespace {

double relative(const at::Tensor& found, const at::Tensor& expected) {
  const at::Tensor wide = expected.detach().to(at::kDouble);
  return ((found.detach().to(at::kDouble) - wide).norm() / wide.norm()).item<double>();
}

constexpr double kFloatTolerance = 1e-6, kHalfTolerance = 4e-3;  // bfloat16 rounds to 2^-9, sum and product each once

class FusedCpu : public testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override { at::manual_seed(4); }
  double tolerance() const { return GetParam() == at::kFloat ? kFloatTolerance : kHalfTolerance; }
};

TEST_P(FusedCpu, NormsAreThoseInFloat64) {
  for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{1, 576}, {7, 33}, {300, 1024}}) {
    const at::Tensor x = at::randn({rows, width}).to(GetParam()), y = at::randn({rows, width}).to(GetParam());
    const at::Tensor weight = (at::rand({width}) + 0.5).to(GetParam());
    ASSERT_TRUE(fused_cpu_applies(x));
    const auto norm = [&](const at::Tensor& of) {
      const at::Tensor wide = of.to(at::kDouble);
      return wide / (wide.square().mean(-1, true) + 1e-5).sqrt() * weight.to(at::kDouble);
    };
    EXPECT_LT(relative(fused_cpu_rms_norm(x, weight, 1e-5), norm(x)), tolerance());
    const NormedSum both = fused_cpu_add_rms_norm(x, y, weight, 1e-5);
    EXPECT_TRUE(at::equal(both.sum, x + y));
    EXPECT_LT(relative(both.normed, norm(x + y)), tolerance());
  }
}

TEST_P(FusedCpu, RotationsAreThoseInFloat64) {
  const at::Tensor angles = at::rand({40, 4}) * 3;
  const RotaryTable table{angles.cos(), angles.sin()};
  const at::Tensor x = at::randn({2, 9, 3, 8}).to(GetParam());
  const at::Tensor wide = x.to(at::kDouble), c = angles.narrow(0, 5, 9).to(at::kDouble).view({1, 9, 1, 4});
  const at::Tensor a = wide.narrow(3, 0, 4), b = wide.narrow(3, 4, 4);
  const at::Tensor expected = at::cat({a * c.cos() - b * c.sin(), b * c.cos() + a * c.sin()}, -1);
  EXPECT_LT(relative(fused_cpu_rotary(x, table, 5), expected), tolerance());
}

INSTANTIATE_TEST_SUITE_P(Types, FusedCpu, testing::Values(at::kFloat, at::kBFloat16));

TEST(FusedCpuApplies, NotWhereAGradientIsWantedOrMemoryIsStrided) {
  const at::Tensor x = at::randn({4, 8});
  EXPECT_TRUE(fused_cpu_applies(x));
  EXPECT_FALSE(fused_cpu_applies(x.t()));
  EXPECT_FALSE(fused_cpu_applies(x.to(at::kDouble)));
  EXPECT_FALSE(fused_cpu_applies(x.clone().requires_grad_()));
  const at::NoGradGuard no_grad;
  EXPECT_TRUE(fused_cpu_applies(x.clone().requires_grad_()));
}

}  // namespace
}  // namespace cepe
