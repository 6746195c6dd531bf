// A decoder whose matrices are held in 8 or 4 bits: close to the original, the same with a cache and without.
#include "model/weight_type.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/fixtures.h"

namespace cepe {
namespace {

// SmolLM2-like sizes that int4 can hold: widths are multiples of 32.
Cepe model_of(const char* fixture) { return open_fixture(fixture).model; }

at::Tensor outputs(const Cepe& model) {
  const at::NoGradGuard no_grad;
  const at::Tensor ids = at::arange(48, at::kLong).view({2, 24});
  const Latents context = encode(model, {at::arange(48, at::kLong).view({2, 3, 8}), {}});
  return logits(model, decode(model, {ids, &context}));
}

TEST(PackWeights, ChangesTheModelAsLittleAsRoundingDoes) {
  // Random matrices hold normal values: 8 bits leave 0.8 % of each, 4 bits 8 %, and a few layers add up.
  for (const auto& [type, least, most] : {std::tuple{WeightType::int8, 1e-3, 0.03}, {WeightType::int4, 0.02, 0.3}}) {
    Cepe model = model_of("cepe-mha");
    const at::Tensor before = outputs(model);
    const QuantisedSizes sizes = quantise_weights(model, type);
    EXPECT_GT(sizes.matrices, 0);
    EXPECT_LT(sizes.bytes, sizes.bytes_before / 2) << "of float32";
    const double error = ((outputs(model) - before).norm() / before.norm()).item<double>();
    EXPECT_GT(error, least) << weight_type_name(type);
    EXPECT_LT(error, most) << weight_type_name(type);
  }
}

TEST(PackWeights, IsTheModelOfTheRoundedMatrices) {
  Cepe packed = model_of("cepe-gqa-last2");
  const QuantisedSizes sizes = quantise_weights(packed, WeightType::int8);
  EXPECT_EQ(sizes.left, 0);
  Cepe rounded = packed;
  const auto widen = [](Linear& linear) {
    ASSERT_TRUE(linear.quantised);
    linear.weight = dequantise_weight(*linear.quantised, at::kFloat);
    linear.quantised.reset();
  };
  for (Layer& layer : rounded.decoder.stack.layers) {
    SelfAttention& self = layer.self_attention;
    FeedForward& mlp = layer.feed_forward;
    for (Linear* linear : {&self.q, &self.k, &self.v, &self.o, &mlp.gate, &mlp.up, &mlp.down}) widen(*linear);
    if (layer.cross_attention) widen(layer.cross_attention->q), widen(layer.cross_attention->o);
  }
  rounded.decoder.lm_head = head_weight(packed);
  rounded.decoder.quantised_head.reset();
  EXPECT_LT(((outputs(packed) - outputs(rounded)).norm() / outputs(rounded).norm()).item<double>(), 3e-4);
}

// The kernels of few and of many rows are different ones.
TEST(PackWeights, OneTokenAfterAnotherIsTheSameAsAllAtOnce) {
  for (const WeightType type : {WeightType::int8, WeightType::int4}) {
    Cepe model = model_of("cepe-mha");
    quantise_weights(model, type);
    const at::NoGradGuard no_grad;
    const at::Tensor ids = at::arange(24, at::kLong).view({1, 24});
    const at::Tensor whole = logits(model, decode(model, {ids}));
    const double error = norm_error(token_by_token(model, ids), whole);
    EXPECT_LT(error, 2e-4) << weight_type_name(type);
  }
}

TEST(PackWeights, NamesAreThoseOfTheOption) {
  EXPECT_EQ(weight_type_from_name("int4", "weights"), WeightType::int4);
  EXPECT_EQ(weight_type_from_name("stored", "weights"), WeightType::stored);
  EXPECT_EQ(weight_type_from_name("fp8", "weights"), WeightType::fp8);
  EXPECT_THROW(weight_type_from_name("fp4", "weights"), Error);
}

TEST(PackWeights, Fp8NeedsAHopperGpu) {
  Cepe model = model_of("cepe-mha");
  const at::Tensor before = outputs(model);
  try {
    quantise_weights(model, WeightType::fp8);
    FAIL() << "no error";
  } catch (const Error& error) {
    const std::string what = error.what();
    EXPECT_NE(what.find("fp8 weights"), std::string::npos) << what;
    EXPECT_NE(what.find("compute capability 9.0"), std::string::npos) << what;
  }
  EXPECT_TRUE(at::equal(outputs(model), before)) << "left as it was";
}

}  // namespace
}  // namespace cepe
