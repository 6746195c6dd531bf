// Steps as a CUDA graph in bfloat16 against the same model in float64, and against decode() in bfloat16.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "model/merged_projections.h"
#include "model/step_against_decode.h"
#include "model/weight_type.h"
#include "ops/cuda_device.h"
#include "speed/shapes.h"

namespace cepe {
namespace {

struct Sizes {
  const char* name;
  int64_t heads, kv_heads, head_dim;
  const char* shape = "smollm2-135m+1x2";
};

class CudaSteps : public testing::TestWithParam<Sizes> {
 protected:
  void SetUp() override {
    require_cuda();
    at::manual_seed(17);
    const Sizes sizes = GetParam();
    const CepeConfig config = small_config(sizes.shape, sizes.heads, sizes.kv_heads, sizes.head_dim);
    model_ = random_model(config, {.device = at::kCUDA, .dtype = at::kBFloat16});
    exact_ = cast(model_, at::kDouble);
    merge_projections(model_);
    ASSERT_TRUE(step_pays(model_));
  }
  Latents context(int64_t contexts, int64_t tokens) const {
    const at::Tensor states =
        at::randn({contexts, tokens, model_.config.encoder->hidden_size}, model_.any_weight().options());
    return {.states_BSE = states};
  }
  // Steps may err as decode() in bfloat16 does, not more.
  void expect_as_exact_as_decode(StepRun run, const std::string& name, double most = 5e-2) {
    run.options.chain = StepChain::always;  // small as these models are
    const std::vector<at::Tensor> sequences = random_sequences(run, model_.config.decoder.vocab_size);
    const at::Tensor exact = logits_by_decode(exact_, run, sequences);
    const double steps = norm_error(logits_by_steps(model_, run, sequences), exact);
    const double decoded = norm_error(logits_by_decode(model_, run, sequences), exact);
    fmt::print("{}, {}: {:.2e} of the norm, decode() {:.2e}\n", GetParam().name, name, steps, decoded);
    EXPECT_LT(steps, 1.3 * decoded + 1e-3) << name;
    EXPECT_LT(steps, most) << name;
  }
  const at::NoGradGuard no_grad_;
  Cepe model_, exact_;
};

TEST_P(CudaSteps, AreAsExactAsDecode) {
  for (const bool graph : {false, true}) {
    const std::string how = graph ? " (graph)" : " (eager)";
    const auto check = [&](std::vector<int64_t> prompts, std::vector<StepContext> contexts, const std::string& name) {
      StepRun run{.prompts = std::move(prompts)};
      run.options.contexts = std::move(contexts);
      run.options.graph = graph;
      expect_as_exact_as_decode(run, name + how);
    };
    check({12}, {}, "one sequence without a context");
    check({12}, {{context(1, 300), 0, 1}}, "one sequence");
    check({12, 1, 40}, {{context(1, 300), 0, 3}}, "three that share a context");
    check({12, 1, 40}, {{context(3, 300), 0, 3}}, "three with a context each");
    check({12, 1, 40, 3}, {{context(1, 300), 0, 2}, {context(1, 77), 3, 1}}, "contexts of different lengths, and none");
    check({12, 1, 40, 3, 7, 2}, {{context(1, 300), 0, 2}, {context(1, 77), 3, 2}}, "six");
    check(std::vector<int64_t>(16, 5), {{context(1, 300), 0, 16}}, "sixteen that share a context");
    check(std::vector<int64_t>(17, 5), {{context(1, 300), 0, 17}}, "seventeen");
  }
}

TEST_P(CudaSteps, KeptKeysAndValuesAndMaterialisedOnes) {
  Latents latents = context(1, 1500);
  latents.cache = cache_context(model_.decoder.stack, latents);
  StepRun run{.prompts = {9, 30}};
  run.options.contexts = {{latents, 0, 2}};
  for (const CrossAttentionForm form : {CrossAttentionForm::cached, CrossAttentionForm::materialised}) {
    run.options.form = form;
    expect_as_exact_as_decode(run, cross_attention_form_name(form));
  }
}

TEST_P(CudaSteps, PaddingInAContextIsNotRead) {
  Latents latents = context(2, 500);
  latents.mask_BS = at::rand({2, 500}, at::TensorOptions().device(at::kCUDA)) < 0.5;
  StepRun run{.prompts = {9, 30}};
  run.options.contexts = {{latents, 0, 2}};
  expect_as_exact_as_decode(run, "padding");
}

// The graph of one step reads whatever contexts it is given: of any lengths, shared, with padding, or none.
TEST_P(CudaSteps, ContextsAreReplacedUnderARecordedGraph) {
  Latents padded = context(1, 200);
  padded.mask_BS = at::rand({1, 200}, at::TensorOptions().device(at::kCUDA)) < 0.5;
  const std::vector<StepContext> lengths = {
      {context(1, 300), 0, 1}, {context(1, 1), 1, 1}, {padded, 2, 1}, {context(1, 4100), 3, 1}};
  const std::vector<StepContext> shared = {{context(1, 90), 1, 3}}, alike = {{context(4, 500), 0, 4}};
  const std::vector<std::vector<StepContext>> all = {lengths, shared, alike, {}};
  for (const auto& before : all) {
    for (const auto& after : all) {
      StepRun run{.prompts = {12, 1, 40, 3}, .before = before};
      run.options.contexts = after, run.options.contexts_change = true;
      expect_as_exact_as_decode(run, "replaced");
    }
  }
  StepRun run{.prompts = {12, 1, 40, 3}, .before = alike};
  run.options.contexts = lengths;
  expect_as_exact_as_decode(run, "recorded again");
  for (StepContext& context : run.options.contexts) context.latents = quantize(context.latents);
  const std::vector<at::Tensor> sequences = random_sequences(run, model_.config.decoder.vocab_size);
  const at::Tensor bytes = logits_by_steps(model_, run, sequences);
  run.options.contexts = lengths;
  EXPECT_LT(norm_error(bytes, logits_by_steps(model_, run, sequences)), 3e-2) << "in 8 bits";
}

// As a server does: one graph, contexts that come and go, while others go on writing.
TEST_P(CudaSteps, ASequenceGoesOnWhileAnothersContextIsReplaced) {
  const StepContext kept{context(1, 700), 1, 1}, other{context(1, 90), 0, 1};
  const int64_t width = kept.latents.states_BSE.size(2);
  const bool fits = width % 64 == 0 && width <= 1024;  // what the kernel asks
  const auto write = [&](bool replace) {
    const KeyValueCache cache = make_cache(model_.decoder.stack, 4, 64);
    DecodeStep step(model_, cache, {.contexts = {kept}, .contexts_change = true});
    EXPECT_EQ(step.has_table(), fits);
    std::vector<at::Tensor> written;
    for (int64_t i = 0; i < 20; ++i) {
      step.place(std::vector<int64_t>{5, 7 + i, 0, 0}, std::vector<int64_t>{i, i, 0, 0});
      if (replace && i % 3 == 2)
        step.set_contexts(i % 2 == 0 ? std::vector<StepContext>{other, kept} : std::vector<StepContext>{kept});
      written.push_back(step.run()[1].clone());
    }
    EXPECT_EQ(step.has_table(), fits);
    return at::stack(written);
  };
  EXPECT_LT(norm_error(write(true), write(false)),
            2e-2);  // readers share the context otherwise, so sums are rounded otherwise
}

// Many greedy tokens without the host: the graph gives what the same kernels give one by one.
TEST_P(CudaSteps, AGraphWritesTheTokensThatKernelsOneByOneWrite) {
  const Latents latents = context(2, 200);
  std::vector<std::vector<at::Tensor>> written;
  for (const bool graph : {false, true}) {
    const KeyValueCache cache = make_cache(model_.decoder.stack, 2, 64);
    DecodeStep step(model_, cache, {.contexts = {{latents, 0, 2}}, .chain = StepChain::always, .graph = graph});
    step.place(std::vector<int64_t>{5, 7}, std::vector<int64_t>{0, 0});
    std::vector<at::Tensor>& tokens = written.emplace_back();
    for (int i = 0; i < 64; ++i) {
      step.run();
      tokens.push_back(step.ids().clone());
    }
    EXPECT_THROW(step.run(), std::exception);
    // Begun anew, the same graph writes the same.
    step.place(std::vector<int64_t>{5, 7}, std::vector<int64_t>{0, 0});
    for (int i = 0; i < 64; ++i) {
      step.run();
      EXPECT_TRUE(at::equal(step.ids(), tokens[i])) << i;
    }
  }
  EXPECT_TRUE(at::equal(at::stack(written[0]), at::stack(written[1])));
}

TEST_P(CudaSteps, QuantisedWeightsAreAsExactAsDecode) {
  for (const WeightType type : {WeightType::int8, WeightType::int4, WeightType::fp8}) {
    model_ = random_model(model_.config, {.device = at::kCUDA, .dtype = at::kBFloat16});
    const int64_t before = weight_bytes(model_);
    quantise_weights(model_, type);
    exact_ = cast(widened(model_), at::kDouble);
    const int64_t bytes = weight_bytes(model_);
    EXPECT_LT(bytes, before);
    EXPECT_EQ(merge_projections(model_), model_.config.decoder.num_layers);
    EXPECT_EQ(weight_bytes(model_), bytes) << "views";
    EXPECT_TRUE(model_.decoder.stack.layers[0].self_attention.qkv.quantised);
    for (const int64_t batch : {1, 3, 4, 6}) {
      StepRun run{.prompts = std::vector<int64_t>(batch, 12)};
      run.options.contexts = {{context(1, 300), 0, batch}};
      // The prompts' activations are rounded to fp8 (tests/model/fp8_cuda_test.cc).
      expect_as_exact_as_decode(run, fmt::format("{}, {} sequences", weight_type_name(type), batch),
                                type == WeightType::fp8 ? 0.15 : 5e-2);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, CudaSteps,
                         testing::Values(Sizes{"4 heads of 64", 4, 4, 64}, Sizes{"6 / 2 heads of 64", 6, 2, 64},
                                         Sizes{"4 / 1 heads of 128", 4, 1, 128},
                                         Sizes{"18 heads of 128, wide rows", 18, 18, 128}),
                         [](const auto& info) { return "case" + std::to_string(info.index); });

}  // namespace
}  // namespace cepe
