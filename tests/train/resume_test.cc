// Through the binary: a run that is killed at any moment and resumed ends with the same bits as one that is not.
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <random>
#include <thread>

#include "base/file.h"
#include "base/temporary_directory.h"
#include "data/corpora.h"
#include "train/sample_shards.h"

namespace cepe {
namespace {

class Process {
 public:
  Process(std::vector<std::string> arguments, const std::filesystem::path& output) {
    arguments.insert(arguments.begin(), CEPE_BINARY);
    std::vector<char*> raw;
    for (std::string& argument : arguments) raw.push_back(argument.data());
    raw.push_back(nullptr);
    const int descriptor = ::open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    pid_ = fork();
    if (pid_ == 0) {
      ::dup2(descriptor, 1);
      ::dup2(descriptor, 2);
      ::execv(CEPE_BINARY, raw.data());
      ::_exit(127);
    }
    ::close(descriptor);
  }
  void signal(int number) const { ::kill(pid_, number); }
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

  std::vector<std::string> command(const std::string& run, const std::vector<std::string>& more = {}) const {
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
    std::vector<std::string> arguments = {
        "train", (directory_ / "train.toml").string(), "--run", (directory_ / run).string(), "--device", "cpu"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  std::string output() const { return read_file(directory_ / "output"); }
  int finish(const std::vector<std::string>& arguments) const {
    return Process(arguments, directory_ / "output").wait();
  }
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

  void kill_and_resume(const std::vector<std::string>& more) const {
    ASSERT_EQ(finish(command("whole", more)), 0) << output();
    std::mt19937 random(std::random_device{}());
    int64_t kills = 0;
    for (int64_t after :
         {3, 11, 30, 44}) {  // steps that the process has been seen to take, then some milliseconds more
      Process process(command("killed", more), directory_ / "output");
      if (!wait_for_step(process, after)) break;
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 30000));
      process.signal(SIGKILL);
      const int status = process.wait();
      kills += WIFSIGNALED(status);
    }
    EXPECT_GE(kills, 2);
    ASSERT_EQ(finish(command("killed", more)), 0) << output();
    EXPECT_EQ(final_hash("killed"), final_hash("whole"));
  }

  const TemporaryDirectory directory_;
};

TEST_F(ResumeTest, KilledAtRandomMomentsAndResumed) { kill_and_resume({}); }

TEST_F(ResumeTest, KilledWithSamplesToBeAsked) {
  write_samples(directory_ / "ask.tokens", planned_samples(29));
  kill_and_resume({"--train.stage=ask", "--data.ask=" + (directory_ / "ask.tokens").string(), "--data.ask_share=0.6"});
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
  for (const std::vector<std::string>& more : std::vector<std::vector<std::string>>{
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
