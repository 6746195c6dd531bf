#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace cepe {
namespace {

nlohmann::json llama() {
  return {{"model_type", "llama"}, {"vocab_size", 100}, {"hidden_size", 48}, {"intermediate_size", 64}, {"num_hidden_layers", 2},
          {"num_attention_heads", 4}, {"num_key_value_heads", 2}, {"max_position_embeddings", 128}};
}

void expect_refused(const nlohmann::json& config, const std::string& part) {
  try {
    stack_config_from_json(config, "config.json");
    FAIL() << "accepted " << config.dump();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(part));
    EXPECT_THAT(error.what(), testing::HasSubstr("config.json"));
  }
}

TEST(Config, ReadsBackWhatItWrites) {
  nlohmann::json json = llama();
  json["rope_scaling"] = {{"rope_type", "llama3"}, {"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0},
                          {"original_max_position_embeddings", 32}};
  json["eos_token_id"] = {5, 7};
  const StackConfig first = stack_config_from_json(json, "config.json");
  const StackConfig second = stack_config_from_json(stack_config_to_json(first), "again");
  EXPECT_EQ(stack_config_to_json(first), stack_config_to_json(second));
  EXPECT_EQ(second.rope.kind, RopeKind::llama3);
  EXPECT_EQ(second.rope.original_positions, 32);
  EXPECT_EQ(second.end_tokens, (std::vector<int64_t>{5, 7}));
  EXPECT_EQ(second.head_dim, 12);
}

TEST(Config, NamesWhatIsWrong) {
  nlohmann::json json = llama();
  json["model_type"] = "gpt2";
  expect_refused(json, "\"gpt2\" is not supported");
  json = llama();
  json.erase("hidden_size");
  expect_refused(json, "\"hidden_size\" is missing");
  json = llama();
  json["num_key_value_heads"] = 3;
  expect_refused(json, "4 attention heads cannot share 3 key-value heads");
  json = llama();
  json["num_hidden_layers"] = -1;
  expect_refused(json, "\"num_hidden_layers\" should be a positive size, found -1");
  json = llama();
  json["vocab_size"] = "many";
  expect_refused(json, "\"vocab_size\" should be an integer");
  json = llama();
  json["hidden_size"] = 50;
  expect_refused(json, "width 50 is not a multiple of 4 heads");
  json = llama();
  json["rope_scaling"] = {{"rope_type", "longrope"}, {"factor", 2.0}};
  expect_refused(json, "unknown kind \"longrope\"");
  json = llama();
  json["hidden_act"] = "gelu";
  expect_refused(json, "activation \"gelu\" is not supported");
  expect_refused(nlohmann::json::array(), "expected a JSON object");
}

TEST(Config, ASlidingWindowEndsTheWindow) {
  nlohmann::json json = llama();
  json["model_type"] = "mistral";
  json["sliding_window"] = 64;
  EXPECT_EQ(stack_config_from_json(json, "config.json").max_positions, 64);
  json["model_type"] = "qwen2";
  json["use_sliding_window"] = false;
  EXPECT_EQ(stack_config_from_json(json, "config.json").max_positions, 128);
}

TEST(Config, ThePublishedLayoutRefusesWhatItCannotSay) {
  CepeConfig config;
  nlohmann::json json = llama();
  json["model_type"] = "qwen2";
  config.decoder = stack_config_from_json(json, "config.json");
  EXPECT_THROW(cepe_config_to_published_json(config), Error);
  config.decoder = stack_config_from_json(llama(), "config.json");
  config.encoder = config.decoder;
  config.num_cross_attn_layers = 1;
  config.encoder_embeddings = EncoderEmbeddings::decoder_projected;
  EXPECT_THROW(cepe_config_to_published_json(config), Error);
  config.encoder_embeddings = EncoderEmbeddings::own;
  EXPECT_EQ(cepe_config_to_published_json(config)["num_cross_attn_layers"], 1);
  config.decoder.qkv_bias = config.decoder.output_bias = true;  // the published attention would leave them out
  EXPECT_THROW(cepe_config_to_published_json(config), Error);
}

// transformers 4.34, with which the published code reads: a dictionary of exactly "type" and "factor" (> 1).
TEST(Config, ThePublishedLayoutScalesRotaryPositionsInTwoFields) {
  CepeConfig config;
  nlohmann::json json = llama();
  for (const char* kind : {"linear", "dynamic"}) {
    json["rope_scaling"] = {{"rope_type", kind}, {"factor", 2.0}};
    config.decoder = stack_config_from_json(json, "config.json");
    const nlohmann::json published = cepe_config_to_published_json(config);
    EXPECT_EQ(published["rope_scaling"], (nlohmann::json{{"type", kind}, {"factor", 2.0}}));
    EXPECT_EQ(stack_config_from_json(published, "again").rope.kind, config.decoder.rope.kind);
  }
  config.decoder.rope.factor = 1.0;
  EXPECT_FALSE(cepe_config_to_published_json(config).contains("rope_scaling"));
  config.decoder.rope.factor = 2.0;
  config.decoder.rope.original_positions = config.decoder.max_positions / 2;  // it knows no other window than this one
  EXPECT_THROW(cepe_config_to_published_json(config), Error);
}

TEST(Config, APlainDecoderIsPublishedAsAnyLlama) {
  CepeConfig config;
  config.decoder = stack_config_from_json(llama(), "config.json");
  const nlohmann::json published = cepe_config_to_published_json(config);
  EXPECT_EQ(published["architectures"], nlohmann::json({"LlamaForCausalLM"}));
  EXPECT_EQ(published["do_cross_attention"], false);
}

}  // namespace
}  // namespace cepe
