// A step's products by an executor, on a CPU: each against its formula, in every run.
#include "ops/step/step_executor.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "ops/gemv/quantised_weight.h"

namespace cepe {
namespace {

TEST(StepExecutor, ComputesEveryRun) {
  at::manual_seed(9);
  const at::Tensor x = at::randn({3, 8}, at::kDouble), residual = at::randn({3, 6}, at::kDouble),
                   heads = at::randn({2, 3, 4}, at::kDouble);
  const Matrix first{at::randn({6, 8}, at::kDouble)}, second{at::randn({4, 6}, at::kDouble)};
  at::Tensor h, moved, out = at::empty({3, 2, 4}, at::kDouble);
  for (const bool chains : {false, true}) {
    StepExecutor executor(at::kCPU, {.chains = chains, .skinny = true, .graph = true}, [&] {
      h = executor.gemv(x, first, {.residual = residual});
      const at::Tensor q = executor.gemv(h, second, {});
      moved = executor.batched_gemv(at::cat({q, q.narrow(1, 0, 2)}, 1).view({3, 2, 3}), heads, /*transposed=*/true);
      executor.launch();
      out.copy_(moved);
    });
    for (int run = 0; run < 3; ++run) {
      residual.add_(1);
      executor.run();
      const at::Tensor sum = at::matmul(x, first.weight.t()) + residual, q = at::matmul(sum, second.weight.t());
      EXPECT_TRUE(at::allclose(h, sum, 1e-12, 1e-12));
      const at::Tensor rows = at::cat({q, q.narrow(1, 0, 2)}, 1).view({3, 2, 3});
      EXPECT_TRUE(at::allclose(out, at::einsum("bhi,hio->bho", {rows, heads}), 1e-12, 1e-12));
    }
  }
}

TEST(StepExecutor, GoesOnAfterAnError) {
  const at::Tensor x = at::ones({1, 4}), weight = at::ones({2, 4});
  bool fails = true;
  at::Tensor y;
  StepExecutor executor(at::kCPU, {.chains = true}, [&] {
    y = executor.gemv(x, {weight});
    if (fails) throw std::runtime_error("a run that fails");
    executor.launch();
  });
  EXPECT_THROW(executor.run(), std::runtime_error);
  fails = false;
  executor.run();
  EXPECT_TRUE(at::equal(y, at::full({1, 2}, 4.0f)));
}

TEST(StepExecutor, TakesQuantisedMatrices) {
  at::manual_seed(4);
  const at::Tensor x = at::randn({2, 64}), weight = at::randn({32, 64}), bias = at::randn({32});
  const Matrix matrix{{}, std::make_shared<QuantisedWeight>(quantise_weight(weight, WeightType::int8))};
  EXPECT_FALSE(matrix.dense());
  EXPECT_EQ(matrix.in(), 64);
  EXPECT_EQ(matrix.out(), 32);
  at::Tensor y;
  StepExecutor executor(at::kCPU, {}, [&] { y = executor.gemv(x, matrix, {.bias = bias}); });
  executor.run();
  const at::Tensor expected = at::matmul(x, dequantise_weight(*matrix.quantised, at::kFloat).t()) + bias;
  EXPECT_LT((y - expected).norm().item<double>(), 1e-2 * expected.norm().item<double>());
}

}  // namespace
}  // namespace cepe
