#include "train/train_config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "base/error.h"
#include "base/temporary_directory.h"

namespace cepe {
namespace {

TEST(Schedule, WarmsUpLinearlyAndFallsAlongACosine) {
  TrainConfig config;
  config.learning_rate = 4e-4;
  config.warmup_steps = 10;
  config.steps = 111;
  config.final_fraction = 0.05;
  EXPECT_NEAR(learning_rate_at(config, 0), 4e-5, 1e-12);
  EXPECT_NEAR(learning_rate_at(config, 4), 2e-4, 1e-12);
  EXPECT_NEAR(learning_rate_at(config, 9), 4e-4, 1e-12);
  EXPECT_NEAR(learning_rate_at(config, 10), 4e-4, 1e-12);
  EXPECT_NEAR(learning_rate_at(config, 60), 4e-4 * (0.05 + 0.95 * 0.5), 1e-12);  // half way
  EXPECT_NEAR(learning_rate_at(config, 35), 4e-4 * (0.05 + 0.95 * 0.5 * (1 + std::sqrt(0.5))), 1e-12);
  EXPECT_NEAR(learning_rate_at(config, 110), 2e-5, 1e-12);  // the last step
  config.warmup_steps = 0;
  EXPECT_NEAR(learning_rate_at(config, 0), 4e-4, 1e-12);
  config.steps = 1;
  EXPECT_NEAR(learning_rate_at(config, 0), 4e-4, 1e-12);
}

std::string refusal(const std::vector<std::string>& assignments) {
  return error_of<Error>([&] {
    Config config;
    for (const char* needed : {"model.base=m", "data.train=t"}) config.override_with(needed);
    for (const std::string& assignment : assignments) config.override_with(assignment);
    read_train_config(config);
  });
}

TEST(TrainConfig, RefusesWhatMakesNoSense) {
  EXPECT_NE(refusal({"train.batch=6", "train.micro_batch=4"}).find("cannot be cut into micro-batches of 4"),
            std::string::npos);
  EXPECT_NE(refusal({"train.stepz=4"}).find("unknown key train.stepz"), std::string::npos);
  EXPECT_NE(refusal({"train.steps=0"}).find("train.steps"), std::string::npos);
  EXPECT_NE(refusal({"train.steps=9000000000000000000"}).find("too large"), std::string::npos);
  EXPECT_NE(refusal({"train.stage=cooldown"}).find("expected standard or warmup"), std::string::npos);
  EXPECT_NE(refusal({"train.stage=warmup"}).find("the same tokens"), std::string::npos);
  EXPECT_NE(refusal({"train.context_chunks=4,0"}).find("train.context_chunks"), std::string::npos);
  EXPECT_NE(refusal({"train.mask_chunks=1.5"}).find("train.mask_chunks"), std::string::npos);
  EXPECT_NE(refusal({"train.beta1=1.0"}).find("beta1"), std::string::npos);
  EXPECT_NE(refusal({"train.learning_rate=-1.0"}).find("train.learning_rate"), std::string::npos);
  EXPECT_NE(refusal({"run.weights=int4"}).find("run.weights"), std::string::npos);
  EXPECT_NE(refusal({"train.precision=fp8"}).find("train.precision"), std::string::npos);
}

TEST(TrainConfig, ShippedRecipesAreRead) {
  for (const char* name : {"smollm2-train", "smollm2-warmup"}) {
    Config config = Config::from_file(std::string("configs/") + name + ".toml");
    const TrainConfig read = read_train_config(config);
    EXPECT_EQ(read.encoder_layers, 8);
    EXPECT_EQ(read.cross_attention_layers, 15);
    EXPECT_EQ(read.decoder_tokens, read.stage == "warmup" ? 256 : 1024);
    EXPECT_EQ(read.max_context_tokens(), read.stage == "warmup" ? 256 : 4096);
    EXPECT_EQ(read.tokens_per_step(), read.stage == "warmup" ? 256 * 512 : 16 * 5120);
  }
}

}  // namespace
}  // namespace cepe
