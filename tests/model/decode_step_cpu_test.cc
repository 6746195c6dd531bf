// Steps in bfloat16 on a CPU, with quantised weights and others, with our kernels where the processor can run them,
// against the model of the same rounded matrices in float64.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "model/merged_projections.h"
#include "model/step_against_decode.h"
#include "model/weight_type.h"
#include "ops/step/step_ops.h"
#include "speed/shapes.h"

namespace cepe {
namespace {

struct Case {
  WeightType type;
  int64_t heads, kv_heads, head_dim;
};

class CpuSteps : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    at::manual_seed(19);
    const Case& given = GetParam();
    const CepeConfig config = small_config("smollm2-135m+1x2", given.heads, given.kv_heads, given.head_dim);
    model_ = random_model(config, {.dtype = at::kBFloat16});
    quantise_weights(model_, given.type);
    exact_ = cast(widened(model_), at::kDouble);
    bytes_ = weight_bytes(model_);
    EXPECT_EQ(merge_projections(model_), model_.config.decoder.num_layers);
  }
  Latents context(int64_t contexts, int64_t tokens) const {
    return {.states_BSE = at::randn({contexts, tokens, model_.config.encoder->hidden_size}).to(at::kBFloat16)};
  }
  void expect_as_exact_as_decode(const StepRun& run) {
    const std::vector<at::Tensor> sequences = random_sequences(run, model_.config.decoder.vocab_size);
    const at::Tensor exact = logits_by_decode(exact_, run, sequences);
    const double steps = norm_error(logits_by_steps(model_, run, sequences), exact);
    EXPECT_LT(steps, 1.3 * norm_error(logits_by_decode(model_, run, sequences), exact) + 1e-3);
    EXPECT_LT(steps, 5e-2);
  }
  const at::NoGradGuard no_grad_;
  Cepe model_, exact_;
  int64_t bytes_ = 0;
};

TEST_P(CpuSteps, AreAsExactAsDecode) {
  EXPECT_EQ(weight_bytes(model_), bytes_) << "merged matrices are views";
  EXPECT_EQ(step_pays(model_), step_attention_is_fused(at::kCPU, at::kBFloat16, GetParam().head_dim));
  for (const std::vector<int64_t>& prompts : {std::vector<int64_t>{12}, {150}, {12, 1, 40}, {3, 3, 3, 3, 3, 3}}) {
    expect_as_exact_as_decode({.prompts = prompts});
  }
}

TEST_P(CpuSteps, ReadContexts) {
  const auto check = [&](std::vector<int64_t> prompts, std::vector<StepContext> contexts) {
    StepRun run{.prompts = std::move(prompts)};
    run.options.contexts = std::move(contexts);
    expect_as_exact_as_decode(run);
  };
  check({12}, {{context(1, 100), 0, 1}});
  check({12, 1, 40}, {{context(1, 100), 0, 3}});
  check({12, 1, 40, 3}, {{context(1, 100), 0, 2}, {context(1, 37), 3, 1}});
}

INSTANTIATE_TEST_SUITE_P(Shapes, CpuSteps,
                         testing::Values(Case{WeightType::int4, 6, 2, 64}, Case{WeightType::int8, 6, 2, 64},
                                         Case{WeightType::int4, 4, 1, 128}, Case{WeightType::int4, 4, 4, 32},
                                         Case{WeightType::stored, 6, 2, 64}, Case{WeightType::stored, 4, 4, 32}),
                         [](const auto& info) { return "case" + std::to_string(info.index); });

}  // namespace
}  // namespace cepe
