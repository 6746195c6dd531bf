// Losses of continuations, beside the log-softmax of the logits of whole sequences.
#include "eval/continuation_losses.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <numeric>

#include "base/error.h"
#include "context/encode_context.h"
#include "eval/lm_fixture.h"

namespace cepe {
namespace {

Context some_context(const Cepe& model) {
  std::vector<TokenId> tokens(20);
  std::iota(tokens.begin(), tokens.end(), 5);
  std::vector<TextChunk> chunks(1);
  chunks[0].tokens = tokens;
  return encode_context(model, chunks);
}

// Of each token by itself, from the distribution over the vocabulary after all that comes before it.
double loss_of(const Cepe& model, const Context* context, std::vector<TokenId> text, const std::vector<TokenId>& more) {
  double loss = 0;
  for (const TokenId token : more) {
    const std::vector<int64_t> ids(text.begin(), text.end());
    DecodeInput input{at::tensor(ids).unsqueeze(0)};
    if (context) input.context = &context->latents;
    const at::Tensor scores = logits(model, decode(model, input))[0][-1];
    loss -= at::log_softmax(scores.to(at::kDouble), 0)[token].item<double>();
    text.push_back(token);
  }
  return loss;
}

TEST(ContinuationLosses, AreThoseOfTheirTokensOneByOne) {
  const Cepe model = open_lm_fixture("generate/published", 0);
  const Context context = some_context(model);
  const std::vector<TokenId> prompt = {7, 3, 11, 20};
  const std::vector<std::vector<TokenId>> continuations = {{4}, {9}, {9, 2}, {9, 30}, {1, 2, 3}};
  for (const Context* read : {static_cast<const Context*>(nullptr), &context}) {
    const std::vector<double> losses = continuation_losses(model, read, prompt, continuations);
    ASSERT_EQ(losses.size(), continuations.size());
    for (size_t i = 0; i < losses.size(); ++i) {
      EXPECT_NEAR(losses[i], loss_of(model, read, prompt, continuations[i]), 1e-8) << i;
    }
  }
  EXPECT_NE(continuation_losses(model, nullptr, prompt, continuations),
            continuation_losses(model, &context, prompt, continuations))
      << "the context is read";
}

TEST(ContinuationLosses, OfAllTokensAreADistribution) {
  const Cepe model = open_lm_fixture("generate/published", 0);
  std::vector<std::vector<TokenId>> all;
  for (TokenId token = 0; token < model.config.decoder.vocab_size; ++token) all.push_back({token});
  double sum = 0;
  for (const double loss : continuation_losses(model, nullptr, std::vector<TokenId>{7, 3}, all)) sum += std::exp(-loss);
  EXPECT_NEAR(sum, 1, 1e-9);
}

TEST(ContinuationLosses, NeedAPromptAndTokens) {
  const Cepe model = open_lm_fixture("generate/published", 0);
  const std::vector<std::vector<TokenId>> one = {{4}}, none = {{}};
  EXPECT_THROW(continuation_losses(model, nullptr, {}, one), Error);
  EXPECT_THROW(continuation_losses(model, nullptr, std::vector<TokenId>{1}, none), Error);
}

}  // namespace
}  // namespace cepe
