// Named shapes against the published parameter counts, and random models of them.
#include "speed/shapes.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "model/fixtures.h"

namespace cepe {
namespace {

using testing::HasSubstr;

// Of the shapes alone: nothing is allocated.
int64_t count_of(const std::string& name, std::optional<Parameter::Part> part = {}) {
  Cepe model;
  model.config = shape_config(name);
  create_modules(model);
  int64_t total = 0;
  for (const Parameter& parameter : parameters(model)) {
    int64_t elements = 1;
    for (const int64_t size : parameter.shape) elements *= size;
    if (!part || parameter.part == *part) total += elements;
  }
  return total;
}

// The totals in the published safetensors files.
TEST(Shapes, HaveThePublishedParameters) {
  EXPECT_EQ(count_of("smollm2-135m"), 134'515'008);
  EXPECT_EQ(count_of("smollm2-360m"), 361'821'120);
  EXPECT_EQ(count_of("smollm2-1.7b"), 1'711'376'384);
  EXPECT_EQ(count_of("tinyllama-1.1b"), 1'100'048'384);
  EXPECT_EQ(count_of("llama-2-7b"), 6'738'415'616);
  EXPECT_EQ(count_of("llama-2-13b"), 13'015'864'320);
  EXPECT_EQ(count_of("llama-3-8b"), 8'030'261'248);
  EXPECT_EQ(count_of("llama-3.1-8b"), 8'030'261'248);
  EXPECT_EQ(count_of("mistral-7b-v0.3"), 7'248'023'552);
  EXPECT_EQ(count_of("qwen2.5-0.5b"), 494'032'768);
  EXPECT_EQ(count_of("qwen2.5-7b"), 7'615'616'512);
  EXPECT_EQ(count_of("qwen3-8b"), 8'190'735'360);
  EXPECT_EQ(decoder_shape_names().size(), 12u);
}

// 8.52 B in all, encoder 0.44 B, cross-attention 1.34 B (arXiv 2402.16617).
TEST(Shapes, ThePublishedEncoder) {
  const std::string name = "llama-2-7b+mlm-large";
  EXPECT_NEAR(1e-9 * count_of(name), 8.52, 0.005);
  EXPECT_NEAR(1e-9 * count_of(name, Parameter::Part::encoder), 0.44, 0.005);
  EXPECT_NEAR(1e-9 * count_of(name, Parameter::Part::cross_attention), 1.34, 0.005);
  const CepeConfig config = shape_config(name);
  EXPECT_EQ(config.num_cross_attn_layers, 32);
  EXPECT_EQ(config.encoder->max_positions, 512);
  EXPECT_EQ(config.chunk_length, 256);
}

// What models/smollm2-135m-cepe holds: 41.6 M.
TEST(Shapes, AnEncoderOfTheDecodersLayers) {
  const CepeConfig config = shape_config("smollm2-135m+8x15");
  EXPECT_EQ(config.encoder->num_layers, 8);
  EXPECT_EQ(config.encoder->hidden_size, 576);
  EXPECT_EQ(config.num_cross_attn_layers, 15);
  EXPECT_EQ(config.encoder_embeddings, EncoderEmbeddings::decoder);
  EXPECT_NEAR(1e-6 * (count_of("smollm2-135m+8x15") - count_of("smollm2-135m")), 41.6, 0.05);
}

std::string refusal(const std::string& name) {
  try {
    shape_config(name);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Shapes, OthersAreRefused) {
  EXPECT_THAT(refusal("llama-9"), HasSubstr("no decoder \"llama-9\"; known are smollm2-135m,"));
  EXPECT_THAT(refusal(""), HasSubstr("no decoder"));
  for (const char* encoder : {"", "8", "x", "8x", "x15", "8x15x", "mlm", "99999999999999999999x1"}) {
    EXPECT_THAT(refusal("smollm2-135m+" + std::string(encoder)), HasSubstr("expected mlm-large")) << encoder;
  }
  for (const char* encoder : {"0x15", "-8x15", "8x0", "31x1", "8x31"}) {
    EXPECT_THAT(refusal("smollm2-135m+" + std::string(encoder)), HasSubstr("should be 1 to 30")) << encoder;
  }
}

TEST(RandomModel, ActivationsAreFiniteAndOfUnitSize) {
  const at::NoGradGuard no_gradients;
  CepeConfig config = open_fixture("cepe-gqa-last2").model.config;
  config.decoder.num_layers = 40;
  config.num_cross_attn_layers = 30;
  config.decoder.qkv_bias = true;
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const Cepe model = random_model(config, {.dtype = dtype});
    EXPECT_EQ(model.dtype(), dtype);
    EXPECT_EQ(model.decoder.stack.layers[0].self_attention.q.bias.abs().max().item<float>(), 0);
    const Latents context = encode(model, {at::randint(128, {2, 3, 8}, at::kLong), {}});
    const at::Tensor out = logits(model, decode(model, {at::randint(128, {2, 9}, at::kLong), &context}));
    EXPECT_EQ(out.scalar_type(), dtype);
    const double size = out.to(at::kDouble).square().mean().sqrt().item<double>();
    EXPECT_GT(size, 0.5);
    EXPECT_LT(size, 2.0);
  }
}

TEST(RandomModel, FollowsItsSeedAndTiesTheHead) {
  CepeConfig config = open_fixture("cepe-mha").model.config;
  config.decoder.tie_embeddings = true;
  Cepe first = random_model(config, {.seed = 3}), same = random_model(config, {.seed = 3});
  Cepe other = random_model(config, {.seed = 4});
  EXPECT_TRUE(first.decoder.lm_head.is_same(first.decoder.stack.embedding));
  const std::vector<Parameter> a = parameters(first), b = parameters(same), c = parameters(other);
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].value->sizes(), at::IntArrayRef(a[i].shape)) << a[i].name;
    EXPECT_TRUE(at::equal(*a[i].value, *b[i].value)) << a[i].name;
    if (a[i].shape.size() < 2) continue;
    EXPECT_FALSE(at::equal(*a[i].value, *c[i].value)) << a[i].name;
    const double deviation = a[i].value->std().item<double>() * std::sqrt(static_cast<double>(a[i].shape[1]));
    EXPECT_NEAR(deviation, 1, 0.1) << a[i].name;
  }
}

}  // namespace
}  // namespace cepe
