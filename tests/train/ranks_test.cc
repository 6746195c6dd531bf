// Training on two ranks: run by mpirun, as two processes that go through the same tests in step. What two ranks learn
// is compared with what the first learns alone.
#include <ATen/CPUGeneratorImpl.h>

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <csignal>
#include <map>
#include <thread>

#include "io/safetensors.h"
#include "model/checkpoint/checkpoint.h"
#include "train/batches.h"
#include "train/optimizer.h"
#include "train/ranks/engines.h"
#include "train/ranks/sharded_optimizer.h"
#include "train/sample_shards.h"
#include "train/trainer_fixture.h"
#include "train/training_inputs.h"

namespace cepe {
namespace {

constexpr double kTimeoutMinutes = 2;

Collectives& ranks() {
  static const std::unique_ptr<Collectives> opened =
      open_collectives(read_launch(), {.device = at::kCPU, .timeout_minutes = kTimeoutMinutes});
  return *opened;
}
double rank() { return static_cast<double>(ranks().rank()); }

TEST(Ranks, ThereAreTwo) {
  EXPECT_EQ(ranks().size(), 2);
  EXPECT_FALSE(ranks().alone());
}

TEST(Ranks, SumsAndCopies) {
  const at::Tensor sums = at::arange(1000, at::kFloat) * (rank() + 1);
  ranks().sum(sums)->wait();
  EXPECT_TRUE(at::equal(sums, at::arange(1000, at::kFloat) * 3));
  for (const int64_t root : {0, 1}) {
    const at::Tensor to = at::full({3}, 5 + rank(), at::kFloat), from = at::full({3}, 5 + rank(), at::kLong);
    const auto first = ranks().sum_to(to, root), second = ranks().broadcast(from, root);
    second->wait();
    first->wait();
    if (ranks().rank() == root) {
      EXPECT_TRUE(at::equal(to, at::full({3}, 11, at::kFloat)));
    }
    EXPECT_TRUE(at::equal(from, at::full({3}, 5 + root, at::kLong)));
  }
  for (const char* text : {"", "what rank 0 says"})
    EXPECT_EQ(text_of_first(ranks(), ranks().first() ? text : "else"), text);
  EXPECT_TRUE(any_rank(ranks(), !ranks().first()));
  EXPECT_FALSE(any_rank(ranks(), false));
}

TEST(Ranks, AllGoOnOrNone) {
  int64_t done = 0;
  together(ranks(), [&] { ++done; });
  EXPECT_EQ(done, 1);
  const std::string message =
      error_of<Error>([&] { together(ranks(), [&] { require(ranks().first(), "the disk of rank 1 is full"); }); });
  EXPECT_EQ(message,
            ranks().first() ? "rank 0 of 2 stops: what rank 1 says is the reason" : "the disk of rank 1 is full");
}

// Tensors of several sizes, of which one is used by the first rank alone, one by none, one in two places.
struct Weights {
  explicit Weights(int64_t seed) {
    auto generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(seed));
    for (const std::vector<int64_t>& shape :
         std::vector<std::vector<int64_t>>{{40, 3}, {7}, {1}, {30, 5}, {64}, {2, 2, 2}}) {
      list.push_back(at::randn(shape, generator).set_requires_grad(true));
    }
  }
  // Of one sample; the sum over samples is what is learnt.
  at::Tensor loss(int64_t sample) const {
    const double x = 0.1 * static_cast<double>(sample + 1);
    at::Tensor sum = (list[0] * x).sin().sum() + (list[3] * list[3] * x).sum() + (list[2] * list[1]).sum() * x;
    if (sample % 2 == 0) sum = sum + list[5].exp().sum() * x;
    return sum;
  }
  std::vector<at::Tensor> list;
};

// Several steps of two backwards each, the sum by plain AdamW of one process beside.
void compare_with_one_process(const AdamWOptions& options) {
  Weights ours(4), reference(4);
  ShardedOptimizer sharded(ours.list, options, ranks());
  AdamW plain(reference.list, options);
  for (int64_t step = 0; step < 5; ++step) {
    for (int64_t sample = 0; sample < 4; ++sample) reference.loss(4 * step + sample).backward();
    ours.loss(4 * step + ranks().rank()).backward();
    sharded.expect_last_backward();
    ours.loss(4 * step + 2 + ranks().rank()).backward();
    const double expected = plain.step(1e-2).item<double>();
    EXPECT_NEAR(sharded.step(1e-2, at::ones({})).item<double>() / expected, 1, 1e-6);
    for (size_t i = 0; i < ours.list.size(); ++i)
      EXPECT_TRUE(at::allclose(ours.list[i], reference.list[i], 1e-5, 1e-6)) << "step " << step << ", tensor " << i;
  }
  const OptimizerState state = sharded.state();
  if (!ranks().first()) return;
  for (size_t i = 0; i < ours.list.size(); ++i) {
    EXPECT_TRUE(at::allclose(state.averages[i], plain.state().averages[i], 1e-5, 1e-6));
    EXPECT_TRUE(at::allclose(state.square_averages[i], plain.state().square_averages[i], 1e-5, 1e-6));
  }
  EXPECT_EQ(state.updates.item<double>(), 5);
}

TEST(ShardedOptimizer, EqualsOneProcess) { compare_with_one_process({}); }
TEST(ShardedOptimizer, EqualsOneProcessWithDecayAndWithoutClipping) {
  compare_with_one_process({0.8, 0.99, 1e-8, 0.1, 0.0});
}

TEST(ShardedOptimizer, EachRankKeepsAShare) {
  const std::vector<int64_t> owners = owners_of(Weights(1).list, 2);
  EXPECT_EQ(owners.front(), 0);
  EXPECT_EQ(owners.back(), 1);
  EXPECT_TRUE(std::is_sorted(owners.begin(), owners.end()));
  EXPECT_EQ(owners_of({at::zeros({5})}, 4), std::vector<int64_t>{0});
}

// Small buckets leave in order though gradients come in another, and whatever a rank has no gradients for is zeros.
TEST(GradientBuckets, SumWhateverIsMissing) {
  Weights weights(2);
  GradientBuckets buckets(weights.list, owners_of(weights.list, 2), ranks(), 1);
  for (int64_t step = 0; step < 3; ++step) {
    buckets.expect_last_backward();
    if (ranks().first()) weights.loss(0).backward();
    const std::vector<at::Tensor> sums = buckets.take_sums();
    Weights alone(2);
    alone.loss(0).backward();
    const std::vector<int64_t> owners = owners_of(weights.list, 2);
    size_t next = 0;
    for (size_t i = 0; i < owners.size(); ++i) {
      EXPECT_FALSE(weights.list[i].grad().defined());
      if (owners[i] != ranks().rank()) continue;
      const at::Tensor grad = alone.list[i].grad();
      EXPECT_TRUE(at::equal(sums.at(next++), grad.defined() ? grad : at::zeros_like(alone.list[i])));
    }
    EXPECT_EQ(next, sums.size());
  }
}

// The ranks, counting what leaves for its owner.
class Counting : public Collectives {
 public:
  Counting() : Collectives(read_launch()) {}
  at::Device device() const override { return ranks().device(); }
  std::unique_ptr<Work> sum(const at::Tensor& tensor) override { return ranks().sum(tensor); }
  std::unique_ptr<Work> sum_to(const at::Tensor& tensor, int64_t root) override {
    ++left;
    return ranks().sum_to(tensor, root);
  }
  std::unique_ptr<Work> broadcast(const at::Tensor& tensor, int64_t root) override {
    return ranks().broadcast(tensor, root);
  }
  int64_t left = 0;
};

// Listed as the trained parts are: what backward is done with first, in reversed order, before what it comes to last.
// From the second step on gradients leave while the latter are computed; a first step that the first rank has nothing
// to do in teaches no order.
TEST(GradientBuckets, LeaveWhileBackwardComputesOthers) {
  const auto leaf = [](double value) { return at::full({8}, value, at::kFloat).set_requires_grad(true); };
  const std::vector<at::Tensor> list = {leaf(1), leaf(2), leaf(3),
                                        leaf(4)};  // cross-attention of 2 layers, encoder of 2
  Counting counting;
  GradientBuckets buckets(list, owners_of(list, 2), counting, 8);
  for (int64_t step = 0; step < 4; ++step) {
    counting.left = 0;
    int64_t left_before_encoder = -1;
    buckets.expect_last_backward();
    if (step > 0 || !ranks().first()) {
      const at::Tensor encoded = list[2] * list[3];
      encoded.register_hook([&](const at::Tensor&) { left_before_encoder = counting.left; });
      ((encoded * list[0]).sin() * list[1]).sum().backward();
      EXPECT_EQ(left_before_encoder, step < 2 ? 0 : 2) << step;
    }
    const std::vector<at::Tensor> sums = buckets.take_sums();
    EXPECT_EQ(counting.left, 4);
    const at::Tensor encoded = at::full({8}, 12, at::kFloat), times = at::full({8}, step > 0 ? 2 : 1, at::kFloat);
    const std::vector<at::Tensor> expected =
        ranks().first() ? std::vector<at::Tensor>{encoded.cos() * 2 * 12 * times, encoded.sin() * times}
                        : std::vector<at::Tensor>{encoded.cos() * 2 * 4 * times, encoded.cos() * 2 * 3 * times};
    ASSERT_EQ(sums.size(), 2u);
    for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(at::allclose(sums[i], expected[i])) << step << " " << i;
  }
}

TEST(ShardedOptimizer, LeavesEverythingWhenOneRankIsNotFinite) {
  Weights weights(3);
  ShardedOptimizer optimizer(weights.list, {}, ranks());
  const auto unchanged = [&] {
    for (size_t i = 0; i < weights.list.size(); ++i) EXPECT_TRUE(at::equal(weights.list[i], Weights(3).list[i]));
  };
  (weights.loss(0) * (ranks().first() ? 1.0 : NAN)).backward();
  EXPECT_FALSE(std::isfinite(optimizer.step(1e-2, at::ones({})).item<double>()));
  unchanged();
  weights.loss(0).backward();
  EXPECT_TRUE(std::isfinite(optimizer.step(1e-2, at::full({}, INFINITY)).item<double>()));
  unchanged();
  weights.loss(0).backward();
  optimizer.step(1e-2, at::ones({}));
  EXPECT_FALSE(at::equal(weights.list[0], Weights(3).list[0]));
}

class RanksTrainerTest : public TrainerTest {
 protected:
  RanksTrainerTest() : root_(text_of_first(ranks(), directory_.path().string())) {
    write_samples(directory_ / "ask.tokens", planned_samples(23));
    any_rank(ranks(), false);  // the first rank's files are there
  }
  void TearDown() override { any_rank(ranks(), false); }  // the first rank's files are read until here

  // On both ranks, or, alone, on the first.
  TrainJob job_of(const std::string& name, bool both) const {
    TrainJob run = job(name, kPublished);
    run.config.train = run.config.validation = {(root_ / "data.tokens").string()};
    run.config.batch = 5;
    run.config.micro_batch = 1;
    run.config.steps = 20;
    run.config.learning_rate = 5e-3;
    run.config.checkpoint_every = 8;
    run.config.keep_checkpoints = 9;
    run.config.rank_minutes = kTimeoutMinutes;
    run.run = directory_ / name;  // the second's must stay absent
    if (both) run.ranks = &ranks();
    return run;
  }
  // What the second writes would be in a directory of its own.
  void expect_only_first_writes(const TrainJob& run) const {
    EXPECT_EQ(fs::exists(run.run), ranks().first()) << run.run;
  }
  TrainJob ask_job(const std::string& name, bool both) const {
    TrainJob run = job_of(name, both);
    run.config.stage = Stage::ask;
    run.config.ask = {(root_ / "ask.tokens").string()};
    run.config.ask_share = 0.6;
    return run;
  }
  static void train_alone(const TrainJob& run) {
    if (ranks().first()) train(run);
    any_rank(ranks(), false);
  }
  std::map<int64_t, nlohmann::json> steps_of(const TrainJob& run) const {
    std::map<int64_t, nlohmann::json> steps;
    for (const nlohmann::json& record : log(run)) {
      if (record.contains("loss")) steps[record["step"].get<int64_t>()] = record;
    }
    return steps;
  }
  // The largest difference between two runs' losses and final weights; on the first rank.
  void expect_same(const TrainJob& a, const TrainJob& b) const {
    if (!ranks().first()) return;
    auto here = steps_of(a), there = steps_of(b);
    ASSERT_EQ(here.size(), 20u);
    ASSERT_EQ(there.size(), 20u);
    for (const auto& [step, record] : here) {
      for (const char* key : {"loss", "gradient_norm", "loss_text", "loss_answers"}) {
        ASSERT_EQ(record.contains(key), there[step].contains(key)) << key;
        if (!record.contains(key)) continue;
        EXPECT_NEAR(record[key].get<double>(), there[step][key].get<double>(), 1e-3) << key;
      }
      EXPECT_EQ(record["tokens"], there[step]["tokens"]);
      EXPECT_NEAR(record["loss"].get<double>(), there[step]["loss"].get<double>(), 2e-5) << step;
    }
    EXPECT_LT(here[20]["loss"].get<double>(), here[1]["loss"].get<double>());
    EXPECT_LT(difference(a, b), 1e-4);
  }
  static double difference(const TrainJob& a, const TrainJob& b) {
    const SafetensorsFile one(a.run / "final/model.safetensors"), other(b.run / "final/model.safetensors");
    double most = 0;
    size_t compared = 0;
    for (const TensorView& view : one.tensors()) {
      const TensorView* there = other.find(view.name);
      if (!there || view.dtype != DType::f32 || there->bytes.size() != view.bytes.size()) continue;
      const auto *x = reinterpret_cast<const float*>(view.bytes.data()),
                 *y = reinterpret_cast<const float*>(there->bytes.data());
      for (size_t i = 0; i < view.bytes.size() / sizeof(float); ++i)
        most = std::max(most, static_cast<double>(std::abs(x[i] - y[i])));
      ++compared;
    }
    EXPECT_GT(compared, 10u);
    return most;
  }

  const fs::path root_;
};

TEST_F(RanksTrainerTest, TwoRanksLearnWhatOneLearns) {
  const TrainJob both = job_of("both", true), alone = job_of("alone", false);
  const TrainOutcome outcome = train(both);
  EXPECT_TRUE(outcome.finished);
  EXPECT_EQ(outcome.step, 20);
  train_alone(alone);
  expect_same(both, alone);
  expect_only_first_writes(both);
}

// Samples of 0 to 5 chunks and of few scored tokens: in some steps a rank has no gradient at all.
TEST_F(RanksTrainerTest, TwoRanksLearnSamplesOfManySizesAsOneDoes) {
  TrainJob both = ask_job("both", true), alone = ask_job("alone", false);
  for (TrainJob* run : {&both, &alone}) run->config.batch = 2;
  const TrainingData data = open_training_data(both.config);
  int64_t without_gradient = 0;  // steps and ranks
  for (int64_t rank = 0; rank < 2; ++rank) {
    const BatchBuilder builder(both.config, data.train, data.ask, {0, {rank, 2}});
    for (int64_t step = 0; step < both.config.steps; ++step) {
      const std::vector<Batch> batches = builder.build(step).batches;
      without_gradient +=
          std::none_of(batches.begin(), batches.end(), [](const Batch& batch) { return batch.ids_BML.defined(); });
    }
  }
  EXPECT_GT(without_gradient, 0);
  train(both);
  train_alone(alone);
  expect_same(both, alone);
}

// Stages that train another model than encoder and cross-attention.
TEST_F(RanksTrainerTest, TwoRanksLearnAnEncoderAloneAndADecoderAsOneDoes) {
  for (const Stage stage : {Stage::mlm, Stage::window}) {
    const std::string name = name_of(stage);
    TrainJob both = job_of(name, true), alone = job_of(name + "-alone", false);
    for (TrainJob* run : {&both, &alone}) {
      TrainConfig& c = run->config;
      c.stage = stage;
      if (stage == Stage::mlm) {
        c.base = "";
        c.encoder_layers = 2;
        c.mlm_hidden_size = 24;
        c.mlm_heads = 2;
        c.mlm_intermediate_size = 40;
        c.mlm_positions = 64;
      } else {
        c.base = kPlain;
        c.window_rope = WindowRope::linear;
        c.window_factor = 2;
      }
    }
    train(both);
    train_alone(alone);
    expect_same(both, alone);
    expect_only_first_writes(both);
  }
}

TEST_F(RanksTrainerTest, ARunGoesOnWithAnotherNumberOfRanks) {
  const TrainJob alone = ask_job("alone", false);
  train_alone(alone);
  // Which ranks train up to step 8, and which go on from there, as if the run had been killed.
  for (const bool both_begin : {true, false}) {
    const std::string name = both_begin ? "two-one" : "one-two";
    const TrainJob begin = ask_job(name, both_begin), end = ask_job(name, !both_begin);
    if (both_begin) {
      train(begin);
    } else {
      train_alone(begin);
    }
    if (ranks().first()) {
      for (const char* file : {"final", "latest", "step-000016", "step-000020"}) fs::remove_all(begin.run / file);
    }
    any_rank(ranks(), false);
    testing::internal::CaptureStdout();
    if (both_begin) {
      train_alone(end);
    } else {
      EXPECT_TRUE(train(end).finished);
    }
    const std::string said = testing::internal::GetCapturedStdout();
    EXPECT_EQ(said.find("resumed after step 8 of 20") != std::string::npos, ranks().first()) << said;
    expect_same(end, alone);
  }
}

TEST_F(RanksTrainerTest, OneRankThatIsStoppedStopsBothAfterTheSameStep) {
  std::atomic<bool> stop{false};
  TrainJob run = job_of("run", true);
  run.config.steps = 100000;
  if (!ranks().first()) run.stop = &stop;
  std::thread thread([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    stop = true;
  });
  const TrainOutcome outcome = train(run);
  thread.join();
  EXPECT_FALSE(outcome.finished);
  EXPECT_EQ(text_of_first(ranks(), std::to_string(outcome.step)), std::to_string(outcome.step));
  EXPECT_EQ(fs::exists(run.run / fmt::format("step-{:06}", outcome.step)), ranks().first());
  expect_only_first_writes(run);
  run.config.max_minutes = 1e-9;
  EXPECT_EQ(train(run).step, outcome.step);  // without any step
}

// The first rank's clock says when a checkpoint is late; here it always is. The newest is damaged, then.
TEST_F(RanksTrainerTest, WritesByTheClockAndPassesOverADamagedCheckpoint) {
  TrainJob run = job_of("run", true), alone = job_of("alone", false);
  run.config.checkpoint_every = 0;
  run.config.checkpoint_minutes = 1e-9;
  run.config.keep_checkpoints = 3;
  train(run);
  if (ranks().first()) {
    for (const int64_t step : {18, 19, 20}) EXPECT_TRUE(fs::exists(run.run / fmt::format("step-{:06}", step))) << step;
    EXPECT_FALSE(fs::exists(run.run / "step-000017"));
    const fs::path averages = run.run / "step-000020/optimizer.safetensors";
    write_file(averages, read_file(averages).substr(0, 5000));
    fs::remove_all(run.run / "final");
  }
  any_rank(ranks(), false);
  EXPECT_TRUE(train(run).finished);
  EXPECT_EQ(fs::exists(run.run / "step-000020.damaged"), ranks().first());
  expect_only_first_writes(run);
  train_alone(alone);
  expect_same(run, alone);
}

TEST_F(RanksTrainerTest, RanksThatWereToldDifferentThingsDoNotStart) {
  TrainJob run = job_of("run", true);
  if (!ranks().first()) run.config.learning_rate = 2e-3;
  EXPECT_EQ(refusal(run), ranks().first() ? "rank 0 of 2 stops: what rank 1 says is the reason"
                                          : "rank 1 was told other settings than rank 0: `learning_rate = 0.002` and "
                                            "`learning_rate = 0.005`");
  run = job_of("run", true);
  run.config.batch = 1;
  EXPECT_EQ(refusal(run), "train.batch: 1 samples a step cannot be shared by 2 ranks");
  run = job_of("run", true);
  if (!ranks().first()) run.config.base = "/nowhere";
  EXPECT_NE(refusal(run).find(ranks().first() ? "what rank 1 says is the reason" : "/nowhere"), std::string::npos);
}

// The same paths, relative to directories that hold different files, as on nodes that share no disk.
TEST_F(RanksTrainerTest, RanksThatReadDifferentFilesDoNotStart) {
  const fs::path before = fs::current_path();
  fs::current_path(directory_.path());
  fs::copy(kPublished, "base");
  TrainJob parts = job_of("parts", false);  // each rank for itself
  parts.config.base = kPlain;
  parts.config.steps = 1;
  parts.config.learning_rate *= 1 + rank();
  train(parts);
  const auto expect_refusal = [&](const TrainJob& run, const std::string& what) {
    EXPECT_EQ(refusal(run), ranks().first()
                                ? "rank 0 of 2 stops: what rank 1 says is the reason"
                                : "rank 1 reads another " + what + " than rank 0: all ranks must find the same files");
  };
  TrainJob run = job_of("run", true);
  run.config.base = "base";
  run.config.train = {"data.tokens"};
  TrainJob with_parts = run;
  with_parts.config.base = kPlain;
  with_parts.config.parts = "parts/final";
  expect_refusal(with_parts, "directory of parts parts/final");
  if (!ranks().first()) write_corpus("data.tokens", {128, {400, 300, 501}, {"a", "b"}});
  expect_refusal(run, "token shard data.tokens");
  if (!ranks().first()) {
    std::string weights = read_file("base/model.safetensors");
    weights.back() ^= 1;
    write_file("base/model.safetensors", weights);
  }
  expect_refusal(run, "base in base");
  fs::current_path(before);
}

// What validation says cannot be written: the limit stands in for a disk that is full since the last line.
TEST_F(RanksTrainerTest, AValidationThatFailsStopsBoth) {
  const TrainJob run = job_of("run", true);
  train(run);
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  std::signal(SIGXFSZ, SIG_IGN);
  if (ranks().first()) {
    std::string log = read_file(run.run / "log.jsonl");  // without the validation, which ends it
    log.resize(log.rfind('\n', log.size() - 2) + 1);
    write_file(run.run / "log.jsonl", log);
    const rlimit small{log.size(), old.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  }
  const std::string message = refusal(run);  // a finished run whose log holds no validation is validated
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
  EXPECT_NE(message.find(ranks().first() ? "log.jsonl" : "what rank 0 says is the reason"), std::string::npos)
      << message;
}

// The first rank cannot write: the second does not wait for it.
TEST_F(RanksTrainerTest, AFullDiskStopsBoth) {
  TrainJob run = job_of("run", true);
  if (ranks().first()) {
    fs::create_directories(run.run);
    fs::create_directory(run.run / "config.toml");  // cannot be replaced by a file
  }
  const std::string message = refusal(run);
  EXPECT_NE(message.find(ranks().first() ? "config.toml" : "what rank 0 says is the reason"), std::string::npos)
      << message;
}

}  // namespace
}  // namespace cepe
