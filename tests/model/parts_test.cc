// The additions that training starts from, casting, and what is trainable.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "model/fixtures.h"
#include "model/loss.h"

namespace cepe {
namespace {

Cepe with_parts(const AdditionOptions& options) {
  Cepe model = open_fixture("families/llama-mqa").model;
  add_cepe_parts(model, options);
  return model;
}

const AdditionOptions kSmall{/*encoder_layers=*/1, /*cross_attention_layers=*/2, /*zero_output=*/true,
                             /*encoder_window=*/16, /*chunk_length=*/8};

TEST(Parts, StartAsThePlainDecoder) {
  const at::NoGradGuard no_grad;
  const Cepe plain = open_fixture("families/llama-mqa").model, model = with_parts(kSmall);
  const at::Tensor ids = at::randint(0, 96, {2, 10}, at::kLong);
  const Latents context = encode(model, {at::randint(0, 96, {2, 3, 8}, at::kLong), {}});
  EXPECT_TRUE(at::equal(decode(model, {ids, &context}), decode(plain, {ids})));
}

TEST(Parts, AreCopiedFromTheDecoder) {
  AdditionOptions options = kSmall;
  options.zero_output = false;
  Cepe model = with_parts(options);
  const Layer& last = model.decoder.stack.layers[1];
  const CrossAttention& cross = *last.cross_attention;
  EXPECT_TRUE(at::equal(cross.q.weight, last.self_attention.q.weight));
  EXPECT_TRUE(at::equal(cross.k.weight, last.self_attention.k.weight));
  EXPECT_TRUE(at::equal(cross.o.weight, last.self_attention.o.weight));
  EXPECT_TRUE(at::equal(cross.norm, last.post_attention_norm));
  EXPECT_TRUE(at::equal(model.encoder->stack.layers[0].feed_forward.up.weight,
                        model.decoder.stack.layers[0].feed_forward.up.weight));
  cross.q.weight.zero_();
  EXPECT_GT(last.self_attention.q.weight.abs().sum().item<double>(), 0) << "a copy, not the decoder's own tensor";
}

TEST(Parts, OnlyTheyReceiveGradients) {
  Cepe model = with_parts(kSmall);
  set_trainable(model, true);
  const at::Tensor ids = at::randint(0, 96, {1, 10}, at::kLong);
  for (Parameter& parameter : trainable_parameters(model)) {
    if (parameter.name.find("o_proj") != std::string::npos) parameter.value->detach().normal_();
  }
  const Latents context = encode(model, {at::randint(0, 96, {1, 3, 8}, at::kLong), {}});
  next_token_loss(model, decode(model, {ids, &context}), ids).backward();
  int64_t trained = 0;
  for (const Parameter& parameter : parameters(model)) {
    const bool has = parameter.value->grad().defined();
    EXPECT_EQ(has, parameter.part != Parameter::Part::decoder) << parameter.name;
    if (!has) continue;
    EXPECT_GT(parameter.value->grad().abs().sum().item<double>(), 0) << parameter.name;
    trained += parameter.value->numel();
  }
  int64_t listed = 0;
  for (const Parameter& parameter : trainable_parameters(model)) listed += parameter.value->numel();
  EXPECT_EQ(trained, listed);
}

TEST(Parts, GradientsReachFloat32WeightsThroughTheCast) {
  Cepe model = with_parts(kSmall);
  set_trainable(model, true);
  const Cepe narrow = cast(model, at::kBFloat16);
  const Latents context = encode(narrow, {at::randint(0, 96, {1, 3, 8}, at::kLong), {}});
  EXPECT_EQ(context.states_BSE.scalar_type(), at::kBFloat16);
  const at::Tensor ids = at::randint(0, 96, {1, 10}, at::kLong);
  next_token_loss(narrow, decode(narrow, {ids, &context}), ids).backward();
  const at::Tensor gradient = model.decoder.stack.layers[1].cross_attention->o.weight.grad();
  ASSERT_TRUE(gradient.defined());
  EXPECT_EQ(gradient.scalar_type(), at::kFloat);
  EXPECT_GT(gradient.abs().sum().item<double>(), 0);
}

// Families whose self-attention has what cross-attention has not: biases on q, k and v, on o too, norms of the heads.
class PartsOfFamilies : public testing::TestWithParam<const char*> {
 protected:
  Cepe plain() const { return open_fixture(GetParam()).model; }
  Cepe with_parts(const AdditionOptions& options) const {
    Cepe model = plain();
    add_cepe_parts(model, options);
    return model;
  }
};
INSTANTIATE_TEST_SUITE_P(Families, PartsOfFamilies,
                         testing::Values("families/qwen2", "families/llama-bias", "families/qwen3"),
                         [](const auto& info) {
                           std::string name = std::filesystem::path(info.param).filename().string();
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST_P(PartsOfFamilies, CrossAttentionTakesTheWeightsAlone) {
  AdditionOptions options = kSmall;
  options.zero_output = false;
  const Cepe model = with_parts(options);
  const SelfAttention& self = model.decoder.stack.layers[1].self_attention;
  const CrossAttention& cross = *model.decoder.stack.layers[1].cross_attention;
  for (const auto& [to, from] : {std::pair(&cross.q, &self.q), std::pair(&cross.k, &self.k),
                                 std::pair(&cross.v, &self.v), std::pair(&cross.o, &self.o)}) {
    EXPECT_TRUE(at::equal(to->weight, from->weight));
    EXPECT_FALSE(to->bias.defined());
  }
  const SelfAttention& encoder = model.encoder->stack.layers[0].self_attention;
  const SelfAttention& decoder = model.decoder.stack.layers[0].self_attention;
  ASSERT_EQ(encoder.q.bias.defined(), model.config.decoder.qkv_bias);
  ASSERT_EQ(encoder.o.bias.defined(), model.config.decoder.output_bias);
  if (encoder.q.bias.defined()) {
    EXPECT_TRUE(at::equal(encoder.q.bias, decoder.q.bias));
  }
  if (encoder.q_norm.defined()) {
    EXPECT_TRUE(at::equal(encoder.q_norm, decoder.q_norm));
  }
}

TEST_P(PartsOfFamilies, StartAsThePlainDecoderAndTrain) {
  at::manual_seed(3);
  const Cepe before = plain();
  Cepe model = with_parts(kSmall);
  const at::Tensor ids = at::randint(0, 96, {2, 10}, at::kLong), chunks = at::randint(0, 96, {2, 3, 8}, at::kLong);
  {
    const at::NoGradGuard no_grad;
    const Latents context = encode(model, {chunks, {}});
    EXPECT_TRUE(at::equal(decode(model, {ids, &context}), decode(before, {ids})));
  }
  // From the second step on all parts receive gradients; in the first one only o does, which is zero.
  set_trainable(model, true);
  double first = 0, last = 0;
  for (int64_t step = 0; step < 2; ++step) {
    const Latents context = encode(model, {chunks, {}});
    const at::Tensor loss = next_token_loss(model, decode(model, {ids, &context}), ids);
    loss.backward();
    (step ? last : first) = loss.item<double>();
    const at::NoGradGuard no_grad;
    for (Parameter& parameter : trainable_parameters(model)) {
      at::Tensor gradient = parameter.value->grad();
      ASSERT_TRUE(gradient.defined()) << parameter.name;
      EXPECT_TRUE(at::isfinite(gradient).all().item<bool>()) << parameter.name;
      if (step == 1) {
        EXPECT_GT(gradient.abs().max().item<double>(), 0) << parameter.name;
      }
      parameter.value->sub_(gradient, 0.1);
      gradient.zero_();
    }
  }
  EXPECT_LT(last, first);
}

TEST(Parts, ImpossibleSizesAreRefused) {
  for (const AdditionOptions& options :
       {AdditionOptions{3, 2, true, 16, 8}, AdditionOptions{1, 3, true, 16, 8}, AdditionOptions{1, 1, true, 8, 16}}) {
    EXPECT_THROW(with_parts(options), Error);
  }
}

}  // namespace
}  // namespace cepe
