// Batch buckets as CUDA graphs: sequences come and go, each step's logits against decode() of its whole text.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "generate/sequences_in_buckets.h"
#include "model/merged_projections.h"
#include "ops/cuda_device.h"
#include "speed/shapes.h"

namespace cepe {
namespace {

class CudaBuckets : public testing::TestWithParam<StepChain> {
 protected:
  void SetUp() override {
    require_cuda();
    at::manual_seed(17);
    const CepeConfig config = small_config("smollm2-135m+1x2", 6, 2, 64);
    model_ = random_model(config, {.device = at::kCUDA, .dtype = at::kBFloat16});
    exact_ = cast(model_, at::kDouble);
    merge_projections(model_);
  }
  Latents context(int64_t tokens) const {
    return {.states_BSE = at::randn({1, tokens, model_.config.encoder->hidden_size}, model_.any_weight().options())};
  }

  const at::NoGradGuard no_grad_;
  Cepe model_, exact_;
};

TEST_P(CudaBuckets, SequencesComeAndGo) {
  const KeyValueCache cache = make_cache(model_.decoder.stack, 5, 128);
  SequencesInBuckets sequences(
      model_, cache, [&](const at::Tensor& found, const auto& sequence, const std::string& where) {
        const at::Tensor exact = SequencesInBuckets::by_decode(exact_, sequence);
        const double decoded = norm_error(SequencesInBuckets::by_decode(model_, sequence), exact);
        EXPECT_LT(norm_error(found, exact), 1.3 * decoded + 2e-3) << where;
      });
  StepBuckets buckets(model_, cache, {.chain = GetParam()});
  sequences.come_and_go(buckets, [&](int64_t length) { return context(length * length * 170); });  // up to 1,530 tokens
}

INSTANTIATE_TEST_SUITE_P(Chains, CudaBuckets, testing::Values(StepChain::never, StepChain::always));

}  // namespace
}  // namespace cepe
