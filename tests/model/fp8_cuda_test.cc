// A small model in fp8 beside itself in bfloat16: every product is rounded, and the logits stay near.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/fixtures.h"
#include "model/merged_projections.h"
#include "model/weight_type.h"
#include "ops/cuda_device.h"
#include "ops/gemm/fp8.h"
#include "speed/shapes.h"

namespace cepe {
namespace {

class Fp8Model : public testing::Test {
 protected:
  void SetUp() override {
    require_cuda();
    ASSERT_EQ(fp8_refusal(at::Device(at::kCUDA, 0)), "");
    at::manual_seed(19);
    wide_ = random_model(small_config("smollm2-135m+2x2", 4, 4, 64), {.device = at::kCUDA, .dtype = at::kBFloat16});
    narrow_ = wide_;
    sizes_ = quantise_weights(narrow_, WeightType::fp8);
    merge_projections(narrow_);
    ids_ = at::randint(1000, {2, 24}, at::TensorOptions().device(at::kCUDA).dtype(at::kLong));
    chunks_ = at::randint(1000, {2, 5, 32}, ids_.options());
  }
  at::Tensor outputs(const Cepe& model, CrossAttentionForm form) const {
    const at::NoGradGuard no_grad;
    const Latents context = encode(model, {chunks_, {}});
    DecodeInput input{ids_, &context};
    input.form = form;
    return logits(model, decode(model, input));
  }

  Cepe wide_, narrow_;
  QuantisedSizes sizes_;
  at::Tensor ids_, chunks_;
};

// Rounding to three bits of mantissa leaves 2.6 % of a normal value, so a product of two such factors 3.7 % and the
// feed-forward part's two products in a row some 7 %; branches of five layers add up as independent errors, relative to
// a residual stream that grows as they do. bfloat16 alone stays under 2 %.
TEST_F(Fp8Model, LogitsStayNear) {
  EXPECT_EQ(sizes_.left, 0);
  EXPECT_EQ(sizes_.matrices, 5 * 7 + 2 * 4);
  for (const CrossAttentionForm form : {CrossAttentionForm::materialised, CrossAttentionForm::absorbed}) {
    const double error = norm_error(outputs(narrow_, form), outputs(wide_, form));
    fmt::print("logits in fp8: {:.1f} % from those in bfloat16\n", 100 * error);
    EXPECT_GT(error, 0.005) << "something is rounded";
    EXPECT_LT(error, 0.15);
  }
}

// Products of few rows do not round the activations: what is written one token after another is nearer to bfloat16 by
// the half of the error that activations make (1 / sqrt(2) of it), and differs from all at once by as much.
TEST_F(Fp8Model, OneTokenAfterAnotherIsNearerThanAllAtOnce) {
  const at::NoGradGuard no_grad;
  const at::Tensor whole = logits(narrow_, decode(narrow_, {ids_}));
  const at::Tensor wide = logits(wide_, decode(wide_, {ids_})), steps = token_by_token(narrow_, ids_);
  EXPECT_LT(norm_error(steps, wide), norm_error(whole, wide));
  EXPECT_LT(norm_error(steps, whole), 0.15);
}

TEST_F(Fp8Model, RefusesOtherTypes) {
  Cepe model = random_model(wide_.config, {.device = at::kCUDA, .dtype = at::kFloat});
  EXPECT_THROW(quantise_weights(model, WeightType::fp8), Error);
}

}  // namespace
}  // namespace cepe
