#include "train/trainer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/temporary_directory.h"
#include "io/safetensors.h"
#include "model/checkpoint.h"
#include "train/corpora.h"
#include "train/train_checkpoint.h"

namespace cepe {
namespace {

const char* const kPlain = CEPE_TEST_DATA "/replug";              // a plain decoder of 2 layers
const char* const kPublished = CEPE_TEST_DATA "/cepe-gqa-last2";  // with encoder and cross-attention

class TrainerTest : public testing::Test {
 protected:
  TrainerTest() { write_corpus(directory_ / "data.tokens", {128, {400, 300, 500}, {"a", "b"}}); }

  TrainJob job(const std::string& name, const std::string& base = kPlain) const {
    TrainJob job;
    TrainConfig& c = job.config;
    c.base = base;
    c.train = c.validation = {(directory_ / "data.tokens").string()};
    c.encoder_layers = 1;
    c.cross_attention_layers = 1;
    c.chunk_length = 8;
    c.context_chunks = {2, 3};
    c.decoder_tokens = 16;
    c.mask_chunks = 0.3;
    c.batch = 4;
    c.micro_batch = 2;
    c.steps = 12;
    c.learning_rate = 1e-3;
    c.warmup_steps = 3;
    c.checkpoint_every = 4;
    c.validation_samples = 6;
    c.weights = "f32";
    job.run = directory_ / name;
    return job;
  }

  std::string final_hash(const TrainJob& job) const { return sha256_file(job.run / "final/model.safetensors"); }
  std::vector<nlohmann::json> log(const TrainJob& job) const {
    std::vector<nlohmann::json> records;
    std::ifstream lines(job.run / "log.jsonl");
    for (std::string line; std::getline(lines, line);) records.push_back(nlohmann::json::parse(line));
    return records;
  }
  std::string refusal(const TrainJob& job) const {
    return error_of<Error>([&] { train(job); });
  }

  const TemporaryDirectory directory_;
};

// Stops a run after the step whose line it sees in the log.
class StopAfter {
 public:
  explicit StopAfter(TrainJob& job, int64_t step)
      : file_(job.run / "log.jsonl"), step_(step), thread_([this] { watch(); }) {
    job.stop = &stop_;
  }
  ~StopAfter() {
    done_ = true;
    thread_.join();
  }

 private:
  void watch() {
    const std::string wanted = fmt::format("\"step\":{},", step_);
    while (!done_ && !stop_) {
      std::error_code error;
      if (std::filesystem::exists(file_, error) && read_file(file_).find(wanted) != std::string::npos) stop_ = true;
    }
  }
  const std::filesystem::path file_;
  const int64_t step_;
  std::atomic<bool> stop_{false}, done_{false};
  std::thread thread_;
};

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

TEST_F(TrainerTest, TheDecoderStaysAsItIs) {
  TrainJob published = job("published", kPublished);
  train(published);
  const SafetensorsFile before(std::string(kPublished) + "/model.safetensors"),
      after(published.run / "final/model.safetensors");
  int64_t frozen = 0, trained = 0;
  for (const TensorView& tensor : before.tensors()) {
    const TensorView* now = after.find(tensor.name);
    ASSERT_NE(now, nullptr) << tensor.name;
    const bool part = tensor.name.rfind("encoder.", 0) == 0 || tensor.name.find("cross_attn") != std::string::npos;
    const bool equal = std::equal(tensor.bytes.begin(), tensor.bytes.end(), now->bytes.begin(), now->bytes.end());
    EXPECT_EQ(equal, !part) << tensor.name;
    ++(part ? trained : frozen);
  }
  EXPECT_GT(frozen, 10);
  EXPECT_GT(trained, 10);
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

TEST_F(TrainerTest, AStoppedRunGoesOnBitForBit) {
  TrainJob whole = job("whole"), stopped = job("stopped");
  train(whole);
  {
    StopAfter stop(stopped, 5);
    const TrainOutcome outcome = train(stopped);
    EXPECT_FALSE(outcome.finished);
    EXPECT_GE(outcome.step, 5);
    EXPECT_LT(outcome.step, 12);
  }
  stopped.stop = nullptr;
  stopped.config.max_minutes = 1e-9;  // a sitting without any step must leave everything as it is
  EXPECT_FALSE(train(stopped).finished);
  stopped.config.max_minutes = 0;
  EXPECT_TRUE(train(stopped).finished);
  EXPECT_EQ(final_hash(stopped), final_hash(whole));
  for (const char* file : {"optimizer.safetensors", "model.safetensors"}) {
    EXPECT_EQ(sha256_file(stopped.run / "step-000012" / file), sha256_file(whole.run / "step-000012" / file));
  }
  const auto a = log(whole), b = log(stopped);
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i]["step"], b[i]["step"]);
    EXPECT_EQ(a[i].value("loss", nlohmann::json()), b[i].value("loss", nlohmann::json()));
    EXPECT_EQ(a[i].value("validation", nlohmann::json()), b[i].value("validation", nlohmann::json()));
  }
  EXPECT_TRUE(train(stopped).finished);  // once more: nothing left to do
  EXPECT_EQ(final_hash(stopped), final_hash(whole));
}

TEST_F(TrainerTest, KeepsTheNewestCheckpointsAndAMarker) {
  TrainJob run = job("run");
  run.config.steps = 10;
  run.config.checkpoint_every = 2;
  run.config.keep_checkpoints = 3;
  train(run);
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(run.run))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{".lock", "config.toml", "final", "latest", "log.jsonl", "step-000006",
                                             "step-000008", "step-000010"}));
  EXPECT_EQ(read_file(run.run / "latest"), "step-000010\n");
}

TEST_F(TrainerTest, ResumingWithOtherSettingsOrDataIsRefused) {
  TrainJob run = job("run");
  run.config.steps = 2;
  train(run);
  TrainJob other = run;
  other.config.learning_rate = 2e-3;
  EXPECT_NE(refusal(other).find("started with train.learning_rate = 0.001, now it is 0.002"), std::string::npos);
  other = run;
  other.config.base = kPublished;
  EXPECT_NE(refusal(other).find("model.base_sha256"), std::string::npos);
  write_corpus(directory_ / "data.tokens", {128, {400, 300, 501}, {"a", "b"}});
  EXPECT_NE(refusal(run).find("other tokens in place of"), std::string::npos);
}

TEST_F(TrainerTest, AFullDiskLeavesThePreviousCheckpoint) {
  TrainJob run = job("run");
  run.config.steps = 4;
  train(run);
  const std::string before = sha256_file(run.run / "step-000004/model.safetensors");
  OpenedModel opened = open_model(std::string(kPublished));
  set_trainable(opened.model, true);
  std::vector<at::Tensor> tensors;
  for (const Parameter& parameter : trainable_parameters(opened.model)) tensors.push_back(*parameter.value);
  AdamW optimizer(tensors, {});
  CheckpointOptions options;
  options.state = {{"step", 8}, {"identity", nlohmann::json::object()}};
  options.keep = 1;
  // A limit on the size of files stands in for a full disk: write() fails in the middle of the weights.
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  const rlimit small{20000, old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  std::string message;
  try {
    save_checkpoint(run.run, {opened.model, optimizer}, options);
  } catch (const Error& error) {
    message = error.what();
  }
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
  EXPECT_NE(message.find("cannot write"), std::string::npos) << message;
  EXPECT_EQ(newest_checkpoint(run.run), run.run / "step-000004");
  EXPECT_EQ(sha256_file(run.run / "step-000004/model.safetensors"), before);
  EXPECT_EQ(read_file(run.run / "latest"), "step-000004\n");
  EXPECT_FALSE(std::filesystem::exists(run.run / ".step-000008.tmp"));
  EXPECT_TRUE(train(run).finished);  // and it can be resumed
}

TEST_F(TrainerTest, BadInputIsRefused) {
  TrainJob run = job("run");
  run.config.base = (directory_ / "nothing").string();
  EXPECT_NE(refusal(run).find("nothing"), std::string::npos);
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
  run = job("run");
  write_file(directory_ / "file", "");
  run.run = directory_ / "file";
  EXPECT_NE(refusal(run).find("cannot create the directory"), std::string::npos);
}

TEST_F(TrainerTest, BFloat16ArithmeticTrainsFloat32Weights) {
  TrainJob wide = job("wide", kPublished), narrow = job("narrow", kPublished);
  narrow.config.precision = "bfloat16";
  train(wide);
  train(narrow);
  EXPECT_NEAR(log(wide)[0]["loss"].get<double>(), log(narrow)[0]["loss"].get<double>(), 0.03);
  const SafetensorsFile weights(narrow.run / "step-000012/model.safetensors");
  int64_t below_bfloat16 = 0;  // bits that a bfloat16 weight could not hold
  for (const TensorView& tensor : weights.tensors()) {
    ASSERT_EQ(tensor.dtype, DType::f32);
    for (size_t i = 0; i + 4 <= tensor.bytes.size(); i += 4)
      below_bfloat16 += tensor.bytes[i] != std::byte{0} || tensor.bytes[i + 1] != std::byte{0};
  }
  EXPECT_GT(below_bfloat16, 1000);
}

TEST_F(TrainerTest, WarmupStageAndConcatenatedDocuments) {
  TrainJob warmup = job("warmup");
  warmup.config.stage = "warmup";
  warmup.config.context_chunks = {2};
  warmup.config.filtered = 2;
  warmup.config.concatenated = 1;
  EXPECT_TRUE(train(warmup).finished);
  TrainJob concatenated = job("concatenated");
  concatenated.config.filtered = 0;
  concatenated.config.concatenated = 1;
  concatenated.config.decoder_tokens = 700;  // longer than any document
  concatenated.config.steps = 2;
  EXPECT_TRUE(train(concatenated).finished);
  EXPECT_EQ(log(concatenated).back()["validation"][0]["domain"], "concatenated");
}

}  // namespace
}  // namespace cepe
