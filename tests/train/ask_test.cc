// Runs of stage ask.
#include <ATen/ATen.h>

#include "train/batches.h"
#include "train/sample_shards.h"
#include "train/trainer_fixture.h"

namespace cepe {
namespace {

class AskTest : public TrainerTest {
 protected:
  AskTest() { write_samples(directory_ / "ask.tokens", planned_samples(12)); }

  TrainJob ask_job(const std::string& name) const {
    TrainJob run = job(name, kPublished);
    run.config.stage = Stage::ask;
    run.config.ask = run.config.ask_validation = {(directory_ / "ask.tokens").string()};
    run.config.ask_share = 0.6;
    run.config.ask_weight = 2;
    return run;
  }
  nlohmann::json asked(const TrainJob& run) const { return log(run).back().at("ask_validation"); }
};

TEST_F(AskTest, AnswersAreLearnt) {
  TrainJob run = ask_job("run");
  run.config.ask_share = 1;
  run.config.train.clear();
  run.config.steps = 150;
  run.config.learning_rate = 1e-2;
  run.config.validate_every = 149;
  run.config.validation_samples = 24;
  run.config.checkpoint_every = 0;
  EXPECT_TRUE(train(run).finished);
  const nlohmann::json rows = asked(run), all = rows.back();
  EXPECT_EQ(all["domain"], "all");
  EXPECT_EQ(all["samples"], 12);
  EXPECT_LT(all["loss"].get<double>(), 0.5 * log(run)[0]["loss"].get<double>());
  const nlohmann::json recorded = nlohmann::json::parse(read_file(run.run / "final/config.json"))["training"];
  EXPECT_EQ(recorded["ask_validation"]["all"]["loss"], all["loss"]);
  EXPECT_EQ(recorded["data"].size(), 1u);
  EXPECT_EQ(recorded["settings"]["train.stage"], "ask");
}

TEST_F(AskTest, MicroBatchesAddUpToTheBatch) {
  std::vector<nlohmann::json> first;
  for (int64_t micro_batch : {4, 2, 1}) {
    TrainJob run = ask_job("micro-" + std::to_string(micro_batch));
    run.config.micro_batch = micro_batch;
    run.config.steps = 1;
    train(run);
    first.push_back(log(run)[0]);
    EXPECT_NEAR(first.back()["loss"].get<double>(), first[0]["loss"].get<double>(), 1e-5);
    EXPECT_NEAR(first.back()["gradient_norm"].get<double>() / first[0]["gradient_norm"].get<double>(), 1, 1e-4);
    EXPECT_EQ(first.back()["tokens"], first[0]["tokens"]);
  }
}

// The loss is the mean of text and answers by the weights of the step's samples.
TEST_F(AskTest, LossesOfTextAndAnswersStandBeside) {
  TrainJob run = ask_job("run");
  run.config.steps = 1;
  train(run);
  const Corpus plain = open_corpus(run.config.train), ask = open_corpus(run.config.ask, ShardKind::samples);
  double text = 0, answers = 0;
  for (const Batch& batch : BatchBuilder(run.config, plain, ask).build(0).batches) {
    (batch.asked ? answers : text) += batch.weight;
  }
  const nlohmann::json step = log(run)[0];
  const double of_text = step.at("loss_text"), of_answers = step.at("loss_answers");
  EXPECT_NEAR(step["loss"].get<double>(), (text * of_text + answers * of_answers) / (text + answers), 1e-5);
  EXPECT_GT(std::abs(of_text - of_answers), 1e-3);
}

// Stopped and resumed: the same bits with the same micro-batch, the same losses to rounding with another.
TEST_F(AskTest, ResumesAlsoWithAnotherMicroBatch) {
  TrainJob whole = ask_job("whole"), same = ask_job("same"), other = ask_job("other");
  train(whole);
  // The checkpoint after step 8 of the whole run, in a directory of its own.
  for (TrainJob* run : {&same, &other}) {
    fs::remove_all(run->run);
    fs::create_directories(run->run);
    fs::copy(whole.run / "step-000008", run->run / "step-000008", fs::copy_options::recursive);
  }
  other.config.micro_batch = 4;
  EXPECT_TRUE(train(same).finished);
  EXPECT_TRUE(train(other).finished);
  EXPECT_EQ(final_hash(same), final_hash(whole));
  const std::vector<nlohmann::json> expected = log(whole), found = log(other);
  for (size_t step = 8; step < 12; ++step)
    EXPECT_NEAR(found[step - 8]["loss"].get<double>() / expected[step]["loss"].get<double>(), 1, 1e-4) << step;
  other.config.ask_share = 0.7;
  EXPECT_NE(refusal(other).find("data.ask_share = 0.6, now it is 0.7"), std::string::npos);
}

TEST_F(AskTest, SettingsThatDoNothingAreTold) {
  TrainJob run = ask_job("run");
  run.config.steps = 1;
  run.config.ask_share = 1;
  run.config.mask_chunks = 0;
  testing::internal::CaptureStdout();
  train(run);
  const std::string said = testing::internal::GetCapturedStdout();
  EXPECT_NE(said.find("note: data.train does nothing in stage ask with data.ask_share = 1\n"), std::string::npos);
  EXPECT_EQ(said.find("does nothing"), said.rfind("does nothing"));
}

TEST_F(AskTest, OtherSamplesAreRefused) {
  TrainJob run = ask_job("run");
  run.config.steps = 1;
  train(run);
  write_samples(directory_ / "ask.tokens", planned_samples(11));
  EXPECT_NE(refusal(run).find("other tokens in place of"), std::string::npos);
}

TEST_F(AskTest, SamplesThatDoNotFitAreRefused) {
  TrainJob run = ask_job("run");
  run.config.ask = {(directory_ / "data.tokens").string()};
  EXPECT_NE(refusal(run).find("data.tokens: a token shard of documents, expected one of samples"), std::string::npos);
  run.config.ask = run.config.ask_validation;
  run.config.chunk_length = 4;
  EXPECT_NE(refusal(run).find("ask.tokens: sample"), std::string::npos);
  run = ask_job("run");
  write_samples(directory_ / "long.tokens", {{{4}, {{130, 1.0f}}, "x"}});  // the window is of 128
  run.config.ask = {(directory_ / "long.tokens").string()};
  EXPECT_NE(refusal(run).find("long.tokens: sample 0: the decoder would read 129 tokens, its window holds 128"),
            std::string::npos);
  EXPECT_FALSE(fs::exists(run.run));
}

// Two corpora whose tokenizers are known and differ; the base has none to compare them with.
TEST_F(AskTest, CorporaOfDifferentTokenizersAreRefused) {
  const auto write = [&](const char* name, uint64_t fingerprint, ShardKind kind) {
    ShardWriter writer(directory_ / name, {128, fingerprint}, kind);
    const std::vector<TokenId> tokens(200, 5);
    if (kind == ShardKind::documents) {
      writer.add(tokens, "a");
    } else {
      const std::vector<SamplePiece> pieces = {{1, false, 0}, {2, false, 1}};
      writer.add_sample(std::span(tokens).first(3), pieces, "a");
    }
    writer.commit();
    return std::vector<std::string>{(directory_ / name).string()};
  };
  TrainJob run = ask_job("run");
  run.config.steps = 1;
  const std::vector<std::string> plain = run.config.train;  // of an unknown tokenizer
  run.config.train = write("five.tokens", 5, ShardKind::documents);
  run.config.ask = write("seven.tokens", 7, ShardKind::samples);
  EXPECT_NE(refusal(run).find("seven.tokens: made with another tokenizer than " + run.config.train[0]),
            std::string::npos);
  run.config.train = plain;
  run.config.validation = write("five.tokens", 5, ShardKind::documents);
  EXPECT_NE(refusal(run).find("seven.tokens: made with another tokenizer than "), std::string::npos);
  run.config.validation = write("seven-too.tokens", 7, ShardKind::documents);
  run.config.ask_validation = write("five-asked.tokens", 5, ShardKind::samples);
  EXPECT_NE(refusal(run).find("five-asked.tokens: made with another tokenizer than "), std::string::npos);
  run.config.ask_validation = run.config.ask;
  EXPECT_TRUE(train(run).finished);
}

TEST_F(AskTest, CheckpointsOnATimer) {
  TrainJob run = ask_job("run");
  run.config.checkpoint_every = 0;
  run.config.checkpoint_minutes = 1e-9;
  run.config.keep_checkpoints = 100;
  train(run);
  for (int64_t step = 1; step <= 12; ++step) EXPECT_TRUE(fs::exists(run.run / fmt::format("step-{:06}", step)));
}

// The configuration that a run writes is whole: read again, it is the same.
TEST_F(AskTest, TheEffectiveConfigurationIsWritten) {
  TrainJob run = ask_job("run");
  run.config.steps = 1;
  train(run);
  Config config = Config::from_file(run.run / "config.toml");
  const TrainConfig read = read_train_config(config);
  EXPECT_EQ(effective_settings(read), read_file(run.run / "config.toml"));
  EXPECT_EQ(training_identity(read), training_identity(run.config));
  EXPECT_EQ(read.stage, Stage::ask);
  EXPECT_EQ(read.ask, run.config.ask);
}

}  // namespace
}  // namespace cepe
