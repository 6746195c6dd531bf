// Runs with variants of cross-attention, and weights of labels by evidence.
#include <ATen/ATen.h>

#include <cmath>

#include "model/checkpoint/checkpoint.h"
#include "ops/ops.h"
#include "train/objective.h"
#include "train/sample_shards.h"
#include "train/trainer_fixture.h"

namespace cepe {
namespace {

class VariantsTest : public TrainerTest {
 protected:
  // Samples that ask beside plain ones: padded chunks, chunks that are left out, contexts without a chunk.
  TrainJob varied(const std::string& name) const {
    write_samples(directory_ / "ask.tokens", planned_samples(12));
    TrainJob run = job(name);
    TrainConfig& c = run.config;
    c.stage = Stage::ask;
    c.ask = c.ask_validation = {(directory_ / "ask.tokens").string()};
    c.ask_weights = {"needle=2", "chain=0.5"};
    c.zero_output = false;
    c.cross_attention_at = {0};
    c.query_log_scale = 0.3, c.query_log_tokens = 4;
    c.null_key = true;
    c.position_buckets = 4;
    c.pooling = 3;
    c.evidence_weight = 0.5;
    c.learning_rate = 1e-2;
    return run;
  }
  static CrossAttention trained(const TrainJob& run) {
    return *open_model(run.run / "final", {.base = kPlain}).model.decoder.stack.layers[0].cross_attention;
  }
};

TEST_F(VariantsTest, AreTrainedResumedAndRecorded) {
  const TrainJob whole = varied("whole");
  EXPECT_TRUE(train(whole).finished);
  const OpenedModel opened = open_model(whole.run / "final", {.base = kPlain});
  const CrossVariants expected{.layers = {0},
                               .query_log_scale = 0.3,
                               .query_log_tokens = 4,
                               .null_key = true,
                               .position_buckets = 4,
                               .position_states = 3,
                               .pooling = 3};
  EXPECT_EQ(opened.model.config.decoder.cross, expected);
  EXPECT_GT(trained(whole).null_key.abs().min().item<double>(), 0);
  EXPECT_GT(trained(whole).position_keys[0].abs().min().item<double>(), 0);
  for (const nlohmann::json& record : log(whole)) {
    EXPECT_TRUE(!record.contains("loss") || std::isfinite(record["loss"].get<double>()));
  }
  TrainJob stopped = varied("stopped");
  stopped.config.steps = 12;
  std::atomic<bool> stop{true};  // after the first step
  stopped.stop = &stop;
  EXPECT_FALSE(train(stopped).finished);
  stop = false;
  EXPECT_TRUE(train(stopped).finished);
  EXPECT_EQ(final_hash(stopped), final_hash(whole));
}

TEST_F(VariantsTest, PartsKeepTheirs) {
  TrainJob first = varied("first");
  first.config.steps = 1;
  train(first);
  TrainJob next = job("next");
  next.config.parts = (first.run / "final").string();
  next.config.steps = 1;
  EXPECT_TRUE(train(next).finished);
  CrossVariants kept = open_model(next.run / "final", {.base = kPlain}).model.config.decoder.cross;
  EXPECT_EQ(kept, open_model(first.run / "final", {.base = kPlain}).model.config.decoder.cross);
  next = job("more");
  next.config.parts = (first.run / "final").string();
  next.config.steps = 1;
  next.config.query_log_scale = 0.7, next.config.query_log_tokens = 9;
  EXPECT_TRUE(train(next).finished);
  kept.query_log_scale = 0.7, kept.query_log_tokens = 9;
  EXPECT_EQ(open_model(next.run / "final", {.base = kPlain}).model.config.decoder.cross, kept);
  next.config.cross_attention_at = {1};
  next.run = directory_ / "other";
  EXPECT_NE(refusal(next).find("model.cross_attention_at: the parts have their cross-attention already"),
            std::string::npos);
}

TEST_F(VariantsTest, WhatMakesNoSenseIsRefused) {
  TrainJob run = varied("run");
  run.config.cross_attention_at = {1, 1};
  EXPECT_NE(refusal(run).find("[model]: layers with cross-attention should ascend"), std::string::npos);
  run = job("published", kPublished);
  run.config.null_key = true;
  EXPECT_NE(refusal(run).find("the published layout knows no variants"), std::string::npos);
  EXPECT_FALSE(fs::exists(run.run / "final"));
}

// A position bias of zeros changes nothing: the first step's loss is that of a run without.
TEST_F(VariantsTest, PositionsBeginWithoutEffect) {
  std::vector<double> losses;
  for (const int64_t buckets : {0, 4}) {
    TrainJob run = job(fmt::format("of-{}", buckets));
    run.config.zero_output = false;
    run.config.position_buckets = buckets;
    run.config.steps = 1;
    train(run);
    losses.push_back(log(run)[0]["loss"].get<double>());
  }
  EXPECT_NEAR(losses[0], losses[1], 1e-6);
}

// -log p of the labels with the context and without, from the logits of all positions.
TEST_F(VariantsTest, EvidenceWeighsWhatTheContextTells) {
  OpenedModel opened = open_model(std::string(kPublished));
  const Cepe model = cast(opened.model, at::kDouble);
  const at::NoGradGuard no_grad;
  TrainConfig config = job("run").config;
  std::vector<int64_t> span(static_cast<size_t>(config.span_tokens()));
  for (size_t t = 0; t < span.size(); ++t) span[t] = static_cast<int64_t>(t * t * 7 % 128);
  const Batch batch = lay_out(config, {plain_sample(config, span.data(), 3), plain_sample(config, span.data(), 3)});
  const at::Tensor ids = batch.decoder_BT1.narrow(1, 0, 16), labels = batch.decoder_BT1.narrow(1, 1, 16);
  const auto losses = [&](const Latents* context) {
    const at::Tensor log_p = logits(model, decode(model, {ids, context})).log_softmax(-1);
    return log_p.gather(2, labels.unsqueeze(2)).squeeze(2).neg().flatten();
  };
  const Latents context = encode(model, {batch.ids_BML, {}});
  const at::Tensor own = losses(&context), gain = (losses(nullptr) - own).clamp(0, kMostEvidence);
  const at::Tensor expected = (1 + 2.5 * gain) / (1 + 2.5 * gain).mean();
  EXPECT_GT(gain.max().item<double>(), 0.01);
  EXPECT_LT((evidence_weights(model, batch, own, 2.5) - expected).abs().max().item<double>(), 1e-5);
  const double loss = NextToken(2.5).loss_sum(model, batch).item<double>();
  EXPECT_NEAR(loss / (expected * own).sum().item<double>(), 1, 1e-5);
}

}  // namespace
}  // namespace cepe
