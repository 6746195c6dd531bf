#include "train/run/step_profile.h"

#include <set>

#include "train/trainer_fixture.h"

namespace cepe {
namespace {

std::multiset<std::string> names_in(const fs::path& trace) {
  std::multiset<std::string> names;
  const nlohmann::json events = nlohmann::json::parse(read_file(trace))["traceEvents"];
  for (const nlohmann::json& event : events) {
    if (event.value("ph", "") == "X") names.insert(event["name"].get<std::string>());
  }
  return names;
}

TEST_F(TrainerTest, ProfileHoldsTheStepsThatWereAskedFor) {
  TrainJob plain = job("plain"), profiled = job("profiled");
  profiled.config.profile_steps = 2;
  profiled.config.profile_after = 3;
  train(plain);
  train(profiled);
  const std::multiset<std::string> names = names_in(profiled.run / "steps-4-5.pt.trace.json");
  for (const char* step : {"ProfilerStep#4", "ProfilerStep#5"}) EXPECT_EQ(names.count(step), 1u) << step;
  for (const char* step : {"ProfilerStep#3", "ProfilerStep#6"}) EXPECT_EQ(names.count(step), 0u) << step;
  // One optimiser step each; forward and backward products of both; what autograd's threads do.
  EXPECT_EQ(names.count("aten::_fused_adamw_"), 2u);
  EXPECT_GE(names.count("aten::mm"), 20u);
  EXPECT_GE(names.count("AddmmBackward0") + names.count("MmBackward0"), 2u);
  EXPECT_EQ(final_hash(profiled), final_hash(plain));
  EXPECT_FALSE(fs::exists(profiled.run / "steps-4-5.pt.trace.json.part"));
}

// A resumed run counts its own steps; one that ends earlier writes nothing.
TEST_F(TrainerTest, ProfileCountsTheStepsOfASitting) {
  TrainJob run = job("run");
  run.config.max_minutes = 1e-9;  // stops before the first step
  run.config.profile_steps = 3;
  run.config.profile_after = 0;
  train(run);
  EXPECT_FALSE(fs::exists(run.run / "steps-1-3.pt.trace.json"));
  run.config.max_minutes = 0;
  train(run);
  EXPECT_EQ(names_in(run.run / "steps-1-3.pt.trace.json").count("ProfilerStep#3"), 1u);
  TrainJob shorter = job("shorter");
  shorter.config.profile_steps = 5;
  shorter.config.profile_after = 10;
  train(shorter);
  EXPECT_FALSE(fs::exists(shorter.run / "steps-11-15.pt.trace.json"));
}

}  // namespace
}  // namespace cepe
