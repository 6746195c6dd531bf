// Attention mass by chunk against its formula in float64.
#include "ops/attention_mass/attention_mass.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/error.h"
#include "ops/attention_mass_formula.h"
#include "ops/latent/latent_int8.h"

namespace cepe {
namespace {

const std::vector<int64_t> kRagged = {1, 64, 65, 200, 7, 63};

struct Case {
  int64_t batch, contexts, rows;
  bool masked;
};
class AttentionMassFormula : public testing::TestWithParam<Case> {};

TEST_P(AttentionMassFormula, EqualsFloat64) {
  at::manual_seed(5);
  const Case c = GetParam();
  const int64_t S = std::accumulate(kRagged.begin(), kRagged.end(), int64_t{0}), E = 48;
  const at::Tensor query = at::randn({c.batch, c.rows, E}), states = at::randn({c.contexts, S, E});
  at::Tensor mask;
  if (c.masked) {
    mask = at::rand({c.contexts, S}) < 0.5;
    mask.narrow(1, 1, 64).fill_(false);        // a chunk of padding
    if (c.contexts > 1) mask[1].fill_(false);  // a context of padding
  }
  const ChunkBounds chunks(kRagged, at::kCPU);
  const at::Tensor expected = mass_formula(query, states, mask, kRagged, 0.4);
  const at::Tensor found = attention_mass(query, {states, mask}, chunks, 0.4);
  EXPECT_LT((found - expected).abs().max().item<double>(), 2e-6);
  EXPECT_TRUE(at::allclose(attention_mass(query.to(at::kDouble), {states.to(at::kDouble), mask}, chunks, 0.4), expected,
                           0, 1e-12));
  if (!c.masked) {
    EXPECT_TRUE(at::allclose(found.sum(-1), at::ones({c.batch, c.rows}), 0, 1e-6));
  }

  const Int8States narrow = quantize_states(states);
  const at::Tensor wide = mass_formula(query, dequantize_states(narrow, at::kDouble), mask, kRagged, 0.4);
  EXPECT_LT(
      (attention_mass(query, {narrow.values, mask, narrow.scales}, chunks, 0.4) - wide).abs().max().item<double>(),
      2e-6);

  const at::Tensor half = states.to(at::kBFloat16), half_query = query.to(at::kBFloat16);
  EXPECT_LT((attention_mass(half_query, {half, mask}, chunks, 0.4) - mass_formula(half_query, half, mask, kRagged, 0.4))
                .abs()
                .max()
                .item<double>(),
            2e-6);
}

INSTANTIATE_TEST_SUITE_P(Shapes, AttentionMassFormula,
                         testing::Values(Case{1, 1, 9, false}, Case{3, 1, 4, true}, Case{2, 2, 5, true},
                                         Case{2, 2, 5, false}));

TEST(AttentionMass, LongContextsAreScoredInBlocks) {
  at::manual_seed(6);
  const std::vector<int64_t> lengths = {5000, 4096, 1, 903};
  const at::Tensor query = at::randn({1, 3, 16}), states = at::randn({1, 10000, 16});
  const at::Tensor found = attention_mass(query, {states}, ChunkBounds(lengths, at::kCPU), 1.0);
  EXPECT_LT((found - mass_formula(query, states, {}, lengths, 1.0)).abs().max().item<double>(), 2e-6);
}

TEST(AttentionMass, RefusesChunksThatAreNotTheContext) {
  const at::Tensor query = at::randn({1, 3, 16}), states = at::randn({1, 10, 16});
  EXPECT_THROW(attention_mass(query, {states}, ChunkBounds({4, 5}, at::kCPU), 1.0), Error);
  EXPECT_THROW(attention_mass(query, {states}, ChunkBounds(), 1.0), Error);
  EXPECT_THROW(ChunkBounds({4, 0}, at::kCPU), Error);
}

}  // namespace
}  // namespace cepe
