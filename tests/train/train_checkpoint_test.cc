#include "train/train_checkpoint.h"

#include <ATen/ATen.h>
#include <sys/resource.h>

#include <atomic>
#include <csignal>
#include <functional>
#include <thread>

#include "model/checkpoint/checkpoint.h"
#include "train/trainer_fixture.h"

namespace cepe {
namespace {

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
  EXPECT_TRUE(train(stopped).finished);  // once more: nothing left to do, and nothing to say
  EXPECT_EQ(log(stopped), b);
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
  const auto events = [](const std::string& name) { return name.starts_with("events.out.tfevents."); };
  EXPECT_EQ(std::erase_if(names, events), 1u);
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

// Weights of the concatenated mixture once counted the starts of spans alone: a run that was begun so, whose identity
// lacks the key, would go on with other samples. Runs without weights, or without that mixture, draw the same.
TEST_F(TrainerTest, ARunWithWeightsOfAnotherMeaningIsRefused) {
  TrainJob run = job("run");
  run.config.steps = 1;
  run.config.concatenated = 1;
  EXPECT_FALSE(training_identity(run.config).contains("data.concatenated_weights"));
  run.config.domain_weights = {"a=2"};
  train(run);
  const fs::path file = run.run / "step-000001/state.json";
  nlohmann::json state = nlohmann::json::parse(read_file(file));
  EXPECT_EQ(state["identity"].erase("data.concatenated_weights"), 1u);
  write_file(file, state.dump());
  EXPECT_NE(refusal(run).find("begun by a version that drew samples otherwise: choose another directory"),
            std::string::npos);
  run.config.concatenated = 0;
  EXPECT_FALSE(training_identity(run.config).contains("data.concatenated_weights"));
}

TEST_F(TrainerTest, ADamagedStateIsRefused) {
  TrainJob run = job("run");
  run.config.steps = 2;
  train(run);
  const fs::path file = run.run / "step-000002/state.json";
  const nlohmann::json whole = nlohmann::json::parse(read_file(file));
  const std::vector<std::pair<const char*, nlohmann::json>> damages = {
      {"step", 1000000000},     {"step", "2"},       {"step", -1},      {"tokens", "many"},
      {"tokens", -5},           {"seconds", "long"}, {"shards", {"x"}}, {"shards", "x"},
      {"shards", {{{"a", 1}}}}, {"identity", {1}},   {"parts", "x"},    {"version", 99}};
  for (const auto& [key, value] : damages) {
    nlohmann::json damaged = whole;
    damaged[key] = value;
    write_file(file, damaged.dump());
    const std::string message = refusal(run);
    EXPECT_NE(message.find("state.json"), std::string::npos) << message;
    EXPECT_NE(message.find(key), std::string::npos) << message;
  }
  // A whole checkpoint of a later step than the run has.
  nlohmann::json later = whole;
  later["step"] = 1000000000;
  write_file(file, later.dump());
  fs::rename(run.run / "step-000002", run.run / "step-1000000000");
  EXPECT_NE(refusal(run).find("a checkpoint after 1000000000 steps, the run has 2"), std::string::npos);
}

// The newest checkpoint is damaged: the run says so and goes on from the one before it, to the same end.
TEST_F(TrainerTest, ADamagedCheckpointIsPassedOver) {
  TrainJob whole = job("whole");
  whole.config.keep_checkpoints = 3;
  train(whole);
  const auto cut = [](const fs::path& file) { write_file(file, read_file(file).substr(0, fs::file_size(file) / 2)); };
  const std::vector<std::pair<const char*, std::function<void(const fs::path&)>>> damages = {
      {"model.safetensors", cut},
      {"optimizer.safetensors", cut},
      {"optimizer.safetensors", [](const fs::path& file) { fs::remove(file); }},
      {"state.json", [](const fs::path& file) { write_file(file, ""); }},
      {"state.json", cut}};
  for (const auto& [file, damage] : damages) {
    TrainJob run = job("run");
    run.config.keep_checkpoints = 1;
    fs::remove_all(run.run);
    fs::copy(whole.run, run.run, fs::copy_options::recursive);
    fs::remove_all(run.run / "final");
    damage(run.run / "step-000012" / file);
    testing::internal::CaptureStdout();
    EXPECT_TRUE(train(run).finished);
    const std::string said = testing::internal::GetCapturedStdout();
    EXPECT_NE(said.find("note: the checkpoint is damaged, now"), std::string::npos) << said;
    EXPECT_NE(said.find(file), std::string::npos) << said;
    EXPECT_NE(said.find("resumed after step 8"), std::string::npos) << said;
    EXPECT_TRUE(fs::exists(run.run / "step-000012.damaged"));
    EXPECT_EQ(read_file(run.run / "latest"), "step-000012\n");  // written anew
    EXPECT_EQ(sha256_file(run.run / "step-000012/optimizer.safetensors"),
              sha256_file(whole.run / "step-000012/optimizer.safetensors"));
    EXPECT_EQ(final_hash(run), final_hash(whole));
  }
  // None is whole: the newest's error, and nothing is renamed.
  TrainJob none = job("none");
  fs::copy(whole.run, none.run, fs::copy_options::recursive);
  for (const char* step : {"step-000004", "step-000008", "step-000012"}) cut(none.run / step / "model.safetensors");
  EXPECT_NE(refusal(none).find("step-000012/model.safetensors"), std::string::npos);
  EXPECT_TRUE(fs::exists(none.run / "step-000012"));
  // A checkpoint of a later version is whole: the one before it is not taken.
  nlohmann::json state = nlohmann::json::parse(read_file(whole.run / "step-000012/state.json"));
  state["version"] = 2;
  write_file(whole.run / "step-000012/state.json", state.dump());
  EXPECT_NE(refusal(whole).find("a checkpoint of version 2, expected 1"), std::string::npos);
}

TEST_F(TrainerTest, LatestNamesTheCheckpointThatWasLoaded) {
  TrainJob run = job("run");
  run.config.keep_checkpoints = 3;
  train(run);
  write_file(run.run / "step-000012/state.json", "");
  run.config.max_minutes = 1e-9;  // nothing is saved
  EXPECT_EQ(train(run).step, 8);
  EXPECT_EQ(read_file(run.run / "latest"), "step-000008\n");
  EXPECT_TRUE(fs::exists(run.run / "step-000012.damaged"));
}

// A file that cannot be opened says nothing of what it holds: a link that leads to itself stands in for a disk that
// fails.
TEST_F(TrainerTest, ACheckpointThatCannotBeReadIsNotTakenForDamaged) {
  TrainJob run = job("run");
  run.config.keep_checkpoints = 3;
  train(run);
  for (const char* name : {"state.json", "model.safetensors", "optimizer.safetensors"}) {
    const fs::path file = run.run / "step-000012" / name, aside = directory_ / "aside";
    fs::rename(file, aside);
    fs::create_symlink(name, file);
    EXPECT_NE(refusal(run).find(name + std::string(": cannot open the file: Too many levels")), std::string::npos);
    EXPECT_TRUE(fs::exists(run.run / "step-000012"));
    EXPECT_FALSE(fs::exists(run.run / "step-000012.damaged"));
    fs::remove(file);
    fs::rename(aside, file);
  }
  EXPECT_TRUE(train(run).finished);
}

TEST_F(TrainerTest, ACheckpointIsReplacedOnlyByAWholeOne) {
  TrainJob run = job("run");
  run.config.steps = 4;
  train(run);
  const fs::path checkpoint = run.run / "step-000004", aside = run.run / ".step-000004.old";
  // Killed between the two renames: the earlier one comes back.
  fs::rename(checkpoint, aside);
  remove_unfinished_checkpoints(run.run);
  EXPECT_TRUE(fs::exists(checkpoint / "state.json"));
  EXPECT_FALSE(fs::exists(aside));
  // Killed after them: the new one stays.
  fs::create_directory(aside);
  remove_unfinished_checkpoints(run.run);
  EXPECT_FALSE(fs::exists(aside));
  EXPECT_TRUE(fs::exists(checkpoint / "state.json"));

  OpenedModel opened = open_model(std::string(kPublished));
  set_trainable(opened.model, true);
  std::vector<at::Tensor> tensors;
  for (const Parameter& parameter : trainable_parameters(opened.model)) tensors.push_back(*parameter.value);
  AdamW optimizer(tensors, {});
  CheckpointOptions options;
  options.save_model = [&](const fs::path& to) { save_trained_parts(opened.model, to, {SaveOptions::Weights::f32}); };
  options.state = {{"step", 4}, {"identity", nlohmann::json::object()}, {"shards", nlohmann::json::array()}};
  save_checkpoint(run.run, {trainable_parameters(opened.model), optimizer.state()}, options);
  EXPECT_EQ(read_checkpoint_state(checkpoint)["identity"], nlohmann::json::object());
  EXPECT_FALSE(fs::exists(aside));
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
  options.save_model = [&](const fs::path& to) { save_trained_parts(opened.model, to, {SaveOptions::Weights::f32}); };
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
    save_checkpoint(run.run, {trainable_parameters(opened.model), optimizer.state()}, options);
  } catch (const Error& error) {
    message = error.what();
  }
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
  EXPECT_NE(message.find("cannot write"), std::string::npos) << message;
  EXPECT_EQ(checkpoints_of(run.run).at(0), run.run / "step-000004");
  EXPECT_EQ(sha256_file(run.run / "step-000004/model.safetensors"), before);
  EXPECT_EQ(read_file(run.run / "latest"), "step-000004\n");
  EXPECT_FALSE(std::filesystem::exists(run.run / ".step-000008.tmp"));
  EXPECT_TRUE(train(run).finished);  // and it can be resumed
}

}  // namespace
}  // namespace cepe
