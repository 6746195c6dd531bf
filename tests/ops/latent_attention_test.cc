// Attention on shared states against its formula in float64, for every kernel, type and shape of the edges.
#include "ops/latent/latent_attention.h"
#include "ops/latent/latent_int8.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "ops/cpu/targets.h"

namespace cepe {
namespace {

struct Case {
  int64_t batch, rows, states, width, contexts;
  bool masked;
};

// One query and one state at a time: exp(score) of the real ones, summed.
at::Tensor formula(const at::Tensor& query, const at::Tensor& states, const at::Tensor& mask, double scale) {
  const at::Tensor out = at::zeros(query.sizes(), at::kDouble);
  for (int64_t b = 0; b < query.size(0); ++b) {
    const int64_t c = states.size(0) == 1 ? 0 : b;
    at::Tensor real = states[c];
    if (mask.defined()) real = real.index({mask[c]});
    if (real.size(0) == 0) continue;
    for (int64_t n = 0; n < query.size(1); ++n) {
      const at::Tensor score = at::mv(real, query[b][n]) * scale;
      const at::Tensor p = (score - score.max()).exp();
      out[b][n].copy_(at::mv(real.t(), p) / p.sum());
    }
  }
  return out;
}

class LatentAttention : public testing::TestWithParam<Case> {};

TEST_P(LatentAttention, EveryKernelEqualsTheFormula) {
  const Case c = GetParam();
  at::manual_seed(5);
  const at::Tensor query = at::randn({c.batch, c.rows, c.width}, at::kDouble);
  const at::Tensor states = at::randn({c.contexts, c.states, c.width}, at::kDouble);
  at::Tensor mask;
  if (c.masked) {
    mask = at::rand({c.contexts, c.states}) < 0.6;
    mask[0].narrow(0, 0, c.states / 2).fill_(false);  // whole blocks without a real token
    if (c.contexts > 1) mask[1].fill_(false);         // a context of padding alone
  }
  const double scale = 2.0 / std::sqrt(static_cast<double>(c.width));  // scores that differ by several e-folds
  for (const auto& [type, tolerance] : {std::pair{at::kFloat, 3e-6}, {at::kBFloat16, 4e-3}}) {
    const at::Tensor q = query.to(type), e = states.to(type);
    const at::Tensor expected = formula(q.to(at::kDouble), e.to(at::kDouble), mask, scale);
    const Int8States narrow = quantize_states(e);
    const at::Tensor wide = dequantize_states(narrow, at::kDouble),
                     narrow_expected = formula(q.to(at::kDouble), wide, mask, scale);
    EXPECT_LE((wide - e).abs().max().item<double>(), e.abs().max().item<double>() / 127 * 0.5001)
        << "half a step at most";
    for (const std::string& target : cpu::targets()) {
      cpu::use_target(target);
      const at::Tensor found = latent_attention(q, {e, mask}, scale);
      EXPECT_EQ(found.scalar_type(), type);
      const double error = (found.to(at::kDouble) - expected).norm().item<double>();
      EXPECT_LE(error, tolerance * expected.norm().item<double>()) << target;
      const at::Tensor of_bytes = latent_attention(q, {narrow.values, mask, narrow.scales}, scale);
      EXPECT_LE((of_bytes.to(at::kDouble) - narrow_expected).norm().item<double>(),
                tolerance * narrow_expected.norm().item<double>())
          << "8 bits, " << target;
    }
    cpu::use_target("");
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, LatentAttention,
                         testing::Values(Case{1, 9, 300, 576, 1, false}, Case{1, 32, 130, 64, 1, true},
                                         Case{2, 5, 64, 40, 2, true}, Case{3, 4, 65, 48, 1, false},
                                         Case{1, 1, 1, 16, 1, false}, Case{2, 3, 200, 33, 1, true}));

TEST(LatentAttentionEdges, LargeScoresDoNotOverflow) {
  const at::Tensor query = at::full({1, 1, 16}, 100.0f), states = at::ones({1, 130, 16});
  states[0][100].mul_(3);
  const at::Tensor found = latent_attention(query, {states}, 1.0);
  EXPECT_TRUE(at::allclose(found, at::full({1, 1, 16}, 3.0f)));
}

TEST(LatentAttentionEdges, BrokenStatesDoNotPassForNone) {
  const at::Tensor query = at::randn({1, 2, 16});
  at::Tensor states = at::randn({1, 70, 16});
  states[0][66][3] = NAN;
  EXPECT_TRUE(latent_attention(query, {states}, 1.0).isnan().all().item<bool>());
  EXPECT_TRUE(latent_attention(query, {at::full({1, 3, 16}, NAN)}, 1.0).isnan().all().item<bool>());
}

TEST(LatentAttentionEdges, DoublesAndGradients) {
  at::manual_seed(6);
  const at::Tensor query = at::randn({2, 2, 16}, at::kDouble), states = at::randn({2, 70, 16}, at::kDouble);
  at::Tensor mask = at::rand({2, 70}) < 0.6;
  mask[1].fill_(false);
  const at::Tensor expected = formula(query, states, mask, 0.5);
  EXPECT_LT((latent_attention(query, {states, mask}, 0.5) - expected).abs().max().item<double>(), 1e-12);
  // d (sum of the results) / d states, by a difference of the formula's.
  const at::Tensor direction = at::randn(states.sizes(), at::kDouble), trained = states.clone().requires_grad_();
  latent_attention(query, {trained, mask}, 0.5).sum().backward();
  const auto at_step = [&](double h) { return formula(query, states + h * direction, mask, 0.5).sum().item<double>(); };
  EXPECT_NEAR((trained.grad() * direction).sum().item<double>(), (at_step(1e-5) - at_step(-1e-5)) / 2e-5, 1e-6);
}

TEST(LatentAttentionEdges, WhatDoesNotFitIsRefused) {
  const at::Tensor query = at::randn({1, 2, 16});
  EXPECT_THROW(latent_attention(query, {at::randn({1, 3, 8})}, 1.0), Error);
  EXPECT_THROW(latent_attention(query, {at::randn({2, 3, 16})}, 1.0), Error);
  EXPECT_THROW(latent_attention(query, {at::ones({1, 3, 16}, at::kByte)}, 1.0), Error) << "8 bits without scales";
}

}  // namespace
}  // namespace cepe
