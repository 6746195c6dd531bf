#include "train/trainer.h"

#include <ATen/ATen.h>

#include "io/safetensors.h"
#include "model/checkpoint/checkpoint.h"
#include "train/trainer_fixture.h"

namespace cepe {
namespace {

TEST_F(TrainerTest, LossFallsOnATinyCorpus) {
  TrainJob overfit = job("overfit");
  overfit.config.steps = 150;
  overfit.config.learning_rate = 1e-2;
  overfit.config.checkpoint_every = 0;
  const TrainOutcome outcome = train(overfit);
  EXPECT_TRUE(outcome.finished);
  const std::vector<nlohmann::json> records = log(overfit);
  ASSERT_EQ(records.size(), 151u);
  const double first = records[0]["loss"], last = records[149]["loss"];
  EXPECT_LT(last, 0.7 * first);
  const nlohmann::json all = records[150]["validation"].back();
  EXPECT_LT(all["loss_context"].get<double>(), all["loss_no_context"].get<double>() - 0.5);
  EXPECT_EQ(all["samples"], 6);
}

TEST_F(TrainerTest, FreshPartsStartAsThePlainDecoder) {
  TrainJob fresh = job("fresh");
  fresh.config.learning_rate = 0;
  fresh.config.steps = 1;
  fresh.config.validation_samples = 20;
  train(fresh);
  const nlohmann::json rows = log(fresh).back()["validation"], a = rows[0];
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(a["domain"], "a");
  EXPECT_FALSE(rows[1].contains("loss_other_context"));  // domain b has a single document
  EXPECT_NEAR(a["loss_context"].get<double>(), a["loss_no_context"].get<double>(), 1e-6);
  EXPECT_NEAR(a["loss_other_context"].get<double>(), a["loss_no_context"].get<double>(), 1e-6);
}

TEST_F(TrainerTest, MicroBatchesAddUpToTheBatch) {
  for (const char* base : {kPlain, kPublished}) {
    TrainJob whole = job("whole", base), parts = job("parts", base);
    for (TrainJob* j : {&whole, &parts}) {
      j->config.context_chunks = {3};
      j->config.mask_chunks = 0;
      j->config.steps = 1;
    }
    whole.config.micro_batch = 4;
    parts.config.micro_batch = 1;
    train(whole);
    train(parts);
    const nlohmann::json a = log(whole)[0], b = log(parts)[0];
    EXPECT_NEAR(a["loss"].get<double>(), b["loss"].get<double>(), 1e-5);
    EXPECT_NEAR(a["gradient_norm"].get<double>(), b["gradient_norm"].get<double>(),
                1e-4 * a["gradient_norm"].get<double>());
    std::filesystem::remove_all(whole.run);
    std::filesystem::remove_all(parts.run);
  }
}

// Recorded from the version that drew chunks for each micro-batch (commit f1eed9c): with one number of chunks and no
// masks a run is what it was.
TEST_F(TrainerTest, ARunOfOneShapeIsWhatItAlwaysWas) {
  const std::vector<double> recorded = {5.15856552, 5.15386248, 5.49443913, 5.13276052, 5.24040508, 4.93028975,
                                        5.01226044, 5.02913094, 5.02978134, 4.97714138, 5.22018623, 5.02608395};
  TrainJob run = job("run", kPublished);
  run.config.context_chunks = {3};
  run.config.mask_chunks = 0;
  run.config.filtered = 2, run.config.concatenated = 1;
  train(run);
  const std::vector<nlohmann::json> records = log(run);
  for (size_t i = 0; i < recorded.size(); ++i)
    EXPECT_NEAR(records.at(i)["loss"].get<double>() / recorded[i], 1, 1e-5) << "step " << i + 1;
}

TEST_F(TrainerTest, TrainedPartsOpenOnTheirBaseAndTrainOn) {
  TrainJob first = job("first");
  first.config.weights = "bf16";
  train(first);
  OpenOptions options;
  options.base = kPlain;
  const OpenedModel opened = open_model(first.run / "final", options);
  EXPECT_EQ(opened.kind, "trained parts");
  EXPECT_EQ(opened.model.config.chunk_length, 8);
  EXPECT_EQ(open_model(first.run / "step-000012", options).kind, "trained parts");

  TrainJob second = job("second");
  second.config.parts = (first.run / "step-000012").string();
  second.config.learning_rate = 0;
  second.config.steps = 1;
  second.config.context_chunks = first.config.context_chunks;
  train(second);
  const auto all_of = [&](const TrainJob& j) {
    return log(j).back()["validation"].back()["loss_context"].get<double>();
  };
  EXPECT_NEAR(all_of(second), all_of(first), 1e-6);
}

// What a run writes down about where its weights come from, against the files themselves.
TEST_F(TrainerTest, TheResultNamesItsShardsAndItsParts) {
  TrainJob first = job("first"), second = job("second"), published = job("published", kPublished);
  for (TrainJob* run : {&first, &second, &published}) run->config.steps = 1;
  train(first);
  second.config.parts = (first.run / "final").string();
  train(second);
  train(published);
  const std::string shard = (directory_ / "data.tokens").string();
  const nlohmann::json data = {{{"path", shard}, {"sha256", sha256_file(shard)}}};
  const auto training_of = [](const TrainJob& run) {
    return nlohmann::json::parse(read_file(run.run / "final/config.json")).at("training");
  };
  EXPECT_EQ(training_of(first)["data"], data);
  EXPECT_FALSE(training_of(first).contains("parts"));
  EXPECT_EQ(training_of(second)["data"], data);
  EXPECT_EQ(training_of(second)["parts"],
            (nlohmann::json{{"path", second.config.parts}, {"sha256", final_hash(first)}}));
  EXPECT_EQ(training_of(published)["data"], data);
  // Other parts under the same name: the run did not start from these.
  first.config.seed = 2;
  first.config.learning_rate = 0.1;
  first.run = directory_ / "third";
  train(first);
  second.config.parts = (first.run / "final").string();
  EXPECT_NE(refusal(second).find("started from other trained parts"), std::string::npos);
}

// Steps that are not finite change nothing and say so, until there are too many. Here a weight is no number.
TEST_F(TrainerTest, StopsAfterStepsThatAreNotFinite) {
  TrainJob run = job("run");
  run.config.stop_after_not_finite = 5;
  run.config.max_minutes = 1e-9;  // a checkpoint before the first step
  train(run);
  run.config.max_minutes = 0;
  const fs::path weights = run.run / "step-000000/model.safetensors";
  std::string bytes = read_file(weights);
  bytes.replace(bytes.size() - 4, 4, std::string("\x00\x00\xc0\x7f", 4));  // the last float32 of the last tensor
  write_file(weights, bytes);
  testing::internal::CaptureStdout();
  const std::string message = refusal(run), said = testing::internal::GetCapturedStdout();
  EXPECT_NE(message.find("step 5: loss or gradient was not finite for 5 steps in a row"), std::string::npos) << message;
  EXPECT_NE(said.find("not finite: step left out"), std::string::npos) << said;
  int64_t not_finite = 0;
  for (const nlohmann::json& record : log(run)) not_finite += record["gradient_norm"].is_null();
  EXPECT_EQ(not_finite, 5);
}

TEST_F(TrainerTest, BadInputIsRefused) {
  TrainJob run = job("run");
  run.config.base = (directory_ / "nothing").string();
  EXPECT_NE(refusal(run).find("nothing"), std::string::npos);
  run = job("run");
  EXPECT_FALSE(fs::exists(run.run)) << "nothing is made before all input was checked";
  run.config = job("run").config;
  run.config.validation = {(directory_ / "none.tokens").string()};
  EXPECT_NE(refusal(run).find("none.tokens"), std::string::npos);
  EXPECT_FALSE(fs::exists(run.run));
  run = job("run");
  run.config.decoder_tokens = 600;
  EXPECT_NE(refusal(run).find("no document holds the 625 tokens of a sample; the longest has 500"), std::string::npos);
  run = job("run");
  write_corpus(directory_ / "wide.tokens", {129, {400}});
  run.config.train = {(directory_ / "wide.tokens").string()};
  EXPECT_NE(refusal(run).find("embedding has 128 rows"), std::string::npos);
  run = job("run");
  run.config.parts = kPlain;
  EXPECT_NE(refusal(run).find("expected trained parts"), std::string::npos);
  EXPECT_FALSE(fs::exists(run.run));
  run = job("run");
  write_file(directory_ / "file", "");
  run.run = directory_ / "file";
  EXPECT_NE(refusal(run).find("cannot create the directory"), std::string::npos);
}

TEST_F(TrainerTest, TheDecodersWindowIsTheLimit) {
  TrainJob run = job("run");  // 128 positions
  run.config.steps = 1;
  run.config.decoder_tokens = 129;
  EXPECT_NE(refusal(run).find("train.decoder_tokens: 129 tokens exceed the decoder's window of 128"),
            std::string::npos);
  run.config.decoder_tokens = 128;
  EXPECT_TRUE(train(run).finished);
  // A window that slides over the tokens, narrower than the positions.
  const fs::path sliding = directory_ / "sliding";
  fs::create_directory(sliding);
  fs::copy_file(fs::path(kPlain) / "model.safetensors", sliding / "model.safetensors");
  nlohmann::json config = nlohmann::json::parse(read_file(fs::path(kPlain) / "config.json"));
  config["model_type"] = "mistral";
  config["sliding_window"] = 32;
  write_file(sliding / "config.json", config.dump());
  run = job("slides", sliding.string());
  run.config.steps = 1;
  run.config.decoder_tokens = 33;
  EXPECT_NE(refusal(run).find("33 tokens exceed the decoder's window of 32"), std::string::npos);
  run.config.decoder_tokens = 32;
  EXPECT_TRUE(train(run).finished);
  // A teacher reads 5 chunks of 2 tokens and 22 more, which fill the window: batches of 4 and 5 chunks are not padded
  // beyond it.
  run = job("distills", sliding.string());
  run.config.stage = Stage::distill;
  run.config.chunk_length = 2;
  run.config.context_chunks = {3, 4, 5};  // two numbers would not be mixed
  run.config.decoder_tokens = 22;
  run.config.micro_batch = 4;
  EXPECT_TRUE(train(run).finished);
}

TEST_F(TrainerTest, ShardsThatAreUsedTwiceAreTold) {
  const auto said = [&](const TrainJob& run) {
    testing::internal::CaptureStdout();
    train(run);
    return testing::internal::GetCapturedStdout();
  };
  TrainJob run = job("same");
  run.config.steps = 1;
  fs::copy_file(directory_ / "data.tokens", directory_ / "copy.tokens");
  run.config.validation = {(directory_ / "copy.tokens").string()};
  EXPECT_NE(said(run).find("3 of the 3 validation documents are training documents as well"), std::string::npos);
  write_corpus(directory_ / "other.tokens", {128, {401, 301, 100}, {"a", "b"}});
  run.config.validation = {(directory_ / "other.tokens").string()};
  run.run = directory_ / "other";
  EXPECT_EQ(said(run).find("note:"), std::string::npos);
  run.config.train.push_back((directory_ / "copy.tokens").string());
  run.run = directory_ / "twice";
  EXPECT_NE(said(run).find("copy.tokens is the same as "), std::string::npos);
}

TEST_F(TrainerTest, WarmupStageAndConcatenatedDocuments) {
  TrainJob warmup = job("warmup");
  warmup.config.stage = Stage::warmup;
  warmup.config.context_chunks = {2};
  warmup.config.filtered = 2;
  warmup.config.concatenated = 1;
  EXPECT_TRUE(train(warmup).finished);
  TrainJob concatenated = job("concatenated");
  concatenated.config.filtered = 0;
  concatenated.config.concatenated = 1;
  write_corpus(directory_ / "short.tokens", {128, {40, 60, 50, 90}});
  concatenated.config.train = concatenated.config.validation = {(directory_ / "short.tokens").string()};
  concatenated.config.decoder_tokens = 100;  // longer than any document
  concatenated.config.steps = 2;
  EXPECT_TRUE(train(concatenated).finished);
  EXPECT_EQ(log(concatenated).back()["validation"][0]["domain"], "concatenated");
}

}  // namespace
}  // namespace cepe
