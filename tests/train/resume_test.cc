// Through the binary: a run that is killed at any moment and resumed ends with the same bits as one that is not, and on
// two ranks, by mpirun, with the same weights to rounding. CEPE_TEST_KILLS: how many moments, else 4.
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>
#include <thread>

#include "base/file.h"
#include "base/temporary_directory.h"
#include "data/corpora.h"
#include "io/safetensors.h"
#include "train/sample_shards.h"

namespace cepe {
namespace {

using Arguments = std::vector<std::string>;

class Process {
 public:
  // file_bytes: the largest file that it may write, in place of a full disk; 0: no limit. Writing beyond it fails.
  Process(Arguments arguments, const std::filesystem::path& output, rlim_t file_bytes = 0) {
    if (arguments[0] != CEPE_MPIRUN) arguments.insert(arguments.begin(), CEPE_BINARY);
    std::vector<char*> raw;
    for (std::string& argument : arguments) raw.push_back(argument.data());
    raw.push_back(nullptr);
    const int descriptor = ::open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    pid_ = fork();
    if (pid_ == 0) {
      ::dup2(descriptor, 1);
      ::dup2(descriptor, 2);
      if (file_bytes > 0) {
        std::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{file_bytes, file_bytes};
        ::setrlimit(RLIMIT_FSIZE, &limit);
      }
      ::execv(raw[0], raw.data());
      ::_exit(127);
    }
    ::close(descriptor);
  }
  void signal(int number) const { ::kill(pid_, number); }
  // To the n-th process that it started.
  void signal_child(size_t n, int number) const {
    std::ifstream file(fmt::format("/proc/{}/task/{}/children", pid_, pid_));
    std::vector<pid_t> children;
    for (pid_t child; file >> child;) children.push_back(child);
    ASSERT_LT(n, children.size());
    ::kill(children[n], number);
  }
  bool running() {
    if (!status_) {
      int status = 0;
      if (::waitpid(pid_, &status, WNOHANG) == pid_) status_ = status;
    }
    return !status_;
  }
  int wait() {
    int status = 0;
    if (!status_ && ::waitpid(pid_, &status, 0) == pid_) status_ = status;
    return *status_;
  }

 private:
  pid_t pid_ = 0;
  std::optional<int> status_;
};

class ResumeTest : public testing::Test {
 protected:
  ResumeTest() { write_corpus(directory_ / "data.tokens", {128, {900, 700}}); }

  Arguments command(const std::string& run, const Arguments& more = {}) const {
    const std::string shards = (directory_ / "data.tokens").string();
    write_file(directory_ / "train.toml", fmt::format(R"(
[model]
base = "{}"
encoder_layers = 2
cross_attention_layers = 1
[data]
train = ["{}"]
[train]
chunk_length = 16
context_chunks = [2, 4]
decoder_tokens = 32
mask_chunks = 0.3
batch = 4
micro_batch = 2
steps = 60
warmup_steps = 10
[run]
checkpoint_every = 5
weights = "f32"
)",
                                                      CEPE_TEST_DATA "/replug", shards));
    Arguments arguments = {
        "train", (directory_ / "train.toml").string(), "--run", (directory_ / run).string(), "--device", "cpu"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  // The same command as two ranks.
  static Arguments on_two_ranks(const Arguments& arguments) {
    Arguments all = {CEPE_MPIRUN};
    std::istringstream options(CEPE_MPIRUN_OPTIONS);
    for (std::string option; std::getline(options, option, '|');) all.push_back(option);
    all.insert(all.end(), {"-np", "2", CEPE_BINARY});
    all.insert(all.end(), arguments.begin(), arguments.end());
    return all;
  }
  // The largest difference between the weights of two runs.
  double difference(const std::string& a, const std::string& b) const {
    const SafetensorsFile one(directory_ / (a + "/final/model.safetensors")),
        other(directory_ / (b + "/final/model.safetensors"));
    double most = 0;
    for (const TensorView& view : one.tensors()) {
      const auto *x = reinterpret_cast<const float*>(view.bytes.data()),
                 *y = reinterpret_cast<const float*>(other.find(view.name)->bytes.data());
      for (size_t i = 0; i < view.bytes.size() / sizeof(float); ++i)
        most = std::max(most, static_cast<double>(std::abs(x[i] - y[i])));
    }
    return most;
  }
  std::string output() const { return read_file(directory_ / "output"); }
  int finish(const Arguments& arguments) const { return Process(arguments, directory_ / "output").wait(); }
  std::string final_hash(const std::string& run) const {
    return sha256_file(directory_ / (run + "/final/model.safetensors"));
  }
  // Waits until the run has taken some steps; false when it has ended before.
  bool wait_for_step(Process& process, int64_t step) const {
    const std::string wanted = "step " + std::to_string(step) + "/";
    while (process.running()) {
      if (output().find(wanted) != std::string::npos) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return false;
  }

  // Kills the run, which goes on from its checkpoints each time: on one rank, or in turn on one and two.
  void kill_and_resume(const Arguments& more, bool on_two_ranks_as_well = false) const {
    ASSERT_EQ(finish(command("whole", more)), 0) << output();
    const char* wanted = std::getenv("CEPE_TEST_KILLS");
    const int64_t moments = wanted ? std::atoll(wanted) : 4;
    std::mt19937 random(std::random_device{}());
    int64_t kills = 0;
    for (int64_t i = 0; i < moments; ++i) {
      const bool both = on_two_ranks_as_well && i % 2 == 1;
      const Arguments arguments = command("killed", more);
      Process process(both ? on_two_ranks(arguments) : arguments, directory_ / "output");
      // It has been seen to take some steps; then some milliseconds more.
      if (!wait_for_step(process, 3 + 54 * i / moments)) break;
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 30000));
      if (both) {
        process.signal_child(random() % 2, SIGKILL);  // a rank: the launcher ends the other
      } else {
        process.signal(SIGKILL);
      }
      const int status = process.wait();
      kills += both ? WEXITSTATUS(status) != 0 : WIFSIGNALED(status);
    }
    EXPECT_GE(kills, moments / 2);
    RecordProperty("kills", static_cast<int>(kills));
    ASSERT_EQ(finish(command("killed", more)), 0) << output();
    if (on_two_ranks_as_well) {
      EXPECT_LT(difference("killed", "whole"), 1e-4);
    } else {
      EXPECT_EQ(final_hash("killed"), final_hash("whole"));
    }
  }

  const TemporaryDirectory directory_;
};

TEST_F(ResumeTest, KilledAtRandomMomentsAndResumed) { kill_and_resume({}); }

TEST_F(ResumeTest, KilledWithSamplesToBeAsked) {
  write_samples(directory_ / "ask.tokens", planned_samples(29));
  kill_and_resume({"--train.stage=ask", "--data.ask=" + (directory_ / "ask.tokens").string(), "--data.ask_share=0.6"});
}

TEST_F(ResumeTest, KilledAndResumedOnOneAndTwoRanks) {
  if (std::string(CEPE_MPIRUN).empty()) GTEST_SKIP() << "built without MPI";
  kill_and_resume({}, /*on_two_ranks_as_well=*/true);
}

TEST_F(ResumeTest, ATerminatedRankLeavesACheckpointAndEndsBoth) {
  if (std::string(CEPE_MPIRUN).empty()) GTEST_SKIP() << "built without MPI";
  const Arguments endless = command("run", {"--run.checkpoint_every=0", "--train.steps=100000"});
  Process process(on_two_ranks(endless), directory_ / "output");
  ASSERT_TRUE(wait_for_step(process, 3)) << output();
  process.signal_child(1, SIGTERM);
  EXPECT_EQ(process.wait(), 0) << output();
  const std::string said = output();
  const size_t at = said.find("stopped after step");
  EXPECT_NE(at, std::string::npos) << said;
  EXPECT_EQ(said.find("stopped after step", at + 1), std::string::npos) << said;  // the first rank alone speaks
  EXPECT_TRUE(std::filesystem::exists(directory_ / "run/latest"));
}

// The disk fills up in the middle of a run: what was written before is there, and the run goes on from it.
TEST_F(ResumeTest, AFullDiskLosesNothing) {
  ASSERT_EQ(finish(command("whole")), 0) << output();
  {
    Process process(command("run"), directory_ / "output");
    ASSERT_TRUE(wait_for_step(process, 12)) << output();
    process.signal(SIGTERM);
    ASSERT_EQ(process.wait(), 0) << output();
  }
  const std::string latest = read_file(directory_ / "run/latest");
  const std::string name = latest.substr(0, latest.size() - 1);
  const std::string before = sha256_file(directory_ / ("run/" + name + "/optimizer.safetensors"));
  Process full(command("run"), directory_ / "output", /*file_bytes=*/30000);
  EXPECT_EQ(WEXITSTATUS(full.wait()), 1);
  EXPECT_NE(output().find("cepe: "), std::string::npos) << output();
  EXPECT_NE(output().find("cannot write"), std::string::npos) << output();
  EXPECT_EQ(read_file(directory_ / "run/latest"), latest);
  EXPECT_EQ(sha256_file(directory_ / ("run/" + name + "/optimizer.safetensors")), before);
  ASSERT_EQ(finish(command("run")), 0) << output();
  EXPECT_EQ(final_hash("run"), final_hash("whole"));
}

TEST_F(ResumeTest, ATerminatedRunLeavesACheckpoint) {
  Process process(command("run", {"--run.checkpoint_every=0", "--train.steps=100000"}), directory_ / "output");
  ASSERT_TRUE(wait_for_step(process, 3)) << output();
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait(), 0) << output();
  EXPECT_NE(output().find("stopped after step"), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(directory_ / "run/latest"));
}

TEST_F(ResumeTest, TwoProcessesCannotShareADirectory) {
  Process process(command("run", {"--train.steps=100000"}), directory_ / "output");
  ASSERT_TRUE(wait_for_step(process, 1)) << output();
  Process second(command("run"), directory_ / "second");
  EXPECT_NE(second.wait(), 0);
  EXPECT_NE(read_file(directory_ / "second").find("another process is training in this directory"), std::string::npos);
  process.signal(SIGKILL);
  process.wait();
}

TEST_F(ResumeTest, MistakesAreRefusedInOneSentence) {
  for (const Arguments& more : std::vector<Arguments>{
           {"--train.stepz=3"}, {"train.steps=3"}, {"--train.steps=many"}, {"--model.base=/nowhere"}}) {
    EXPECT_EQ(WEXITSTATUS(finish(command("run", more))), 1) << more[0];
    EXPECT_EQ(output().rfind("cepe: ", 0), 0u) << output();
  }
}

TEST_F(ResumeTest, FromTextToATrainedModel) {
  const std::string plain = CEPE_TEST_DATA "/generate/plain", shards = (directory_ / "shards").string();
  std::string text;
  for (int64_t i = 0; i < 40; ++i) text += "Line " + std::to_string(i) + " of a little book about nothing much.\n";
  write_file(directory_ / "book.txt", text);
  write_file(directory_ / "more.jsonl", "{\"text\": \"short\", \"domain\": \"notes\"}\n");
  ASSERT_EQ(finish({"data", "--model", plain, "--out", shards, (directory_ / "book.txt").string(),
                    (directory_ / "more.jsonl").string()}),
            0)
      << output();
  EXPECT_NE(output().find("book.tokens"), std::string::npos);
  ASSERT_EQ(finish(command("run", {"--model.base=" + plain, "--data.train=" + shards, "--train.steps=2"})), 0)
      << output();
  EXPECT_NE(output().find("finished after 2 steps"), std::string::npos);
  ASSERT_EQ(finish({"info", (directory_ / "run/final").string(), "--base", plain}), 0) << output();
}

}  // namespace
}  // namespace cepe
