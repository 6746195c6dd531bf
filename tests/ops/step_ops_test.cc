// A step's operations on the CPU against their formulas.
#include "ops/step/step_ops.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "ops/cpu/targets.h"
#include "ops/gemv/gemv.h"
#include "ops/step/captured_work.h"
#include "ops/step_formula.h"

namespace cepe {
namespace {

class Step : public testing::TestWithParam<StepProblem> {};

TEST_P(Step, AttentionEqualsTheFormula) {
  const StepProblem p = GetParam();
  at::manual_seed(5);
  for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
    const StepTensors given = step_tensors(p, at::TensorOptions().dtype(type));
    const StepResult expected = step_by_hand(p, given);
    const at::Tensor before = given.input.k_BSGK.clone();
    const at::Tensor out = step_attention(given.qkv, given.input);
    const double tolerance = type == at::kDouble ? 1e-12 : 1e-5;
    EXPECT_LT(largest_error(out, expected.out_BN), tolerance);
    EXPECT_LT(largest_error(written(given.input.k_BSGK, p.positions), expected.k_BGK), tolerance);
    EXPECT_LT(largest_error(written(given.input.v_BSGK, p.positions), expected.v_BGK), tolerance);
    for (int64_t b = 0; b < p.batch; ++b) {
      const int64_t n = p.positions[b];
      EXPECT_TRUE(at::equal(given.input.k_BSGK[b].narrow(0, 0, n), before[b].narrow(0, 0, n))) << "earlier tokens";
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Shapes, Step,
                         testing::Values(StepProblem{1, 4, 4, 16, 8, {0}}, StepProblem{1, 4, 4, 16, 8, {7}},
                                         StepProblem{3, 6, 2, 8, 20, {0, 5, 19}},
                                         StepProblem{2, 9, 3, 64, 70, {64, 3}, true}));

// The CPU's kernel, for each instruction set that this processor has. Lengths around its vectors and its pieces of 128
// keys.
class StepKernel : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { cpu::use_target(GetParam()); }
  void TearDown() override { cpu::use_target(""); }
};
INSTANTIATE_TEST_SUITE_P(Targets, StepKernel, testing::ValuesIn(cpu::targets()),
                         [](const auto& info) { return info.param; });

TEST_P(StepKernel, AttentionEqualsTheFormula) {
  at::manual_seed(7);
  const std::vector<StepProblem> problems = {{1, 4, 4, 32, 8, {0}},           {1, 9, 3, 64, 200, {14}},
                                             {1, 9, 3, 64, 200, {15}},        {1, 9, 3, 64, 200, {16}},
                                             {1, 9, 3, 64, 200, {127}},       {1, 9, 3, 64, 200, {128}},
                                             {2, 6, 2, 128, 700, {699, 0}},   {3, 8, 1, 64, 300, {255, 256, 31}, true},
                                             {1, 2, 2, 256, 140, {139}, true}};
  for (const at::ScalarType type : {at::kBFloat16, at::kFloat}) {
    const bool half = type == at::kBFloat16;
    for (const StepProblem& p : problems) {
      ASSERT_TRUE(step_attention_is_fused(at::kCPU, type, p.head_dim));
      StepTensors given = step_tensors(p, at::TensorOptions().dtype(type));
      given.qkv.mul_(2);  // scores far apart
      const StepResult expected = step_by_hand(p, given);
      const at::Tensor before = given.input.k_BSGK.clone();
      const at::Tensor out = step_attention(given.qkv, given.input);
      EXPECT_LT(largest_error(out, expected.out_BN), half ? 1e-2 : 1e-5) << p.positions[0];
      EXPECT_LT(largest_error(written(given.input.k_BSGK, p.positions), expected.k_BGK), half ? 4e-3 : 1e-6);
      EXPECT_EQ(largest_error(written(given.input.v_BSGK, p.positions), expected.v_BGK), 0);
      for (int64_t b = 0; b < p.batch; ++b) {
        const int64_t n = p.positions[b];
        EXPECT_TRUE(at::equal(given.input.k_BSGK[b].narrow(0, 0, n), before[b].narrow(0, 0, n))) << "earlier tokens";
        const at::Tensor later = given.input.k_BSGK[b].narrow(0, n + 1, p.capacity - n - 1);
        EXPECT_TRUE(later.isnan().all().item<bool>()) << "later tokens";
      }
    }
  }
}

TEST(Step, AWrongPositionIsRefusedOnACpu) {
  for (const at::ScalarType type : {at::kBFloat16, at::kDouble}) {  // our kernel, and LibTorch's operations
    StepTensors given = step_tensors({1, 4, 2, 32, 8, {0}}, at::TensorOptions().dtype(type));
    const at::Tensor keys = given.input.k_BSGK.clone();
    for (const int64_t position : {-1, 8}) {
      given.input.positions_B.fill_(position);
      EXPECT_THROW(step_attention(given.qkv, given.input), Error);
    }
    EXPECT_TRUE(at::equal(given.input.k_BSGK.nan_to_num(7), keys.nan_to_num(7))) << "nothing was written";
  }
}

TEST(Step, SwigluOfAMergedProduct) {
  at::manual_seed(6);
  const at::Tensor gate_up = at::randn({3, 20}, at::kDouble);
  const at::Tensor gate = gate_up.narrow(1, 0, 10), up = gate_up.narrow(1, 10, 10);
  EXPECT_LT(largest_error(step_swiglu(gate_up), gate / (1 + (-gate).exp()) * up), 1e-14);
}

// What the CUDA kernel does in one pass is here a few operations; both are held against the formula.
TEST(Step, ProductsWithWhatStandsAround) {
  at::manual_seed(8);
  const at::Tensor x = at::randn({3, 24}, at::kDouble), weight = at::randn({10, 24}, at::kDouble);
  const at::Tensor norm = at::rand({24}, at::kDouble), bias = at::randn({10}, at::kDouble);
  const at::Tensor residual = at::randn({3, 10}, at::kDouble);
  const at::Tensor normed = x / (x.square().mean(-1, true) + 1e-5).sqrt() * norm;
  const auto equal = [&](const GemvOptions& options, const at::Tensor& expected) {
    return at::allclose(gemv(x, weight, options), expected, 1e-12, 1e-12);
  };
  const at::Tensor plain = x.matmul(weight.t()), merged = normed.matmul(weight.t()) + bias;
  EXPECT_TRUE(equal({}, plain));
  EXPECT_TRUE(equal({.bias = bias, .residual = residual}, plain + bias + residual));
  EXPECT_TRUE(equal({.norm = norm, .eps = 1e-5, .bias = bias}, merged));
  const at::Tensor gate = merged.narrow(1, 0, 5), up = merged.narrow(1, 5, 5);
  EXPECT_TRUE(equal({.norm = norm, .eps = 1e-5, .bias = bias, .gated = true}, gate / (1 + (-gate).exp()) * up));
  EXPECT_THROW(gemv(x, weight, {.residual = residual, .gated = true}), Error);
}

TEST(Step, SizesThatDoNotFitAreRefused) {
  const StepProblem p{1, 4, 2, 16, 8, {0}};
  const StepTensors given = step_tensors(p, at::kFloat);
  EXPECT_THROW(step_attention(given.qkv.narrow(1, 0, 100), given.input), Error);
  EXPECT_THROW(step_attention(given.qkv.expand({2, -1}), given.input), Error);
}

TEST(CapturedWork, RunsTheWorkEachTimeOnACpu) {
  int calls = 0;
  CapturedWork work(at::kCPU, /*graph=*/true, [&] { ++calls; });
  for (int i = 0; i < 3; ++i) work.run();
  EXPECT_EQ(calls, 3);
}

}  // namespace
}  // namespace cepe
