// Writing step by step against decode(), on the CPU in float64: sequences at positions of their own, contexts of their
// own, and merged matrices.
#include "model/decode_step.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/merged_projections.h"
#include "model/step_against_decode.h"
#include "model/weight_type.h"
#include "speed/shapes.h"

namespace cepe {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

Latents context_of_length(const Cepe& model, int64_t contexts, int64_t chunks) {
  return encode(model, {at::randint(0, 128, {contexts, chunks, 16}, at::kLong), {}});
}

class Steps : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    at::manual_seed(11);
    model_ = open_fixture(GetParam(), at::kDouble).model;
  }
  void expect_equal_to_decode(const StepRun& run) {
    const std::vector<at::Tensor> sequences = random_sequences(run, model_.config.decoder.vocab_size);
    EXPECT_LT(norm_error(logits_by_steps(model_, run, sequences), logits_by_decode(model_, run, sequences)), 1e-12);
  }
  const at::NoGradGuard no_grad_;
  Cepe model_;
};

TEST_P(Steps, EqualDecodeWithoutAContext) {
  expect_equal_to_decode({.prompts = {4}});
  expect_equal_to_decode({.prompts = {3, 0, 9}});
}

TEST_P(Steps, EqualDecodeInEveryFormAndArrangementOfContexts) {
  using Form = CrossAttentionForm;
  for (const Form form : {Form::automatic, Form::absorbed, Form::materialised, Form::cached}) {
    const auto read = [&](int64_t contexts, int64_t chunks) {
      Latents latents = context_of_length(model_, contexts, chunks);
      if (form == Form::cached) latents.cache = cache_context(model_.decoder.stack, latents);
      return latents;
    };
    expect_equal_to_decode({.prompts = {4}, .options = {.contexts = {{read(1, 2), 0, 1}}, .form = form}});
    expect_equal_to_decode({.prompts = {4, 1, 6}, .options = {.contexts = {{read(1, 2), 0, 3}}, .form = form}});
    expect_equal_to_decode({.prompts = {4, 1, 6}, .options = {.contexts = {{read(3, 2), 0, 3}}, .form = form}});
    // Two that share one, one without, one with another length.
    const std::vector<StepContext> mixed = {{read(1, 3), 0, 2}, {read(1, 1), 3, 1}};
    expect_equal_to_decode({.prompts = {4, 1, 6, 2}, .options = {.contexts = mixed, .form = form}});
  }
}

TEST_P(Steps, PaddingInAContextIsNotRead) {
  Latents latents = context_of_length(model_, 2, 2);
  latents.mask_BS = at::rand({2, 32}) < 0.6;
  latents.mask_BS[0].fill_(false);
  expect_equal_to_decode({.prompts = {4, 7}, .options = {.contexts = {{latents, 0, 2}}}});
}

TEST_P(Steps, MergedMatricesGiveTheSameAndTakeNoMemory) {
  const StepRun run{.prompts = {4, 7}, .options = {.contexts = {{context_of_length(model_, 1, 2), 0, 2}}}};
  const std::vector<at::Tensor> sequences = random_sequences(run, model_.config.decoder.vocab_size);
  const at::Tensor expected = logits_by_decode(model_, run, sequences);
  const int64_t bytes = weight_bytes(model_);
  EXPECT_EQ(merge_projections(model_), model_.config.decoder.num_layers);
  EXPECT_EQ(weight_bytes(model_), bytes);
  for (const Layer& layer : model_.decoder.stack.layers) {
    const SelfAttention& self = layer.self_attention;
    EXPECT_TRUE(self.k.weight.is_alias_of(self.qkv.weight) && self.k.weight.is_contiguous());
    EXPECT_TRUE(layer.feed_forward.up.weight.is_alias_of(layer.feed_forward.gate_up.weight));
  }
  EXPECT_LT(norm_error(logits_by_decode(model_, run, sequences), expected), 1e-13);
  EXPECT_LT(norm_error(logits_by_steps(model_, run, sequences), expected), 1e-12);
}

TEST_P(Steps, ContextsAreReplaced) {
  const std::vector<StepContext> mixed = {{context_of_length(model_, 1, 3), 0, 2},
                                          {context_of_length(model_, 1, 1), 3, 1}};
  const std::vector<StepContext> alike = {{context_of_length(model_, 4, 2), 0, 4}};
  for (const bool change : {false, true}) {
    const auto check = [&](const std::vector<StepContext>& before, const std::vector<StepContext>& after) {
      expect_equal_to_decode(
          {.prompts = {4, 1, 6, 2}, .options = {.contexts = after, .contexts_change = change}, .before = before});
    };
    check(mixed, alike);
    check(alike, mixed);
    check({}, mixed);
    check(mixed, {});
  }
}

TEST_P(Steps, GreedyTokensGoFromStepToStep) {
  const KeyValueCache cache = make_cache(model_.decoder.stack, 2, 8);
  DecodeStep step(model_, cache, {.contexts = {{context_of_length(model_, 1, 1), 1, 1}}});
  step.place(std::vector<int64_t>{5, 6}, std::vector<int64_t>{0, 0});
  for (int64_t i = 0; i < 8; ++i) {
    const at::Tensor best = step.run().argmax(-1);
    EXPECT_TRUE(at::equal(step.ids(), best));
    EXPECT_EQ(step.positions(), (std::vector<int64_t>{i + 1, i + 1}));
  }
  EXPECT_THAT([&] { step.run(); }, ThrowsMessage<Error>(HasSubstr("after 8 does not fit in a key-value cache of 8")));
}

TEST_P(Steps, WhatDoesNotFitIsRefused) {
  const KeyValueCache cache = make_cache(model_.decoder.stack, 2, 8);
  DecodeStep step(model_, cache);
  const std::vector<int64_t> zeros = {0, 0};
  const int64_t vocabulary = model_.config.decoder.vocab_size;
  EXPECT_THROW(step.place(std::vector<int64_t>{0, vocabulary}, zeros), Error);
  EXPECT_THROW(step.place(std::vector<int64_t>{-1, 0}, zeros), Error);
  EXPECT_THROW(step.place(zeros, std::vector<int64_t>{0, 8}), Error);
  EXPECT_THROW(step.place(std::vector<int64_t>{0}, std::vector<int64_t>{0}), Error);
  const Latents context = context_of_length(model_, 1, 1), two = context_of_length(model_, 2, 1);
  const auto made = [&](std::vector<StepContext> contexts) { DecodeStep(model_, cache, {.contexts = contexts}); };
  EXPECT_THROW(made({{context, 1, 2}}), Error) << "beyond the batch";
  EXPECT_THROW(made({{context, 0, 2}, {context, 1, 1}}), Error) << "two contexts for one sequence";
  EXPECT_THROW(made({{two, 0, 1}}), Error) << "two contexts for one sequence";
  EXPECT_THROW(step.set_contexts({{context, 1, 2}}), Error) << "beyond the batch";
}

// A run that fails in its middle leaves open where the device stands: the host asks, and then puts it there.
TEST_P(Steps, AfterAFailedRunTheSequencesArePlacedAnew) {
  const auto logits_of = [&](bool fails) {
    const KeyValueCache cache = make_cache(model_.decoder.stack, 2, 8);
    DecodeStep step(model_, cache);
    const std::vector<int64_t> ids = {5, 6}, first = {0, 0}, second = {1, 1};
    step.place(ids, first);
    step.run();
    if (fails) {
      const at::Tensor head = model_.decoder.lm_head;
      model_.decoder.lm_head = head.narrow(1, 0, 3);
      EXPECT_ANY_THROW(step.run());
      model_.decoder.lm_head = head;
      EXPECT_THAT([&] { step.run(); }, ThrowsMessage<Error>(HasSubstr("place the sequences again")));
    }
    step.place(ids, second);
    at::Tensor logits = step.run().clone();
    EXPECT_EQ(step.positions(), (std::vector<int64_t>{2, 2}));
    return logits;
  };
  EXPECT_TRUE(at::equal(logits_of(true), logits_of(false)));
}

INSTANTIATE_TEST_SUITE_P(Models, Steps, testing::Values("cepe-mha", "cepe-gqa-last2"));

TEST(StepsOfFamilies, BiasesAndHeadNorms) {
  const at::NoGradGuard no_gradients;
  at::manual_seed(12);
  for (const bool norms : {false, true}) {
    CepeConfig config = shape_config(norms ? "qwen3-8b" : "qwen2.5-0.5b");
    StackConfig& sizes = config.decoder;
    sizes.vocab_size = 64, sizes.hidden_size = 32, sizes.intermediate_size = 48, sizes.num_layers = 2;
    sizes.num_heads = 4, sizes.num_kv_heads = 2, sizes.head_dim = 16;
    Cepe model = random_model(config, {.dtype = at::kDouble});
    for (const Parameter& parameter : parameters(model)) {
      if (parameter.shape.size() == 1) parameter.value->normal_(1, 0.2);
    }
    const StepRun run{.prompts = {4, 0, 7}};
    const std::vector<at::Tensor> sequences = random_sequences(run, sizes.vocab_size);
    const at::Tensor expected = logits_by_decode(model, run, sequences);
    EXPECT_LT(norm_error(logits_by_steps(model, run, sequences), expected), 1e-12) << norms;
    EXPECT_EQ(merge_projections(model), 2);
    EXPECT_LT(norm_error(logits_by_steps(model, run, sequences), expected), 1e-12) << norms << ", merged";
  }
}

// decode() widens the matrices for a prompt's many rows; few rows are rounded to 16 bits in groups.
TEST(StepsOfFamilies, QuantisedWeightsMergedOrNotGiveWhatDecodeGives) {
  const at::NoGradGuard no_gradients;
  at::manual_seed(13);
  Cepe model = open_fixture("cepe-mha").model;
  quantise_weights(model, WeightType::int8);
  const int64_t bytes = weight_bytes(model);
  const StepRun run{.prompts = {4, 7}};
  const std::vector<at::Tensor> sequences = random_sequences(run, model.config.decoder.vocab_size);
  const at::Tensor expected = logits_by_decode(model, run, sequences);
  EXPECT_LT(norm_error(logits_by_steps(model, run, sequences), expected), 2e-4);
  EXPECT_EQ(merge_projections(model), model.config.decoder.num_layers);
  EXPECT_EQ(weight_bytes(model), bytes) << "views";
  EXPECT_LT(norm_error(logits_by_steps(model, run, sequences), expected), 2e-4);
  EXPECT_LT(norm_error(logits_by_decode(model, run, sequences), expected), 2e-4);
}

TEST(StepsOfFamilies, FrequenciesThatChangeWithTheLengthAreRefused) {
  Cepe model = open_fixture("cepe-mha").model;
  model.config.decoder.rope.kind = RopeKind::dynamic;
  const int64_t window = model.config.decoder.max_positions;
  EXPECT_TRUE(can_step(model, window));
  EXPECT_FALSE(can_step(model, window + 1));
  EXPECT_FALSE(step_pays(model)) << "a CPU";
}

TEST(StepChains, ByName) {
  EXPECT_EQ(step_chain_from_name("automatic"), StepChain::automatic);
  EXPECT_EQ(step_chain_from_name("always"), StepChain::always);
  EXPECT_EQ(step_chain_from_name("never"), StepChain::never);
  EXPECT_THAT([] { step_chain_from_name("sometimes"); }, ThrowsMessage<Error>(HasSubstr("found \"sometimes\"")));
}

}  // namespace
}  // namespace cepe
