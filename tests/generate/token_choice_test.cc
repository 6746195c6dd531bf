// Tokens of a batch's slots, and their log-probabilities.
#include "generate/token_choice.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace cepe {
namespace {

TEST(SlotSamplers, DrawsMoveWithTheirSequence) {
  at::manual_seed(5);
  const at::Tensor logits = at::randn({12, 1, 50}).to(at::kFloat);
  const SamplerOptions options{.temperature = 1, .repetition_penalty = 1.5, .seed = 9};
  const std::vector<TokenId> seen{3, 4};
  Sampler expected(options);
  expected.observe(seen);
  SlotSamplers samplers(at::kCPU, 3, 48);
  samplers.set(0, {}, {});
  samplers.set(2, options, seen);
  int64_t slot = 2;
  for (int64_t i = 0; i < logits.size(0); ++i) {
    if (i == 5) samplers.move(2, 1), slot = 1;
    if (i == 7) samplers.set(2, {.temperature = 1}, {});
    const TokenId found = samplers.choose(logits[i], slot).at(0).token;
    EXPECT_EQ(found, expected.sample({logits[i].const_data_ptr<float>(), 48})) << i;
  }
}

TEST(SlotSamplers, ADamagedRowFailsAlone) {
  at::Tensor logits = at::zeros({3, 10});
  logits[0][4] = 2, logits[1][2] = NAN, logits[2][7] = 3;
  SlotSamplers samplers(at::kCPU, 3, 10);
  for (int64_t slot = 0; slot < 3; ++slot) samplers.set(slot, {}, {});
  const std::vector<TokenChoice> choices = samplers.choose(logits, 0);
  EXPECT_EQ(choices[0].token, 4);
  EXPECT_EQ(choices[0].error, "");
  EXPECT_THAT(choices[1].error, testing::HasSubstr("the logit of token 2 is nan"));
  EXPECT_EQ(choices[2].token, 7);
}

// By hand: logits ln(1), ln(2), ln(5) and ln(2) of a vocabulary of three, and a row of padding.
TEST(LogProbabilities, AreOfTheWholeSoftmaxAndListTheVocabularysBest) {
  const at::Tensor logits = at::tensor({1.0, 2.0, 5.0, 2.0}).log().repeat({3, 1});
  const auto found = log_probabilities(logits, {{2, 0, 2}, {0, 2, 3}, {1, 1, 0}}, 3);
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0].chosen.token, 0);
  EXPECT_NEAR(found[0].chosen.log_probability, std::log(0.1), 1e-6);
  ASSERT_EQ(found[0].best.size(), 2u);
  EXPECT_EQ(found[0].best[0].token, 2);
  EXPECT_NEAR(found[0].best[0].log_probability, std::log(0.5), 1e-6);
  EXPECT_EQ(found[0].best[1].token, 1);
  ASSERT_EQ(found[1].best.size(), 3u);
  EXPECT_EQ(found[1].chosen.log_probability, found[1].best[0].log_probability);
  EXPECT_TRUE(found[2].best.empty());
  EXPECT_NEAR(found[2].chosen.log_probability, std::log(0.2), 1e-6);
  EXPECT_TRUE(log_probabilities(logits, {}, 3).empty());
}

}  // namespace
}  // namespace cepe
