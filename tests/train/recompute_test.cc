// train.recompute: the same weights, bit for bit, after runs of every stage; less memory, as the allocator counts it.
#include <ATen/ATen.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <mutex>

#include "model/checkpoint/checkpoint.h"
#include "model/masked_lm/masked_lm.h"
#include "train/backward_thread.h"
#include "train/objective.h"
#include "train/sample_shards.h"
#include "train/stages/working_copy.h"
#include "train/trainer_fixture.h"
#include "train/training_inputs.h"

namespace cepe {
namespace {

constexpr Recompute kWays[] = {Recompute::feed_forward, Recompute::layers};

class RecomputeTest : public TrainerTest {
 protected:
  TrainJob deep_job(Stage stage) const {
    TrainJob run = job("run");
    TrainConfig& c = run.config;
    c.stage = stage;
    c.encoder_layers = c.cross_attention_layers = 2;
    c.zero_output = false;
    c.steps = 4;
    c.learning_rate = 1e-2;
    c.validation_samples = 2;
    return run;
  }
  // The weights that it leaves: each step's depend on every bit of the gradients before.
  void expect_same(const TrainJob& run, const std::string& name) const {
    SCOPED_TRACE(name);
    TrainJob kept = run;
    kept.run = directory_ / (name + "-none");
    train(kept);
    for (const Recompute way : kWays) {
      TrainJob again = run;
      again.config.recompute = way;
      again.run = directory_ / fmt::format("{}-{}", name, static_cast<int>(way));
      train(again);
      EXPECT_EQ(final_hash(again), final_hash(kept)) << static_cast<int>(way);
      EXPECT_EQ(log(again)[3]["loss"], log(kept)[3]["loss"]);
      EXPECT_EQ(log(again)[3]["gradient_norm"], log(kept)[3]["gradient_norm"]);
    }
  }
};

TEST_F(RecomputeTest, StandardRunsEndWithTheSameBits) {
  expect_same(deep_job(Stage::standard), "plain");
  TrainJob one = deep_job(Stage::standard);  // the decoder's first layer records nothing
  one.config.cross_attention_layers = 1;
  one.config.evidence_weight = 0.5;
  expect_same(one, "one-layer");
}

TEST_F(RecomputeTest, AskRunsEndWithTheSameBits) {
  write_samples(directory_ / "ask.tokens", planned_samples(12));  // some without a chunk
  TrainJob run = deep_job(Stage::ask);
  run.config.ask = {(directory_ / "ask.tokens").string()};
  expect_same(run, "ask");
}

TEST_F(RecomputeTest, DistillationEndsWithTheSameBits) { expect_same(deep_job(Stage::distill), "distill"); }

TEST_F(RecomputeTest, WindowRunsEndWithTheSameBits) {
  TrainJob run = deep_job(Stage::window);
  run.config.window_factor = 2;
  run.config.decoder_tokens = 200;
  expect_same(run, "window");
}

TEST_F(RecomputeTest, MaskedLmRunsEndWithTheSameBits) {
  TrainJob run = deep_job(Stage::mlm);
  TrainConfig& c = run.config;
  c.base = "";
  c.chunk_length = 32;
  c.mlm_hidden_size = 24;
  c.mlm_heads = 2;
  c.mlm_intermediate_size = 40;
  c.mlm_positions = 64;
  expect_same(run, "mlm");
}

// Variants project keys in each layer: the states' gradients are summed in another order, so that bits may differ.
TEST_F(RecomputeTest, VariantsHaveTheSameGradients) {
  TrainConfig config = deep_job(Stage::standard).config;
  config.null_key = true;
  config.position_buckets = 4;
  config.query_log_scale = 0.3, config.query_log_tokens = 4;
  OpenedModel opened = open_for_training(config, at::kCPU, at::kFloat);
  std::vector<int64_t> span(static_cast<size_t>(config.span_tokens()));
  for (size_t t = 0; t < span.size(); ++t) span[t] = static_cast<int64_t>(t * t * 7 % 128);
  const Batch batch = lay_out(config, {plain_sample(config, span.data(), 3), plain_sample(config, span.data(), 2)});
  Cepe model = [&] {
    const at::NoGradGuard no_gradients;  // leaves of their own
    return cast(opened.model, at::kDouble);
  }();
  set_trainable(model, true);
  std::vector<std::vector<at::Tensor>> found;
  for (const Recompute way : {Recompute::none, Recompute::feed_forward, Recompute::layers}) {
    model.decoder.stack.recompute = model.encoder->stack.recompute = way;
    found.push_back(gradients(model, NextToken().loss_sum(working_copy(model, at::kDouble), batch)));
  }
  for (size_t i = 0; i < found[0].size(); ++i) {
    EXPECT_GT(found[0][i].abs().max().item<double>(), 0) << i;
    for (const size_t way : {size_t{1}, size_t{2}})
      EXPECT_TRUE(at::allclose(found[way][i], found[0][i], 1e-11, 1e-13)) << i;
  }
}

// In bfloat16, with backward passes on a thread beside the next batch's forward pass.
TEST_F(RecomputeTest, GradientsOnAnotherThreadHaveTheSameBits) {
  const TrainConfig config = deep_job(Stage::standard).config;
  OpenedModel opened = open_for_training(config, at::kCPU, at::kBFloat16);
  std::vector<Batch> batches;
  for (int64_t i = 1; i <= 4; ++i) {
    std::vector<int64_t> span(static_cast<size_t>(config.span_tokens()));
    for (size_t t = 0; t < span.size(); ++t) span[t] = static_cast<int64_t>(t * t * 7 * i % 128);
    batches.push_back(lay_out(config, {plain_sample(config, span.data(), 3), plain_sample(config, span.data(), 2)}));
  }
  std::vector<std::vector<at::Tensor>> found;
  for (const Recompute way : {Recompute::none, Recompute::feed_forward, Recompute::layers}) {
    Cepe& model = opened.model;
    model.decoder.stack.recompute = model.encoder->stack.recompute = way;
    const Cepe working = working_copy(model, at::kBFloat16);
    {
      BackwardThread thread(at::kCPU);
      for (const Batch& batch : batches) {
        const at::Tensor loss = NextToken().loss_sum(working, batch);
        thread.wait();
        if (way == Recompute::none) {
          loss.backward();
        } else {
          thread.start(loss);
        }
      }
      thread.wait();
    }
    found.push_back(gradients(model, at::zeros({}).requires_grad_()));
  }
  for (size_t i = 0; i < found[0].size(); ++i) {
    EXPECT_GT(found[0][i].abs().max().item<double>(), 0) << i;
    for (const size_t way : {size_t{1}, size_t{2}}) EXPECT_TRUE(at::equal(found[way][i], found[0][i])) << i;
  }
}

// What LibTorch's allocator hands out and gets back while one lives.
class LiveBytes : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, int64_t bytes, size_t, size_t, at::Device) override {
    const std::lock_guard lock(mutex_);
    now_ += bytes;
    most_ = std::max(most_, now_);
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t now() const { return now_; }
  int64_t most() const { return most_; }

 private:
  std::mutex mutex_;
  int64_t now_ = 0, most_ = 0;
};

struct Memory {
  int64_t kept, most;  // after the forward pass, and at most
};
Memory memory_of(const MaskedLm& model, const at::Tensor& ids) {
  const auto bytes = std::make_shared<LiveBytes>();
  const c10::DebugInfoGuard counted(c10::DebugInfoKind::PROFILER_STATE, bytes);
  const at::Tensor loss = masked_lm_encode(model, ids, {}).square().sum();
  const int64_t kept = bytes->now();
  loss.backward();
  return {kept, bytes->most()};
}

// Twelve layers of width 64 on 1,024 tokens. A layer's input is 256 KiB, twice where a sum is still to be done; what
// its feed-forward part keeps is 1 MiB a matrix of its width 256.
TEST(RecomputeMemory, KeptActivationsAreFewer) {
  StackConfig config;
  config.vocab_size = 128, config.hidden_size = 64, config.intermediate_size = 256, config.num_layers = 12;
  config.num_heads = config.num_kv_heads = 2, config.head_dim = 32, config.max_positions = 256;
  config.tie_embeddings = true;
  MaskedLm model = random_masked_lm(config, 1, at::kCPU);
  for (const Parameter& parameter : parameters(model)) parameter.value->set_requires_grad(true);
  const at::Tensor ids = at::arange(1024).remainder(128).view({4, 256});
  const auto measured = [&](Recompute way) {
    model.stack.recompute = way;
    for (const Parameter& parameter : parameters(model)) parameter.value->mutable_grad().reset();
    return memory_of(model, ids);
  };
  measured(Recompute::none);  // tables of rotary positions
  const Memory all = measured(Recompute::none), feed_forward = measured(Recompute::feed_forward),
               layers = measured(Recompute::layers);
  fmt::print("KiB kept, at most: {} {}; feed_forward {} {}; layers {} {}\n", all.kept >> 10, all.most >> 10,
             feed_forward.kept >> 10, feed_forward.most >> 10, layers.kept >> 10, layers.most >> 10);
  const int64_t input = 1024 * 64 * 4;
  EXPECT_LE(layers.kept, (2 * config.num_layers + 8) * input);
  EXPECT_LT(feed_forward.kept, all.kept - config.num_layers * 3 * 4 * input);  // three matrices of 256 columns
  EXPECT_LT(layers.most, all.most / 3);
  EXPECT_LT(feed_forward.most, all.most * 2 / 3);
}

}  // namespace
}  // namespace cepe
