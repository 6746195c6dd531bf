#include "model/cross_attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "model/fixtures.h"

namespace cepe {
namespace {

StackConfig sizes(int64_t heads, int64_t kv_heads, int64_t head_dim) {
  StackConfig config;
  config.hidden_size = 40;
  config.num_heads = heads;
  config.num_kv_heads = kv_heads;
  config.head_dim = head_dim;
  return config;
}

CrossAttention random_weights(const StackConfig& config, int64_t width, const at::TensorOptions& options) {
  const int64_t HK = config.num_heads * config.head_dim, GK = config.num_kv_heads * config.head_dim, D = config.hidden_size;
  CrossAttention weights;
  weights.norm = at::ones({D}, options);
  weights.q.weight = at::randn({HK, D}, options) / 3;
  weights.k.weight = at::randn({GK, width}, options) / 3;
  weights.v.weight = at::randn({GK, width}, options) / 3;
  weights.o.weight = at::randn({D, HK}, options) / 3;
  return weights;
}

// The formula itself, one head, one query and one latent at a time, in float64.
at::Tensor slow_reference(const CrossAttention& weights, const StackConfig& config, const at::Tensor& x, const Latents& latents) {
  const int64_t B = x.size(0), T = x.size(1), K = config.head_dim, R = config.num_heads / config.num_kv_heads;
  const at::Tensor q = at::linear(x, weights.q.weight), k = at::linear(latents.states_BSE, weights.k.weight);
  const at::Tensor v = at::linear(latents.states_BSE, weights.v.weight);
  at::Tensor out = at::zeros({B, T, config.num_heads * K}, x.options());
  for (int64_t b = 0; b < B; ++b) {
    for (int64_t t = 0; t < T; ++t) {
      for (int64_t h = 0; h < config.num_heads; ++h) {
        const at::Tensor query = q[b][t].narrow(0, h * K, K);
        double total = 0;
        at::Tensor sum = at::zeros({K}, x.options());
        for (int64_t s = 0; s < latents.states_BSE.size(1); ++s) {
          if (latents.mask_BS.defined() && !latents.mask_BS[b][s].item<bool>()) continue;
          const double p = std::exp(at::dot(query, k[b][s].narrow(0, h / R * K, K)).item<double>() / std::sqrt(double(K)));
          total += p;
          sum += p * v[b][s].narrow(0, h / R * K, K);
        }
        if (total > 0) out[b][t].narrow(0, h * K, K).copy_(sum / total);
      }
    }
  }
  return at::linear(out, weights.o.weight);
}

struct Case {
  int64_t heads, kv_heads, head_dim, width;
  bool masked;
};

class CrossAttentionForms : public testing::TestWithParam<Case> {};

TEST_P(CrossAttentionForms, BothEqualTheFormula) {
  at::manual_seed(7);
  const Case c = GetParam();
  const auto options = at::TensorOptions().dtype(at::kDouble);
  const StackConfig config = sizes(c.heads, c.kv_heads, c.head_dim);
  const CrossAttention weights = random_weights(config, c.width, options);
  const at::Tensor x = at::randn({2, 3, config.hidden_size}, options);
  Latents latents{at::randn({2, 11, c.width}, options), {}};
  if (c.masked) {
    latents.mask_BS = at::ones({2, 11}, at::kBool);
    latents.mask_BS[0].narrow(0, 6, 5).fill_(false);
    latents.mask_BS[1].fill_(false);  // a context of padding alone adds nothing
  }
  const at::Tensor expected = slow_reference(weights, config, x, latents);
  for (const auto form : {CrossAttentionForm::materialised, CrossAttentionForm::absorbed}) {
    const at::Tensor found = cross_attention(weights, config, x, latents, form);
    EXPECT_LT(norm_error(found, expected), 1e-12);
    const at::Tensor narrow = cross_attention(
        {weights.norm.to(at::kFloat), {weights.q.weight.to(at::kFloat), {}}, {weights.k.weight.to(at::kFloat), {}},
         {weights.v.weight.to(at::kFloat), {}}, {weights.o.weight.to(at::kFloat), {}}},
        config, x.to(at::kFloat), {latents.states_BSE.to(at::kFloat), latents.mask_BS}, form);
    EXPECT_LT(norm_error(narrow, expected), 1e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, CrossAttentionForms,
                         testing::Values(Case{4, 4, 8, 24, false}, Case{6, 2, 8, 24, true}, Case{3, 1, 10, 16, true}, Case{9, 3, 4, 40, false}));

TEST(CrossAttention, OneContextServesAWholeBatch) {
  at::manual_seed(8);
  const StackConfig config = sizes(4, 2, 8);
  const CrossAttention weights = random_weights(config, 24, at::kDouble);
  const at::Tensor x = at::randn({3, 2, config.hidden_size}, at::kDouble), states = at::randn({1, 9, 24}, at::kDouble);
  const at::Tensor expected = slow_reference(weights, config, x, {states.expand({3, 9, 24}), {}});
  for (const auto form : {CrossAttentionForm::materialised, CrossAttentionForm::absorbed}) {
    EXPECT_LT(norm_error(cross_attention(weights, config, x, {states, {}}, form), expected), 1e-12);
  }
}

TEST(CrossAttention, BreakEvenIsThePublishedOne) {
  StackConfig llama = sizes(32, 32, 128), smollm = sizes(9, 3, 64);
  EXPECT_EQ(choose_cross_attention_form(llama, 1024, 145), CrossAttentionForm::absorbed);
  EXPECT_EQ(choose_cross_attention_form(llama, 1024, 147), CrossAttentionForm::materialised);
  EXPECT_EQ(choose_cross_attention_form(smollm, 576, 21), CrossAttentionForm::absorbed);
  EXPECT_EQ(choose_cross_attention_form(smollm, 576, 24), CrossAttentionForm::materialised);
}

}  // namespace
}  // namespace cepe
