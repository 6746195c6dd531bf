// Stage distill. The loss is worked out again sample by sample, without padding, from the logits of every position: the
// plain decoder's on the context's and the decoder's tokens, the model's on the decoder's.
#include <ATen/ATen.h>

#include <cmath>
#include <functional>

#include "model/checkpoint/checkpoint.h"
#include "train/objective.h"
#include "train/sample_shards.h"
#include "train/trainer_fixture.h"
#include "train/training_inputs.h"

namespace cepe {
namespace {

struct LogProbs {
  at::Tensor student_TV, teacher_TV;  // log-probabilities after each of the decoder's tokens but the last
};

at::Tensor ids_of(std::vector<int64_t>::const_iterator from, int64_t count) {
  return at::tensor(std::vector<int64_t>(from, from + count), at::kLong).unsqueeze(0);
}

LogProbs log_probs(const Cepe& model, const Sample& sample) {
  const int64_t context = sample.context_tokens(), T = sample.positions();
  std::vector<at::Tensor> states;
  auto from = sample.tokens.begin();
  for (int64_t length : sample.chunks) {
    if (length > 0) states.push_back(encode(model, {ids_of(from, length).unsqueeze(1), {}}).states_BSE);
    from += length;
  }
  Latents latents;
  DecodeInput reads{.ids_BT = ids_of(from, T)};
  if (!states.empty()) {
    latents.states_BSE = at::cat(states, 1);
    reads.context = &latents;
  }
  const DecodeInput text{.ids_BT = ids_of(sample.tokens.begin(), context + T)};
  const auto log_probs_of = [&](const DecodeInput& input) {
    return logits(model, decode(model, input))[0].log_softmax(-1);
  };
  return {log_probs_of(reads), log_probs_of(text).narrow(0, context, T).detach()};
}

// KL(teacher || student) of each position.
using Kl = std::function<at::Tensor(const LogProbs&)>;

at::Tensor full_kl(const LogProbs& log) { return (log.teacher_TV.exp() * (log.teacher_TV - log.student_TV)).sum(-1); }

// The formulas of the published loss, term by term: smooth < 0 is its mode "drop".
Kl top_kl(int64_t k, double smooth) {
  return [=](const LogProbs& log) {
    const auto [teacher, order] = log.teacher_TV.exp().sort(-1, /*descending=*/true);
    at::Tensor p = teacher.narrow(1, 0, k), q = log.student_TV.exp().gather(1, order.narrow(1, 0, k));
    if (smooth >= 0) {
      p = at::cat({p, 1 - p.sum(-1, true)}, 1) + smooth;
      q = at::cat({q, 1 - q.sum(-1, true)}, 1) + smooth;
      p = p / p.sum(-1, true);
      q = q / q.sum(-1, true);
    }
    return (p * (p.log() - q.log())).sum(-1);
  };
}

// Summed over the samples, with their weights.
at::Tensor formula(const Cepe& model, const TrainConfig& config, const std::vector<Sample>& samples, const Kl& kl) {
  at::Tensor total = at::zeros({}, at::kDouble);
  for (const Sample& sample : samples) {
    const LogProbs log = log_probs(model, sample);
    const int64_t T = sample.positions();
    const at::Tensor labels = ids_of(sample.tokens.end() - T, T).squeeze(0);
    at::Tensor loss = config.kl_coefficient * kl(log) -
                      config.lm_coefficient * log.student_TV.gather(1, labels.unsqueeze(1)).squeeze(1);
    if (!sample.weights.empty()) loss = loss * at::tensor(sample.weights);
    total = total + loss.sum();
  }
  return total;
}

class DistillTest : public TrainerTest {
 protected:
  TrainJob distill_job(const std::string& name, const std::string& base = kPlain) const {
    TrainJob run = job(name, base);
    run.config.stage = Stage::distill;
    return run;
  }
  // The divergence of a run's model from its teacher on the samples of one step.
  double divergence(TrainConfig config, const std::string& parts) const {
    config.parts = parts;
    const OpenedModel opened = open_for_training(config, at::kCPU, at::kFloat);
    const Corpus corpus = open_corpus(config.train), none;
    const std::vector<Sample> samples = BatchBuilder(config, corpus, none).draw(1000);
    const at::NoGradGuard no_grad;
    double total = 0, positions = 0;
    for (const Sample& sample : samples) {
      total += full_kl(log_probs(opened.model, sample)).sum().item<double>();
      positions += static_cast<double>(sample.positions());
    }
    return total / positions;
  }
};

// A padded batch of plain samples of 2 and 3 chunks with masked ends, samples without context, and some of whose labels
// only a part is scored.
TEST_F(DistillTest, LossAndGradientsAreThoseOfTheFormula) {
  TrainConfig config = distill_job("run", kPublished).config;
  config.lm_coefficient = 0.75;
  Cepe exact = cast(open_model(std::string(kPublished), OpenOptions{}).model, at::kDouble);
  set_trainable(exact, true);
  const Corpus plain = open_corpus(config.train), none;
  std::vector<Sample> samples = BatchBuilder(config, plain, none).draw(3);
  write_samples(directory_ / "ask.tokens", planned_samples(5));
  const Corpus asked = open_corpus({(directory_ / "ask.tokens").string()}, ShardKind::samples);
  const std::vector<Sample> only_plain = samples;
  for (int64_t i = 0; i < 5; ++i) samples.push_back(read_sample(asked, i, 1.5f));
  samples.push_back({{5, 6, 7, 8, 9, 10, 11, 12}, {3, 0}, {1, 0, 1, 0.5f}});
  struct Case {
    Divergence kl;
    std::string mode;
    Kl formula;
  };
  for (const Case& c :
       {Case{Divergence::full, "drop", full_kl}, Case{Divergence::top, "drop", top_kl(5, -1)},
        Case{Divergence::top, "smooth_0", top_kl(5, 0)}, Case{Divergence::top, "smooth_1e-3", top_kl(5, 1e-3)}}) {
    config.kl = c.kl;
    config.kl_mode = c.mode;
    config.kl_top = 5;
    for (const std::vector<Sample>& drawn : {only_plain, samples}) {
      const Batch batch = lay_out(config, drawn);
      ASSERT_TRUE(batch.mask_BML.defined());
      const at::Tensor found = Distillation(config).loss_sum(exact, batch);
      const at::Tensor right = formula(exact, config, drawn, c.formula);
      EXPECT_NEAR(found.item<double>() / right.item<double>(), 1, 1e-9) << c.mode;
      const std::vector<at::Tensor> grads = gradients(exact, found), expected = gradients(exact, right);
      double largest = 0;
      for (size_t i = 0; i < grads.size(); ++i) {
        const double scale = expected[i].abs().max().item<double>();
        largest = std::max(largest, scale);
        EXPECT_LE((grads[i] - expected[i]).abs().max().item<double>(), 1e-6 * scale + 1e-9) << c.mode << i;
      }
      EXPECT_GT(largest, 1e-3);
    }
  }
}

// Of all chunks whole, which takes another way: only the last positions are worked out.
TEST_F(DistillTest, TheTeacherReadsContextAndPromptAsOneText) {
  TrainConfig config = distill_job("run", kPublished).config;
  config.context_chunks = {3};
  config.mask_chunks = 0;
  const Cepe model = open_model(std::string(kPublished), OpenOptions{}).model;
  const Corpus corpus = open_corpus(config.train), none;
  const std::vector<Sample> samples = BatchBuilder(config, corpus, none).draw(0);
  const Batch batch = lay_out(config, samples);
  ASSERT_FALSE(batch.mask_BML.defined());
  const at::Tensor read = logits(model, read_as_text(model, batch)).log_softmax(-1);
  EXPECT_FALSE(read.requires_grad());
  for (size_t i = 0; i < samples.size(); ++i) {
    const at::Tensor right = log_probs(model, samples[i]).teacher_TV;
    EXPECT_LT((read[static_cast<int64_t>(i)] - right).abs().max().item<double>(), 1e-5);
  }
}

TEST_F(DistillTest, AStepsLossIsTheMeanOfTheFormula) {
  for (const char* base : {kPlain, kPublished}) {
    TrainJob run = distill_job(std::string("run-") + (base == kPlain ? "plain" : "published"), base);
    run.config.steps = 1;
    run.config.zero_output = false;
    train(run);
    const OpenedModel opened = open_for_training(run.config, at::kCPU, at::kFloat);
    const Corpus corpus = open_corpus(run.config.train), none;
    const std::vector<Sample> samples = BatchBuilder(run.config, corpus, none).draw(0);
    const at::NoGradGuard no_grad;
    const double total = formula(opened.model, run.config, samples, full_kl).item<double>();
    double positions = 0;
    for (const Sample& sample : samples) positions += static_cast<double>(sample.positions());
    EXPECT_NEAR(log(run)[0]["loss"].get<double>() / (total / positions), 1, 1e-5);
  }
}

TEST_F(DistillTest, ARunBringsTheModelNearerToItsTeacher) {
  TrainJob run = distill_job("run");
  run.config.lm_coefficient = 0;
  run.config.steps = 120;
  run.config.learning_rate = 1e-2;
  run.config.mask_chunks = 0;
  run.config.checkpoint_every = 0;
  const double before = divergence(run.config, "");
  EXPECT_TRUE(train(run).finished);
  EXPECT_LT(divergence(run.config, (run.run / "final").string()), 0.7 * before);
}

TEST_F(DistillTest, GoesOnFromACheckpointBitForBit) {
  TrainJob whole = distill_job("whole"), resumed = distill_job("resumed"), other = distill_job("other");
  for (TrainJob* run : {&whole, &resumed, &other}) run->config.kl = Divergence::top;
  train(whole);
  fs::create_directories(resumed.run);
  fs::copy(whole.run / "step-000008", resumed.run / "step-000008", fs::copy_options::recursive);
  train(resumed);
  EXPECT_EQ(log(resumed)[0]["step"], 9);
  EXPECT_EQ(final_hash(resumed), final_hash(whole));
  fs::create_directories(other.run);
  fs::copy(whole.run / "step-000008", other.run / "step-000008", fs::copy_options::recursive);
  other.config.kl_coefficient = 3;
  EXPECT_NE(refusal(other).find("train.kl_coefficient"), std::string::npos);
}

TEST_F(DistillTest, TheWindowMustHoldContextAndPrompt) {
  TrainJob run = distill_job("run");
  run.config.decoder_tokens = 105;
  EXPECT_NE(refusal(run).find("129 in all, which exceed the decoder's window of 128"), std::string::npos)
      << refusal(run);
  run.config.decoder_tokens = 104;
  run.config.steps = 1;
  EXPECT_TRUE(train(run).finished);
  run = distill_job("top");
  run.config.kl = Divergence::top;
  run.config.kl_top = 128;
  EXPECT_NE(refusal(run).find("train.kl_top: 128 tokens of a vocabulary of 128"), std::string::npos);
  EXPECT_FALSE(fs::exists(run.run));
}

}  // namespace
}  // namespace cepe
