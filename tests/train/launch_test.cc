// What launchers say of a process, and how ranks that know an address meet.
#include "train/ranks/launch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <map>
#include <thread>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "base/error.h"
#include "base/error_of.h"
#include "train/ranks/engines.h"
#include "train/ranks/rendezvous.h"

namespace cepe {
namespace {

using Variables = std::map<std::string, std::string>;
using testing::HasSubstr;

Launch launch_of(const Variables& variables) {
  return read_launch([&](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  });
}
std::string refusal(const Variables& variables) {
  return error_of([&] { launch_of(variables); });
}

const Variables kTorchrun = {
    {"RANK", "5"}, {"WORLD_SIZE", "8"}, {"LOCAL_RANK", "1"}, {"MASTER_ADDR", "n01"}, {"MASTER_PORT", "29501"}};
const Variables kMpirun = {
    {"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "2"}, {"OMPI_COMM_WORLD_LOCAL_RANK", "0"}};
const Variables kSrun = {{"SLURM_PROCID", "3"},
                         {"SLURM_STEP_NUM_TASKS", "4"},
                         {"SLURM_LOCALID", "1"},
                         {"SLURM_JOB_ID", "1234567"},
                         {"SLURM_STEP_NODELIST", "gpu[07-8]"}};

TEST(Launch, IsReadFromEachLauncher) {
  EXPECT_EQ(launch_of({}).size, 1);
  const Launch torchrun = launch_of(kTorchrun);
  EXPECT_EQ(torchrun.by, Launch::By::torchrun);
  EXPECT_EQ(std::tuple(torchrun.rank, torchrun.size, torchrun.local_rank), std::tuple(5, 8, 1));
  EXPECT_EQ(std::tuple(torchrun.address, torchrun.port), std::tuple("n01", 29501));
  EXPECT_FALSE(torchrun.store_is_served);

  const Launch mpirun = launch_of(kMpirun);
  EXPECT_EQ(mpirun.by, Launch::By::mpirun);
  EXPECT_EQ(std::tuple(mpirun.rank, mpirun.size, mpirun.local_rank, mpirun.address), std::tuple(1, 2, 0, ""));

  const Launch srun = launch_of(kSrun);
  EXPECT_EQ(srun.by, Launch::By::srun);
  EXPECT_EQ(std::tuple(srun.rank, srun.size, srun.local_rank), std::tuple(3, 4, 1));
  EXPECT_EQ(srun.address, "gpu07");
  EXPECT_EQ(srun.port, 20000 + 1234567 % 12000);
  Variables placed = kSrun;
  placed.insert({{"MASTER_ADDR", "gpu08"}, {"MASTER_PORT", "5000"}});
  EXPECT_EQ(std::tuple(launch_of(placed).address, launch_of(placed).port), std::tuple("gpu08", 5000));
}

TEST(Launch, TheInnerLauncherCounts) {
  Variables both = kSrun;
  both.insert(kMpirun.begin(), kMpirun.end());
  EXPECT_EQ(launch_of(both).by, Launch::By::mpirun);
  both.insert(kTorchrun.begin(), kTorchrun.end());
  both["TORCHELASTIC_USE_AGENT_STORE"] = "True";
  both["TORCHELASTIC_RESTART_COUNT"] = "2";
  EXPECT_EQ(launch_of(both).by, Launch::By::torchrun);
  EXPECT_TRUE(launch_of(both).store_is_served);
  EXPECT_EQ(launch_of(both).attempt, "2");
  // A batch script of Slurm, and a single process in an allocation, are one rank.
  EXPECT_EQ(launch_of({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}}).size, 1);
  EXPECT_EQ(launch_of({{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}}).size, 1);
}

TEST(Launch, WhatIsThereInPartIsRefused) {
  for (const auto& [variables, launcher] :
       std::vector<std::pair<Variables, std::string>>{{kTorchrun, "torchrun"}, {kMpirun, "mpirun"}, {kSrun, "srun"}}) {
    for (const auto& [name, value] : variables) {
      Variables part = variables;
      part.erase(name);
      if (name == "SLURM_STEP_NUM_TASKS") continue;  // without it there is no step
      EXPECT_EQ(refusal(part), name + ": not set, although other variables of " + launcher + " are");
    }
  }
  Variables wrong = kTorchrun;
  wrong["RANK"] = "8";
  EXPECT_EQ(refusal(wrong), "RANK: 8 is no rank of 8 (WORLD_SIZE)");
  wrong["RANK"] = "one";
  EXPECT_EQ(refusal(wrong), "RANK: expected a number, found \"one\"");
  wrong = kTorchrun;
  wrong["LOCAL_RANK"] = "6";
  EXPECT_THAT(refusal(wrong), HasSubstr("LOCAL_RANK: 6 is more than the rank 5"));
  wrong = kTorchrun;
  wrong["MASTER_PORT"] = "70000";
  EXPECT_THAT(refusal(wrong), HasSubstr("MASTER_PORT: 70000 is no port"));
}

TEST(Launch, TheFirstHostOfSlurmsNotation) {
  for (const auto& [list, host] : std::vector<std::pair<std::string, std::string>>{{"a", "a"},
                                                                                   {"a,b", "a"},
                                                                                   {"n[003-5,8],m1", "n003"},
                                                                                   {"n[7],m", "n7"},
                                                                                   {"r[1-2]n[04-08]", "r1n04"},
                                                                                   {"n[1,2]-ib,x", "n1-ib"}}) {
    EXPECT_EQ(first_host(list), host) << list;
  }
  for (const char* list : {"n[", "n[]", "n[3", ",a"}) EXPECT_THROW(first_host(list), Error) << list;
}

TEST(Launch, EachRankOfANodeHasItsGpu) {
  Launch launch;
  EXPECT_EQ(device_of_rank(launch, "auto", 4), "auto");
  EXPECT_EQ(device_of_rank(launch, "cuda:2", 4), "cuda:2");
  launch.rank = 5, launch.size = 8, launch.local_rank = 1;
  EXPECT_EQ(device_of_rank(launch, "auto", 4), "cuda:1");
  EXPECT_EQ(device_of_rank(launch, "cuda", 4), "cuda:1");
  EXPECT_EQ(device_of_rank(launch, "cpu", 4), "cpu");
  EXPECT_EQ(device_of_rank(launch, "auto", 0), "auto");
  EXPECT_THAT(error_of([&] { device_of_rank(launch, "cuda:2", 4); }), HasSubstr("cannot share one GPU"));
  EXPECT_EQ(
      error_of([&] { device_of_rank(launch, "cuda", 1); }),
      "device cuda: this process sees 1 GPU, none for rank 1 of its node (counted from 0): let every rank see all "
      "GPUs of the node (in Slurm GPUs per node, not per task)");
  EXPECT_THAT(error_of([&] { device_of_rank(launch, "auto", 1); }), HasSubstr("device auto: this process sees 1 GPU,"));
  launch.local_rank = 3;
  EXPECT_THAT(error_of([&] { device_of_rank(launch, "cuda", 2); }), HasSubstr("sees 2 GPUs, none for rank 3"));
  launch.by = Launch::By::torchrun;
  EXPECT_THAT(error_of([&] { open_collectives(launch, {}); }), HasSubstr("start them with mpirun"));
}

// One of two ranks; the other is gone.
class LeftAlone : public Collectives {
 public:
  LeftAlone() : Collectives({.by = Launch::By::mpirun, .size = 2}) {}
  at::Device device() const override { return at::kCPU; }
  std::unique_ptr<Work> sum(const at::Tensor&) override { fail("rank 1 does not answer"); }
  std::unique_ptr<Work> sum_to(const at::Tensor&, int64_t) override { fail("rank 1 does not answer"); }
  std::unique_ptr<Work> broadcast(const at::Tensor&, int64_t) override { fail("rank 1 does not answer"); }
};

TEST(Together, TheReasonIsSaidAlthoughTheOthersAreGone) {
  LeftAlone ranks;
  EXPECT_EQ(error_of([&] { together(ranks, [] { fail("the disk is full"); }); }), "the disk is full");
  EXPECT_EQ(error_of([&] { together(ranks, [] {}); }), "rank 1 does not answer");
}

// Three ranks of an attempt, as threads. Each sees the word that the first says.
void expect_to_meet(const Launch& launch, const std::string& said) {
  std::vector<std::string> seen(3);
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < 3; ++rank) {
    threads.emplace_back([&, rank] {
      Launch own = launch;
      own.rank = rank;
      const auto store = open_store(own, 1);
      if (rank == 0) store->set("word", std::vector<uint8_t>(said.begin(), said.end()));
      const std::vector<uint8_t> word = store->get("word");
      seen[static_cast<size_t>(rank)] = {word.begin(), word.end()};
      store->add("read", 1);
      while (rank == 0 && store->add("read", 0) < 3) std::this_thread::yield();  // the first serves the others
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(seen, testing::Each(said));
}

Launch launch_of_three() {
  Launch launch = launch_of(kTorchrun);
  launch.size = 3;
  launch.address = "127.0.0.1";
  launch.port = 20000 + ::getpid() % 20000;
  return launch;
}

TEST(Rendezvous, RanksMeetAtAnAddress) { expect_to_meet(launch_of_three(), "yes"); }

// torchrun's store outlives an attempt whose ranks ended: those of the next one do not find what these left.
TEST(Rendezvous, EachAttemptHasTheServedStoreForItself) {
  Launch launch = launch_of_three();
  launch.store_is_served = true;
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(launch.port);
  options.isServer = true;
  options.waitWorkers = false;
  const auto served = c10::make_intrusive<c10d::TCPStore>(launch.address, options);
  for (const char* attempt : {"0", "1"}) {
    launch.attempt = attempt;
    expect_to_meet(launch, std::string("attempt ") + attempt);
  }
  Launch again = launch;  // one rank of a third attempt waits, although all of the earlier ones have arrived
  again.attempt = "2";
  EXPECT_THAT(error_of([&] { open_store(again, 0.01); }), HasSubstr("the 3 ranks do not meet"));
}

TEST(Rendezvous, ARankThatWaitsInVainSaysSo) {
  Launch launch = launch_of(kTorchrun);
  launch.rank = 0;
  launch.address = "127.0.0.1";
  launch.port = 20000 + ::getpid() % 20000;
  EXPECT_THAT(error_of([&] { open_store(launch, 0.01); }), HasSubstr("the 8 ranks do not meet"));
  launch.address = "";
  EXPECT_THAT(error_of([&] { open_store(launch, 0.01); }), HasSubstr("give MASTER_ADDR"));
}

}  // namespace
}  // namespace cepe
