#include "train/step_log.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "base/temporary_directory.h"

namespace cepe {
namespace {

// A device that works through a queue while the host runs ahead: both clocks in milliseconds.
struct Simulation {
  double host = 0, device = 0;
  void submit(double host_cost, double device_cost) {  // the host is busy with it, then the device
    host += host_cost;
    device = std::max(device, host) + device_cost;
  }
};

class SimulatedMoment {
 public:
  explicit SimulatedMoment(Simulation& simulation)
      : simulation_(&simulation), reached_(std::max(simulation.device, simulation.host)) {}
  void wait() const { simulation_->host = std::max(simulation_->host, reached_); }
  double seconds_since(const SimulatedMoment& earlier) const { return (reached_ - earlier.reached_) / 1e3; }

 private:
  Simulation* simulation_;
  double reached_;
};

using Clock = StepClock<SimulatedMoment>;

// Steps of `device_cost` as the log takes them: each is read when the next has been submitted, the last at the end.
std::vector<double> milliseconds_of_steps(int64_t count, double host_cost, double device_cost) {
  Simulation simulation;
  Clock clock{SimulatedMoment(simulation)};
  std::vector<double> times;
  std::optional<Clock::Step> pending;
  const auto read = [&] {
    if (!pending) return;
    pending->wait();
    times.push_back(1e3 * pending->seconds());
  };
  for (int64_t step = 0; step < count; ++step) {
    simulation.submit(host_cost, device_cost);
    Clock::Step next = clock.finish_step(SimulatedMoment(simulation));
    read();
    pending = std::move(next);
  }
  read();
  return times;
}

TEST(StepClock, EveryStepLastsAsLongAsTheDeviceTakes) {
  for (const double host_cost : {1.0, 44.0, 88.0}) {  // near 89 the results reach the host a step late
    const std::vector<double> times = milliseconds_of_steps(6, host_cost, 89);
    ASSERT_EQ(times.size(), 6u);
    EXPECT_NEAR(times[0], 89 + host_cost, 1e-9);  // the device has nothing to do until the host has submitted it
    for (size_t i = 1; i < times.size(); ++i) EXPECT_NEAR(times[i], 89, 1e-9) << "step " << i;
  }
  // A host that is slower than the device: the device's idling is part of the step.
  const std::vector<double> slow = milliseconds_of_steps(4, 120, 50);
  for (size_t i = 1; i < slow.size(); ++i) EXPECT_NEAR(slow[i], 120, 1e-9);
}

TEST(StepClock, WhatHappensBeforeARestartBelongsToNoStep) {
  Simulation simulation;
  Clock clock{SimulatedMoment(simulation)};
  simulation.submit(1, 50);
  const Clock::Step first = clock.finish_step(SimulatedMoment(simulation));
  simulation.submit(10, 1000);  // a validation
  clock.restart(SimulatedMoment(simulation));
  simulation.submit(1, 50);
  const Clock::Step second = clock.finish_step(SimulatedMoment(simulation));
  EXPECT_NEAR(1e3 * first.seconds(), 51, 1e-9);
  EXPECT_NEAR(1e3 * second.seconds(), 50, 1e-9);
}

TEST(StepLog, TimesOnTheCpuAreThoseOfTheSteps) {
  using namespace std::chrono_literals;
  const TemporaryDirectory directory;
  {
    StepLog log({directory / "log.jsonl", at::kCPU, 2}, 0);
    std::this_thread::sleep_for(700ms);
    log.restart_clock();
    for (const auto pause : {20ms, 300ms}) {
      std::this_thread::sleep_for(pause);
      const int64_t step = pause == 20ms ? 1 : 2;
      log.submit({step, 1e-3, 1000, 1e9}, {.all = at::ones({})}, at::ones({}));
    }
    log.flush();
  }
  std::vector<nlohmann::json> records;
  std::ifstream lines(directory / "log.jsonl");
  for (std::string line; std::getline(lines, line);) records.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(records.size(), 2u);
  const double first = records[0]["milliseconds"], second = records[1]["milliseconds"];
  EXPECT_GE(first, 20);
  EXPECT_LT(first, 600);
  EXPECT_GE(second, 300);
  EXPECT_NEAR(records[0]["seconds_left"].get<double>(), first / 1e3, 1e-9);  // one step more
  EXPECT_EQ(records[1]["seconds_left"].get<double>(), 0);
  EXPECT_NEAR(records[1]["tokens_per_second"].get<double>(), 1000 / (second / 1e3), 1e-6);
}

}  // namespace
}  // namespace cepe
