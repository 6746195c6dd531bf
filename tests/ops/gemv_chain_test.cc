// Products that follow one another, on a CPU: each against its formula.
#include "ops/chain/gemv_chain.h"

#include <gtest/gtest.h>

#include "ops/gemv/quantised_weight.h"
#include "ops/gemv_chain_formula.h"

namespace cepe {
namespace {

TEST(GemvChain, EqualsTheFormulas) {
  at::manual_seed(3);
  for (const ChainSizes& sizes : {ChainSizes{1, 64, 4, 4, 16, 48, 96, 33}, ChainSizes{3, 64, 6, 2, 16, 48, 96, 10}}) {
    const ChainWeights weights = chain_weights(sizes, at::kDouble);
    const ChainInputs inputs = chain_inputs(sizes, at::kDouble);
    for (const bool joins : {true, false}) {
      GemvChain chain(joins);
      const std::vector<at::Tensor> found = by_chain(chain, sizes, weights, inputs);
      const std::vector<at::Tensor> expected = by_formula(found, sizes, weights, inputs);
      for (size_t i = 0; i < found.size(); ++i) {
        EXPECT_TRUE(at::allclose(found[i].view_as(expected[i]), expected[i], 1e-9, 1e-9))
            << "product " << i << ", batch " << sizes.batch;
      }
    }
  }
}

TEST(GemvChain, TakesQuantisedWeights) {
  at::manual_seed(4);
  const at::Tensor x = at::randn({2, 64}), weight = at::randn({32, 64}), residual = at::randn({2, 32});
  const QuantisedWeight packed = quantise_weight(weight, WeightType::int8);
  GemvChain chain;
  const at::Tensor found = chain.product(x, packed, {.residual = residual});
  chain.run();
  EXPECT_TRUE(at::allclose(found, gemv(x, packed, {.residual = residual})));
  EXPECT_LT((found - at::matmul(x, weight.t()) - residual).norm().item<double>(), 0.02 * found.norm().item<double>());
}

}  // namespace
}  // namespace cepe
