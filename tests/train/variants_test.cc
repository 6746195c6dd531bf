// Runs with variants of cross-attention, and weights of labels by evidence.
#include <ATen/ATen.h>

#include <cmath>
#include <functional>

#include "model/checkpoint/checkpoint.h"
#include "ops/ops.h"
#include "train/objective.h"
#include "train/sample_shards.h"
#include "train/stages/working_copy.h"
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
  // -log p of all labels, by the logits of all positions and without autograd: how a model that is not trained reads.
  static double summed_loss(const Cepe& model, const Batch& batch) {
    const at::NoGradGuard no_grad;
    const int64_t T = batch.decoder_BT1.size(1) - 1;
    const Latents context = encode(model, {batch.ids_BML, {}});
    const at::Tensor log_p =
        logits(model, decode(model, {batch.decoder_BT1.narrow(1, 0, T), &context})).log_softmax(-1);
    return -log_p.gather(2, batch.decoder_BT1.narrow(1, 1, T).unsqueeze(2)).sum().item<double>();
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

struct Variant {
  const char* name;
  std::function<void(TrainConfig&)> set;
  const char* trains;  // how the names of the parameters that it adds end
};

// Variants one at a time: a run leaves parts whose loss, as training computes it, is that of a reader without autograd,
// and is another where the variant is taken away; its own parameters get a gradient.
TEST_F(VariantsTest, EachAloneTakesEffectInTraining) {
  const std::vector<Variant> variants = {
      {"none", [](TrainConfig&) {}, nullptr},
      {"log", [](TrainConfig& c) { c.query_log_scale = 0.5, c.query_log_tokens = 4; }, nullptr},
      {"null", [](TrainConfig& c) { c.null_key = true; }, "cross_attn.null_key"},
      {"positions", [](TrainConfig& c) { c.position_buckets = 4; }, "cross_attn.position_keys"},
      {"pooling", [](TrainConfig& c) { c.pooling = 3; }, nullptr},
  };
  for (const Variant& variant : variants) {
    SCOPED_TRACE(variant.name);
    TrainJob run = job(variant.name);
    run.config.zero_output = false;
    run.config.learning_rate = 1e-2;
    run.config.steps = 4;
    variant.set(run.config);
    train(run);
    OpenedModel opened = open_model(run.run / "final", {.base = kPlain});
    Cepe model = cast(opened.model, at::kDouble);
    set_trainable(model, true);
    std::vector<int64_t> span(static_cast<size_t>(run.config.span_tokens()));
    for (size_t t = 0; t < span.size(); ++t) span[t] = static_cast<int64_t>(t * t * 7 % 128);
    const Batch batch = lay_out(run.config, {plain_sample(run.config, span.data(), 3)});
    const at::Tensor loss = NextToken().loss_sum(working_copy(model, at::kDouble), batch);
    const double expected = summed_loss(model, batch);
    EXPECT_NEAR(loss.item<double>() / expected, 1, 1e-9);
    Cepe without = model;
    without.config.decoder.cross = without.decoder.stack.config.cross = {};
    const bool changes = std::abs(summed_loss(without, batch) / expected - 1) > 1e-5;
    EXPECT_EQ(changes, std::string(variant.name) != "none");
    const std::vector<at::Tensor> grads = gradients(model, loss);
    const std::vector<Parameter> parameters = trainable_parameters(model);
    size_t own = 0;
    for (size_t i = 0; i < grads.size(); ++i) {
      if (!variant.trains || !parameters[i].name.ends_with(variant.trains)) continue;
      ++own;
      EXPECT_GT(grads[i].abs().max().item<double>(), 1e-6) << parameters[i].name;
    }
    EXPECT_EQ(own, variant.trains ? 1 : 0);
  }
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
