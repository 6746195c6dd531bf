#include "train/train_config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include "base/error.h"
#include "base/file.h"
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

TEST(Schedule, HoldsThePeak) {
  TrainConfig config;
  config.learning_rate = 4e-4;
  config.warmup_steps = 10;
  config.hold_steps = 40;
  config.steps = 151;
  config.final_fraction = 0;
  for (int64_t step : {10, 30, 49, 50}) EXPECT_EQ(learning_rate_at(config, step), 4e-4);
  EXPECT_NEAR(learning_rate_at(config, 100), 2e-4, 1e-12);  // half way down
  EXPECT_NEAR(learning_rate_at(config, 150), 0, 1e-12);
  config.hold_steps = 1000;  // longer than the run
  EXPECT_EQ(learning_rate_at(config, 150), 4e-4);
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
  EXPECT_NE(refusal({"train.stage=cooldown"}).find("expected one of mlm, warmup, standard, distill, ask, window"),
            std::string::npos);
  EXPECT_NE(refusal({"train.stage=warmup"}).find("the same tokens"), std::string::npos);
  EXPECT_NE(refusal({"train.stage=distill", "train.kl=half"}).find("expected one of full, top"), std::string::npos);
  EXPECT_NE(refusal({"train.stage=distill", "train.kl_coefficient=0"}).find("kl_coefficient"), std::string::npos);
  EXPECT_NE(refusal({"train.stage=distill", "train.lm_coefficient=-1"}).find("lm_coefficient"), std::string::npos);
  EXPECT_NE(refusal({"train.stage=distill", "train.kl_mode=keep"}).find("smooth_ and a number"), std::string::npos);
  EXPECT_NE(refusal({"train.stage=distill", "train.kl_top=0"}).find("train.kl_top"), std::string::npos);
  EXPECT_NE(refusal({"train.stage=distill", "data.ask=t"}).find("learnt in stage ask"), std::string::npos);
  EXPECT_NE(refusal({"train.context_chunks=4,0"}).find("train.context_chunks"), std::string::npos);
  EXPECT_NE(refusal({"train.mask_chunks=1.5"}).find("train.mask_chunks"), std::string::npos);
  EXPECT_NE(refusal({"train.beta1=1.0"}).find("beta1"), std::string::npos);
  EXPECT_NE(refusal({"train.learning_rate=-1.0"}).find("train.learning_rate"), std::string::npos);
  EXPECT_NE(refusal({"run.weights=int4"}).find("run.weights"), std::string::npos);
  EXPECT_NE(refusal({"train.stage=ask"}).find("data.ask"), std::string::npos);
  EXPECT_NE(refusal({"data.ask=a"}).find("train.stage is standard"), std::string::npos);
  EXPECT_NE(refusal({"train.stage=ask", "data.ask=a", "data.ask_share=0.0"}).find("data.ask_share"), std::string::npos);
  EXPECT_NE(refusal({"train.stage=ask", "data.ask=a", "train.ask_weight=0.0"}).find("train.ask_weight"),
            std::string::npos);
  for (const char* weight : {"train.ask_weight=1e-50", "train.ask_weight=1e39", "train.ask_weight=nan"}) {
    EXPECT_NE(refusal({"train.stage=ask", "data.ask=a", weight}).find("within the range of float32"), std::string::npos)
        << weight;
  }
  for (const char* key : {"train.warmup_steps", "train.hold_steps", "train.context_chunks", "train.chunk_length"}) {
    const std::string message = refusal({std::string(key) + "=9223372036854775807"});
    EXPECT_TRUE(message.starts_with(key) && message.find("too large") != std::string::npos) << message;
  }
  EXPECT_NE(refusal({"train.context_chunks=1073741824", "train.chunk_length=2"}).find("2147483648 is too large"),
            std::string::npos);
  EXPECT_NE(refusal({"train.stage=mlm", "mlm.hidden_size=64", "mlm.mask_share=0.0"}).find("mlm.mask_share"),
            std::string::npos);
  EXPECT_NE(refusal({"train.stage=mlm", "mlm.hidden_size=64", "mlm.heads=0"}).find("mlm.heads"), std::string::npos);
  EXPECT_NE(refusal({"train.stage=mlm", "model.parts=p"}).find("model.parts"), std::string::npos);
  EXPECT_NE(refusal({"train.stage=mlm", "run.weights=int8"}).find("run.weights int8"), std::string::npos);
  EXPECT_NE(refusal({"model.parts=p", "model.encoder=e"}).find("one of the two"), std::string::npos);
  EXPECT_NE(refusal({"train.stage=window", "model.encoder=e"}).find("the decoder alone"), std::string::npos);
  EXPECT_NE(refusal({"train.stage=window", "window.factor=0.5"}).find("window.factor"), std::string::npos);
  EXPECT_NE(refusal({"train.stage=window", "window.rope=none", "window.factor=2.0"}).find("window.rope none"),
            std::string::npos);
  EXPECT_NE(refusal({"run.profile_steps=-1"}).find("run.profile_steps"), std::string::npos);
  EXPECT_NE(refusal({"train.precision=fp8"}).find("train.precision"), std::string::npos);
}

// What an earlier version recorded of a run (the shipped model's, copied to tests/golden/training/identity.json) still
// is its identity, but for the micro-batch, which may change.
TEST(TrainConfig, EarlierIdentitiesStayComparable) {
  Config file = Config::from_file("configs/smollm2-135m/standard.toml");
  TrainConfig config = read_train_config(file);
  config.domain_weights = {"code=2", "papers=1.5"};
  config.parts = "runs/warmup/final";
  const nlohmann::json recorded =
      nlohmann::json::parse(read_file(CEPE_TEST_DATA "/training/identity.json")).at("smollm2-train");
  EXPECT_EQ(differing_setting(recorded, training_identity(config)), "");
  nlohmann::json expected = recorded;
  expected.erase("train.micro_batch");
  EXPECT_EQ(training_identity(config), expected);
  TrainConfig changed = config;
  changed.micro_batch = 4;
  EXPECT_EQ(differing_setting(recorded, training_identity(changed)), "");
  changed.hold_steps = 5;  // a key that it does not know, at other than its default
  EXPECT_EQ(differing_setting(recorded, training_identity(changed)), "train.hold_steps");
  EXPECT_EQ(differing_setting(training_identity(changed), training_identity(config)), "train.hold_steps");
  changed = config;
  changed.beta2 = 0.9;
  EXPECT_EQ(differing_setting(recorded, training_identity(changed)), "train.beta2");
  changed = config;
  changed.mask_chunks = 0.3;  // masks were drawn otherwise
  EXPECT_TRUE(training_identity(changed).contains("train.chunk_draws"));
  EXPECT_EQ(differing_setting(recorded, training_identity(changed)), "train.mask_chunks");  // a setting comes first
  nlohmann::json begun = training_identity(changed);
  begun.erase("train.chunk_draws");
  EXPECT_EQ(differing_setting(begun, training_identity(changed)), "train.chunk_draws");
  EXPECT_TRUE(is_mark_of_draws("train.chunk_draws") && !is_mark_of_draws("train.mask_chunks"));
}

TEST(TrainConfig, SettingsThatDoNothingAreNamed) {
  using Keys = std::vector<std::string>;
  TrainConfig config;
  config.train = {"t"};
  config.filtered = 2;
  EXPECT_EQ(idle_settings(config), Keys{});
  config.kl_top = 20, config.lm_coefficient = 0, config.ask_weight = 2;
  EXPECT_EQ(idle_settings(config), (Keys{"train.ask_weight", "train.lm_coefficient", "train.kl_top"}));
  config.stage = Stage::distill;
  EXPECT_EQ(idle_settings(config), Keys{"train.ask_weight"});
  config.stage = Stage::ask;
  EXPECT_EQ(idle_settings(config), (Keys{"train.lm_coefficient", "train.kl_top"}));
  config.ask_share = 1;
  EXPECT_EQ(idle_settings(config), (Keys{"data.train", "data.filtered", "train.lm_coefficient", "train.kl_top"}));
}

TEST(TrainConfig, SettingsThatAStageDoesNotReadAreNamed) {
  using Keys = std::vector<std::string>;
  TrainConfig config;
  config.base = "b", config.base_name = "name";
  EXPECT_EQ(idle_settings(config), Keys{});
  config.stage = Stage::window;
  EXPECT_EQ(idle_settings(config), Keys{"model.base_name"});
  config.stage = Stage::mlm;
  config.mlm_heads = 2, config.mlm_intermediate_size = 24, config.mlm_positions = 64;
  EXPECT_EQ(idle_settings(config), (Keys{"model.base_name", "mlm.heads", "mlm.intermediate_size"}));
  config.mlm_hidden_size = 16;
  EXPECT_EQ(idle_settings(config), (Keys{"model.base", "model.base_name"}));
  config.encoder = "e";
  EXPECT_EQ(idle_settings(config), (Keys{"model.base", "model.base_name", "mlm.hidden_size", "mlm.heads",
                                         "mlm.intermediate_size", "mlm.positions"}));
}

TEST(TrainConfig, ThePageListsEverySetting) {
  EXPECT_NE(read_file("docs/training.md").find(fmt::format("\n{}\n", settings_table())), std::string::npos)
      << "docs/training.md should hold this table:\n"
      << settings_table();
}

// Every stage has a recipe for either model; whatever lies beside them is read as well, unknown keys refused.
TEST(TrainConfig, ShippedRecipesAreRead) {
  std::map<std::string, std::set<std::string>> stages;
  for (const char* model : {"llama-2-7b", "smollm2-135m"}) {
    for (const auto& entry : std::filesystem::directory_iterator(std::string("configs/") + model)) {
      Config config = Config::from_file(entry.path());
      const TrainConfig read = read_train_config(config);
      EXPECT_EQ(name_of(read.stage), entry.path().stem().string()) << entry.path();
      EXPECT_EQ(idle_settings(read), std::vector<std::string>{}) << entry.path();
      stages[model].insert(name_of(read.stage));
    }
  }
  const std::set<std::string> published = {"mlm", "warmup", "standard", "distill", "window"};
  std::set<std::string> all = published;
  all.insert("ask");
  EXPECT_EQ(stages["llama-2-7b"], published);
  EXPECT_EQ(stages["smollm2-135m"], all);
  for (const auto& entry : std::filesystem::recursive_directory_iterator("configs")) {
    if (entry.path().extension() != ".toml") continue;
    const std::string folder = entry.path().parent_path().filename();
    EXPECT_TRUE(folder == "llama-2-7b" || folder == "smollm2-135m" || folder == "ask" || folder == "paper")
        << entry.path();
  }
}

TEST(TrainConfig, TheSmallModelsRecipesAreOfItsShapes) {
  for (const char* name : {"standard", "warmup", "ask"}) {
    Config config = Config::from_file(std::string("configs/smollm2-135m/") + name + ".toml");
    const TrainConfig read = read_train_config(config);
    EXPECT_EQ(read.encoder_layers, 8);
    EXPECT_EQ(read.cross_attention_layers, 15);
    EXPECT_EQ(read.decoder_tokens, read.stage == Stage::warmup ? 256 : 1024);
    EXPECT_EQ(read.max_context_tokens(), read.stage == Stage::warmup ? 256 : 4096);
    const int64_t samples = read.stage == Stage::ask ? 32 : 16;
    EXPECT_EQ(read.tokens_per_step(), read.stage == Stage::warmup ? 256 * 512 : samples * 5120);
  }
}

// Of the published script and its configuration (princeton-nlp/CEPE, configs/train_mlm and mlm_config.json).
TEST(TrainConfig, TheMaskedLmRecipeIsAsPublished) {
  Config file = Config::from_file("configs/llama-2-7b/mlm.toml");
  const TrainConfig read = read_train_config(file);
  EXPECT_EQ(read.encoder_layers, 24);
  EXPECT_EQ(read.mlm_hidden_size, 1024);
  EXPECT_EQ(read.mlm_heads, 16);
  EXPECT_EQ(read.mlm_intermediate_size, 4096);
  EXPECT_EQ(read.mlm_positions, 512);
  EXPECT_EQ(read.chunk_length, 512);
  EXPECT_EQ(read.span_tokens(), 512);
  EXPECT_EQ(read.mlm_mask_share, 0.3);
  EXPECT_EQ(read.mlm_mask_token, -1);
  EXPECT_EQ(read.learning_rate, 1e-3);
  EXPECT_EQ(read.warmup_steps, read.steps / 25);
  EXPECT_EQ(read.steps, 100000);
  EXPECT_EQ(read.batch, 2048);
  EXPECT_EQ(read.final_fraction, 0);
  EXPECT_EQ(read.weight_decay, 0);
  EXPECT_EQ(read.filtered, 0);
}

// Of arXiv 2402.16617: tokens of a sample, samples a step, steps, peak learning rate.
TEST(TrainConfig, PublishedRecipesAreAsPublished) {
  struct Recipe {
    const char* name;
    Stage stage;
    int64_t chunks, chunk_length, decoder_tokens, batch, steps;
    double learning_rate;
  };
  for (const Recipe& r : {Recipe{"warmup", Stage::warmup, 4, 64, 256, 256, 4000, 5e-4},
                          Recipe{"standard", Stage::standard, 16, 256, 4096, 128, 20000, 3e-4},
                          Recipe{"distill", Stage::distill, 8, 256, 2048, 128, 20000, 3e-4}}) {
    Config file = Config::from_file(std::string("configs/llama-2-7b/") + r.name + ".toml");
    const TrainConfig read = read_train_config(file);
    EXPECT_EQ(read.stage, r.stage);
    EXPECT_EQ(read.context_chunks, std::vector<int64_t>{r.chunks});
    EXPECT_EQ(read.chunk_length, r.chunk_length);
    EXPECT_EQ(read.decoder_tokens, r.decoder_tokens);
    EXPECT_EQ(read.batch, r.batch);
    EXPECT_EQ(read.steps, r.steps);
    EXPECT_EQ(read.learning_rate, r.learning_rate);
    EXPECT_EQ(read.warmup_steps, r.steps / 25);  // 4 %
    EXPECT_EQ(read.final_fraction, 0);
    EXPECT_EQ(read.weight_decay, 0);
    EXPECT_EQ(read.beta2, 0.999);
    if (r.stage == Stage::warmup) {
      EXPECT_EQ(read.encoder, "runs/mlm-7b/final");
      continue;
    }
    EXPECT_EQ(read.filtered, 2 * read.concatenated);
    if (r.stage == Stage::standard) continue;
    EXPECT_EQ(read.lm_coefficient, 1);
    EXPECT_EQ(read.kl_coefficient, 2);
    EXPECT_EQ(read.kl, Divergence::top);
    EXPECT_EQ(read.kl_top, 50);
    EXPECT_EQ(read.kl_mode, "drop");
  }
  Config small = Config::from_file("configs/smollm2-135m/distill.toml");
  EXPECT_EQ(read_train_config(small).stage, Stage::distill);
}

}  // namespace
}  // namespace cepe
