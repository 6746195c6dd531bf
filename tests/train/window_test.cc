// Stage window: the decoder itself, trained with full attention over scaled positions.
#include <ATen/ATen.h>

#include <cmath>

#include "model/checkpoint/checkpoint.h"
#include "train/samples/held_out_spans.h"
#include "train/stages/window_model.h"
#include "train/trainer_fixture.h"

namespace cepe {
namespace {

class WindowTest : public TrainerTest {
 protected:
  TrainJob window_job(const std::string& name, WindowRope rope = WindowRope::linear) const {
    TrainJob run = job(name);
    TrainConfig& c = run.config;
    c.stage = Stage::window;
    c.window_rope = rope;
    c.window_factor = 2;
    c.decoder_tokens = 200;  // of a decoder of 128 positions
    c.keep_checkpoints = 9;
    return run;
  }
};

TEST_F(WindowTest, LossFallsAndTheResultIsThatModel) {
  for (WindowRope rope : {WindowRope::linear, WindowRope::yarn}) {
    TrainJob run = window_job(rope == WindowRope::yarn ? "yarn" : "linear", rope);
    run.config.steps = 60;
    run.config.learning_rate = 1e-2;
    run.config.checkpoint_every = 0;
    EXPECT_TRUE(train(run).finished);
    const std::vector<nlohmann::json> records = log(run);
    const double first = records[0]["loss"], last = records[59]["loss"];
    EXPECT_LT(last, 0.7 * first);
    EXPECT_EQ(records[0]["tokens"], 4 * 200);
    // The directory opened anew, the validation's samples scored from whole logits in float64.
    const OpenedModel opened = open_model(run.run / "final");
    EXPECT_EQ(opened.kind, "Hugging Face directory");
    EXPECT_EQ(decoder_window(opened.model.config.decoder), 256);
    const nlohmann::json scaling = nlohmann::json::parse(read_file(run.run / "final/config.json"))["rope_scaling"];
    EXPECT_EQ(scaling["rope_type"], rope == WindowRope::yarn ? "yarn" : "linear");
    EXPECT_EQ(scaling["factor"], 2);
    const Cepe exact = cast(opened.model, at::kDouble);
    const Corpus corpus = open_corpus(run.config.validation);
    double sum = 0;
    const HeldOutSpans drawn = draw_held_out_spans(corpus, 201, run.config.validation_samples);
    const at::NoGradGuard no_grad;
    for (const HeldOutSpan& span : drawn.spans) {
      const at::Tensor ids = at::tensor(span.tokens, at::kLong).unsqueeze(0);
      const at::Tensor log_p = logits(exact, decode(exact, {.ids_BT = ids.narrow(1, 0, 200)})).log_softmax(-1)[0];
      sum -= log_p.gather(1, ids[0].narrow(0, 1, 200).unsqueeze(1)).mean().item<double>();
    }
    const nlohmann::json all = records[60]["text_validation"].back();
    EXPECT_EQ(all["samples"], run.config.validation_samples);
    EXPECT_NEAR(all["loss"].get<double>(), sum / static_cast<double>(drawn.spans.size()), 1e-4);
    EXPECT_FALSE(all.contains("accuracy"));
  }
}

// Every weight has its gradient, the embedding and the head too: the same loss by LibTorch's own graph.
TEST_F(WindowTest, AllWeightsAreTrained) {
  TrainJob run = window_job("run");
  const TrainingData data = open_training_data(run.config);
  WindowModel model({run.config, data});
  const Batch batch = BatchBuilder(run.config, data.train, data.ask).build(0).batches[0];
  model.working()->loss_sum(batch).backward();
  Cepe other = open_model(std::string(kPlain)).model;
  scale_window(other.config.decoder, WindowRope::linear, 2, "");
  other.decoder.stack.config = other.config.decoder;
  Cepe exact = cast(other, at::kDouble);
  const std::vector<Parameter> mine = model.parameters(), theirs = parameters(exact);
  for (const Parameter& parameter : theirs) parameter.value->set_requires_grad(true);
  const at::Tensor labels = batch.decoder_BT1.narrow(1, 1, 200);
  const at::Tensor all = logits(exact, decode(exact, {.ids_BT = batch.decoder_BT1.narrow(1, 0, 200)}));
  const at::Tensor loss = -all.log_softmax(-1).gather(2, labels.unsqueeze(-1)).sum();
  loss.backward();
  ASSERT_EQ(mine.size(), theirs.size());
  for (size_t i = 0; i < mine.size(); ++i) {
    const at::Tensor right = theirs[i].value->grad(), found = mine[i].value->grad().to(at::kDouble);
    EXPECT_GT(right.norm().item<double>(), 0) << mine[i].name;
    EXPECT_LE((found - right).norm().item<double>(), 1e-4 * right.norm().item<double>()) << mine[i].name;
  }
}

TEST_F(WindowTest, ARunGoesOnBitForBit) {
  TrainJob whole = window_job("whole"), stopped = window_job("stopped");
  train(whole);
  train(stopped);
  EXPECT_EQ(open_model(stopped.run / "step-000004").kind, "Hugging Face directory");
  for (const char* later : {"step-000008", "step-000012", "final"}) fs::remove_all(stopped.run / later);
  EXPECT_TRUE(train(stopped).finished);
  EXPECT_EQ(final_hash(stopped), final_hash(whole));
  stopped.config.window_factor = 4;
  EXPECT_NE(refusal(stopped).find("window.factor"), std::string::npos);
}

TEST_F(WindowTest, WhatDoesNotFitIsRefused) {
  TrainJob run = window_job("run");
  run.config.decoder_tokens = 257;
  EXPECT_NE(refusal(run).find("257 tokens exceed the decoder's window of 256"), std::string::npos);
  run = window_job("run");
  run.config.base = kPublished;
  EXPECT_NE(refusal(run).find("trains a plain decoder"), std::string::npos);
  // Said before the run, not at its end: what config.json has no words for.
  fs::copy(kPlain, directory_ / "divided", fs::copy_options::recursive);
  nlohmann::json config = nlohmann::json::parse(read_file(directory_ / "divided/config.json"));
  const int64_t heads = config["num_attention_heads"], width = config["hidden_size"];
  const int64_t head = config.value("head_dim", width / heads);
  config["rope_frequency_divisors"] = std::vector<double>(static_cast<size_t>(head / 2), 2);
  write_file(directory_ / "divided/config.json", config.dump());
  run = window_job("divided-run", WindowRope::none);
  run.config.base = (directory_ / "divided").string();
  run.config.window_factor = 1;
  run.config.decoder_tokens = 16;
  EXPECT_NE(refusal(run).find("rotary frequencies are divided one by one"), std::string::npos) << refusal(run);
  EXPECT_FALSE(fs::exists(run.run));
  run = window_job("run");
  write_corpus(directory_ / "narrow.tokens", {96, {400, 300}});
  run.config.train = run.config.validation = {(directory_ / "narrow.tokens").string()};
  run.config.base = CEPE_TEST_DATA "/families/llama-yarn";
  EXPECT_NE(refusal(run).find("scaled already"), std::string::npos);
  run.config.window_rope = WindowRope::none;
  run.config.window_factor = 1;
  run.config.decoder_tokens = 16;
  run.config.steps = 1;
  EXPECT_TRUE(train(run).finished);
}

}  // namespace
}  // namespace cepe
