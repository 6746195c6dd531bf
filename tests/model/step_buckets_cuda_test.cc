// Batch buckets as CUDA graphs: sequences come and go, each step's logits against decode() of its whole text.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "model/merged_projections.h"
#include "model/shapes.h"
#include "model/step_against_decode.h"
#include "model/step_buckets.h"
#include "ops/cuda_device.h"

namespace cepe {
namespace {

struct Sequence {
  std::vector<int64_t> tokens;  // all that were read, the one that is read next at the end
  Latents context;
};

class CudaBuckets : public testing::TestWithParam<StepChain> {
 protected:
  void SetUp() override {
    require_cuda();
    at::manual_seed(17);
    const CepeConfig config = small_config("smollm2-135m+1x2", 6, 2, 64);
    model_ = random_model(config, {.device = at::kCUDA, .dtype = at::kBFloat16});
    exact_ = cast(model_, at::kDouble);
    merge_projections(model_);
    cache_ = make_cache(model_.decoder.stack, 5, 128);
    for (const LayerCache& layer : cache_.layers) layer.k_BSGK.fill_(NAN), layer.v_BSGK.fill_(NAN);
  }

  Latents context(int64_t tokens) const {
    return {.states_BSE = at::randn({1, tokens, model_.config.encoder->hidden_size}, model_.any_weight().options())};
  }

  // A sequence at the next place, its prompt but for the last token read.
  void join(int64_t prompt, const Latents& context) {
    const at::Tensor ids = at::randint(model_.config.decoder.vocab_size, {1, prompt}, at::kLong);
    KeyValueCache part = cache_of(cache_, static_cast<int64_t>(sequences_.size()));
    const at::Tensor read = ids.narrow(1, 0, prompt - 1).to(at::kCUDA);
    decode(model_, {.ids_BT = read, .context = &context, .cache = &part, .last = 1});
    const auto* const first = ids.const_data_ptr<int64_t>();
    sequences_.push_back({{first, first + prompt}, context});
  }

  // The sequence at a place ends; the last one takes it.
  void leave(StepBuckets& buckets, int64_t place) {
    const int64_t last = static_cast<int64_t>(sequences_.size()) - 1;
    buckets.move(last, place, static_cast<int64_t>(sequences_[last].tokens.size()) - 1);
    sequences_[place] = sequences_[last];
    sequences_.pop_back();
  }

  at::Tensor by_decode(const Cepe& model, const Sequence& sequence) const {
    Latents context = sequence.context;
    if (context.states_BSE.defined()) context.states_BSE = context.states_BSE.to(model.dtype());
    const at::Tensor ids = at::tensor(sequence.tokens).unsqueeze(0).to(at::kCUDA);
    return logits(model, decode(model, {.ids_BT = ids, .context = &context, .last = 1})).view({-1});
  }

  // So many tokens of all sequences. Returns the size of the step.
  int64_t run(StepBuckets& buckets, int64_t tokens) {
    std::vector<int64_t> ids, positions;
    std::vector<StepContext> contexts;
    for (size_t b = 0; b < sequences_.size(); ++b) {
      ids.push_back(sequences_[b].tokens.back());
      positions.push_back(static_cast<int64_t>(sequences_[b].tokens.size()) - 1);
      if (sequences_[b].context.tokens() > 0) contexts.push_back({sequences_[b].context, static_cast<int64_t>(b), 1});
    }
    DecodeStep& step = buckets.place({ids, positions, contexts});
    for (int64_t i = 0; i < tokens; ++i) {
      const at::Tensor found = step.run().clone();
      for (size_t b = 0; b < sequences_.size(); ++b) {
        const at::Tensor row = found[static_cast<int64_t>(b)], exact = by_decode(exact_, sequences_[b]);
        const double decoded = norm_error(by_decode(model_, sequences_[b]), exact);
        EXPECT_LT(norm_error(row, exact), 1.3 * decoded + 2e-3) << "sequence " << b << ", token " << i;
        sequences_[b].tokens.push_back(row.argmax().item<int64_t>());  // which the step places by itself
      }
    }
    return static_cast<int64_t>(step.positions().size());
  }

  const at::NoGradGuard no_grad_;
  Cepe model_, exact_;
  KeyValueCache cache_;
  std::vector<Sequence> sequences_;
};

TEST_P(CudaBuckets, SequencesComeAndGo) {
  StepBuckets buckets(model_, cache_, {.step = {.chain = GetParam()}});
  const Latents first = context(300);
  join(4, first);
  EXPECT_EQ(run(buckets, 3), 1);
  join(2, context(77));
  join(30, {});
  EXPECT_EQ(run(buckets, 3), 4);
  join(3, first);
  join(12, context(1500));
  EXPECT_EQ(run(buckets, 3), 5);
  leave(buckets, 0);
  leave(buckets, 3);
  EXPECT_EQ(run(buckets, 3), 4) << "the graph is there already, and reads the contexts of those that are left";
  leave(buckets, 1);
  EXPECT_EQ(run(buckets, 3), 2);
  leave(buckets, 1);
  EXPECT_EQ(run(buckets, 3), 1);
  EXPECT_EQ(buckets.made(), 4);
}

INSTANTIATE_TEST_SUITE_P(Chains, CudaBuckets, testing::Values(StepChain::never, StepChain::always));

}  // namespace
}  // namespace cepe
