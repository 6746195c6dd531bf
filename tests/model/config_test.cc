#include "model/config.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "model/layers.h"

namespace cepe {
namespace {

nlohmann::json llama() {
  return {{"model_type", "llama"},    {"vocab_size", 100},
          {"hidden_size", 48},        {"intermediate_size", 64},
          {"num_hidden_layers", 2},   {"num_attention_heads", 4},
          {"num_key_value_heads", 2}, {"max_position_embeddings", 128}};
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
  json["rope_scaling"] = {{"rope_type", "llama3"},
                          {"factor", 8.0},
                          {"low_freq_factor", 1.0},
                          {"high_freq_factor", 4.0},
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

// A GGUF file may have biases that no family of config.json has; an encoder copied from it is written as such.
TEST(Config, AnyBiasesAreReadBack) {
  for (const char* family : {"llama", "qwen2"}) {
    for (const bool qkv : {false, true}) {
      for (const bool output : {false, true}) {
        if (output && std::string(family) == "qwen2") continue;
        nlohmann::json json = llama();
        json["model_type"] = family;
        StackConfig config = stack_config_from_json(json, "config.json");
        config.qkv_bias = qkv;
        config.output_bias = output;
        const StackConfig read = stack_config_from_json(stack_config_to_json(config), "again");
        EXPECT_EQ(read.qkv_bias, qkv) << family;
        EXPECT_EQ(read.output_bias, output) << family;
      }
    }
  }
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
  const auto window = [](nlohmann::json change) {
    nlohmann::json json = llama();
    json.update(change);
    const StackConfig config = stack_config_from_json(json, "config.json");
    const StackConfig again = stack_config_from_json(stack_config_to_json(config), "again");
    EXPECT_EQ(again.sliding_window, config.sliding_window) << change;
    EXPECT_EQ(config.max_positions, 128);
    return decoder_window(config);
  };
  EXPECT_EQ(window({{"model_type", "mistral"}, {"sliding_window", 64}}), 64);
  EXPECT_EQ(window({{"model_type", "mistral"}, {"sliding_window", nullptr}}), 128);
  EXPECT_EQ(window({{"model_type", "llama"}, {"sliding_window", 64}}), 128) << "transformers reads none of a Llama";
  const nlohmann::json qwen = {{"model_type", "qwen2"}, {"sliding_window", 64}, {"max_window_layers", 1}};
  const auto of_qwen = [&](nlohmann::json change) {
    nlohmann::json all = qwen;
    all.update(change);
    return window(all);
  };
  EXPECT_EQ(of_qwen({{"use_sliding_window", false}}), 128);
  EXPECT_EQ(of_qwen({{"use_sliding_window", true}}), 64);
  EXPECT_EQ(of_qwen({{"use_sliding_window", true}, {"max_window_layers", 2}}), 128) << "no layer slides";
  EXPECT_EQ(of_qwen({{"layer_types", {"full_attention", "sliding_attention"}}}), 64);
  EXPECT_EQ(of_qwen({{"layer_types", {"full_attention", "full_attention"}}}), 128);
  nlohmann::json json = llama();
  json["layer_types"] = {"full_attention", "linear_attention"};
  expect_refused(json, "layers of the type \"linear_attention\"");
}

// What transformers 5.24 takes where the file is silent.
TEST(Config, AbsentFieldsHaveTheDefaultsOfTheFamily) {
  nlohmann::json json = llama();
  json.erase("max_position_embeddings");
  const auto of = [&](const char* family) {
    json["model_type"] = family;
    return stack_config_from_json(json, "config.json");
  };
  EXPECT_EQ(of("llama").max_positions, 2048);
  EXPECT_EQ(of("mistral").max_positions, 131072);
  EXPECT_EQ(of("mistral").sliding_window, 4096);
  EXPECT_EQ(of("qwen2").max_positions, 32768);
  EXPECT_EQ(of("qwen2").sliding_window, 0);
  EXPECT_EQ(of("qwen2").head_dim, 12);
  EXPECT_EQ(of("qwen3").head_dim, 128);
}

// vLLM's max_model_len for the same fields.
TEST(Config, TheWindowIsWhatTheRotaryScalingGives) {
  const auto window = [](nlohmann::json scaling) {
    nlohmann::json json = llama();
    json["rope_scaling"] = std::move(scaling);
    return decoder_window(stack_config_from_json(json, "config.json"));
  };
  EXPECT_EQ(window(nullptr), 128);
  EXPECT_EQ(window({{"type", "linear"}, {"factor", 4.0}}), 512);
  EXPECT_EQ(window({{"type", "dynamic"}, {"factor", 2.5}}), 320);
  const nlohmann::json yarn = {{"type", "yarn"}, {"factor", 4.0}};
  const auto of_yarn = [&](int64_t original) {
    nlohmann::json scaling = yarn;
    scaling["original_max_position_embeddings"] = original;
    return window(scaling);
  };
  EXPECT_EQ(of_yarn(128), 512) << "as Qwen2.5's model card writes it";
  EXPECT_EQ(of_yarn(32), 128) << "as max_position_embeddings counts the factor already";
  EXPECT_EQ(window(yarn), 512);
  EXPECT_EQ(window({{"type", "llama3"}, {"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}}), 128);
}

TEST(Config, AChosenWindowHolds) {
  StackConfig config = stack_config_from_json(llama(), "config.json");
  choose_window(config, 4096, "model");
  EXPECT_EQ(decoder_window(config), 4096);
  EXPECT_THROW(choose_window(config, 0, "model"), Error);
  EXPECT_THROW(choose_window(config, int64_t{1} << 31, "model"), Error);
  config.sliding_window = 64;
  EXPECT_THROW(choose_window(config, 65, "model"), Error);
  choose_window(config, 64, "model");
  EXPECT_EQ(decoder_window(config), 64);
}

nlohmann::json llama_with(const char* key, nlohmann::json value) {
  nlohmann::json json = llama();
  json[key] = std::move(value);
  return json;
}

TEST(Config, FieldsThatChangeTheArithmeticAreRefusedByName) {
  for (const auto& [key, value] :
       std::vector<std::pair<const char*, nlohmann::json>>{{"residual_multiplier", 0.22},
                                                           {"embedding_multiplier", 12},
                                                           {"attention_multiplier", 0.0078125},
                                                           {"logits_scaling", 16.0},
                                                           {"logit_scale", 0.0625},
                                                           {"final_logit_softcapping", 30.0},
                                                           {"attn_logit_softcapping", 50.0},
                                                           {"query_pre_attn_scalar", 256},
                                                           {"partial_rotary_factor", 0.5},
                                                           {"mlp_bias", true},
                                                           {"num_local_experts", 8},
                                                           {"num_experts", 128},
                                                           {"scale_emb", 12},
                                                           {"no_rope_layers", {1, 0}},
                                                           {"use_qk_norm", true},
                                                           {"clip_qkv", 8.0},
                                                           {"residual_multiplier", "1"},
                                                           {"hidden_activation", "gelu_pytorch_tanh"}}) {
    expect_refused(llama_with(key, value), key == std::string("hidden_activation") ? "gelu_pytorch_tanh" : key);
  }
  // The values that change nothing, as such files have them.
  nlohmann::json json = llama();
  json.update({{"residual_multiplier", 1.0},
               {"attention_multiplier", 1 / std::sqrt(12.0)},
               {"final_logit_softcapping", nullptr},
               {"partial_rotary_factor", 1},
               {"mlp_bias", false},
               {"no_rope_layers", {1, 1}},
               {"num_local_experts", 0},
               {"hidden_act", "swish"},
               {"pretraining_tp", 2}});
  EXPECT_EQ(stack_config_from_json(json, "config.json").num_layers, 2);
}

TEST(Config, RotaryScalingThatIsNotComputedIsRefusedByName) {
  const nlohmann::json yarn = {{"rope_type", "yarn"}, {"factor", 4.0}};
  const auto refused = [](nlohmann::json scaling, const char* key, nlohmann::json value, const char* part) {
    scaling[key] = std::move(value);
    expect_refused(llama_with("rope_scaling", scaling), part);
    expect_refused(llama_with("rope_parameters", scaling), part);
  };
  for (const char* kind : {"su", "longrope", "mrope", "proportional"})
    refused({{"factor", 2.0}, {"short_factor", {1}}}, "type", kind, kind);
  refused(yarn, "partial_rotary_factor", 0.5, "partial_rotary_factor");
  refused(yarn, "alpha", 1000.0, "alpha");
  refused(yarn, "mrope_section", {16, 24, 24}, "mrope_section");
  refused({}, "full_attention", yarn, "full_attention");
  refused(yarn, "attention_factor", 0.0, "attention_factor");
  refused(yarn, "attention_factor", "1", "attention_factor");
  refused(yarn, "mscale", {1}, "mscale");
  refused(yarn, "truncate", 0, "truncate");
  refused(yarn, "beta_fast", -32, "beta_fast");
  refused(yarn, "original_max_position_embeddings", 32.5, "original_max_position_embeddings");
  refused(yarn, "original_max_position_embeddings", 0, "original_max_position_embeddings");
  refused(yarn, "rope_theta", 1.0, "base 1");
  refused(yarn, "factor", 1e300, "factor");
  refused(yarn, "factor", 0.5, "factor");
  refused({{"type", "linear"}}, "factor", nullptr, "factor");
  const nlohmann::json llama3 = {{"type", "llama3"}, {"factor", 8.0}, {"low_freq_factor", 1.0}};
  refused(llama3, "high_freq_factor", 1.0, "high_freq_factor");
  refused(llama3, "high_freq_factor", nullptr, "high_freq_factor");
  for (const double theta : {0.0, -1.0, HUGE_VAL}) expect_refused(llama_with("rope_theta", theta), "rope_theta");
}

TEST(Config, YarnIsReadAsTransformersReadsIt) {
  nlohmann::json scaling = {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32.0}};
  const auto read = [&] { return stack_config_from_json(llama_with("rope_scaling", scaling), "config.json").rope; };
  EXPECT_EQ(read().original_positions, 32);
  EXPECT_EQ(read().attention_factor, 0.0);
  scaling.update({{"mscale", 1.3}, {"mscale_all_dim", 0.4}, {"truncate", false}, {"beta_fast", 0}});
  EXPECT_DOUBLE_EQ(read().attention_factor, (0.13 * std::log(4.0) + 1) / (0.04 * std::log(4.0) + 1));
  EXPECT_FALSE(read().truncate);
  EXPECT_EQ(read().beta_fast, 32.0);
  scaling["attention_factor"] = 1.5;
  EXPECT_EQ(read().attention_factor, 1.5);
  scaling["factor"] = nullptr;  // the ratio of the windows
  EXPECT_EQ(read().factor, 4.0);
  // The file's own original window comes before the scaling's, and rope_scaling before rope_parameters.
  nlohmann::json json = llama_with("rope_scaling", scaling);
  json["original_max_position_embeddings"] = 64;
  json["rope_parameters"] = {{"rope_type", "linear"}, {"factor", 2.0}};
  EXPECT_EQ(stack_config_from_json(json, "config.json").rope.original_positions, 64);
  json["rope_scaling"] = nlohmann::json::object();
  EXPECT_EQ(stack_config_from_json(json, "config.json").rope.kind, RopeKind::linear);
  const StackConfig config = stack_config_from_json(llama_with("rope_scaling", scaling), "config.json");
  const StackConfig again = stack_config_from_json(stack_config_to_json(config), "again");
  EXPECT_TRUE(at::equal(rotary_table(again, 300).cos, rotary_table(config, 300).cos));
}

TEST(Config, TokenIdsAreIntegersWithin31Bits) {
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
    for (const nlohmann::json& wrong : {nlohmann::json("2"), nlohmann::json(1.5), nlohmann::json::parse("[[1]]"),
                                        nlohmann::json(true), nlohmann::json((int64_t{1} << 32) + 2)})
      expect_refused(llama_with(key, wrong), key);
  }
  expect_refused(llama_with("bos_token_id", nlohmann::json::array()), "bos_token_id");
  expect_refused(llama_with("pad_token_id", {1, 2}), "pad_token_id");
  EXPECT_EQ(stack_config_from_json(llama_with("pad_token_id", -1), "config.json").pad_token, std::nullopt);
  EXPECT_TRUE(stack_config_from_json(llama_with("eos_token_id", nlohmann::json::array()), "c").end_tokens.empty());
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
  EXPECT_THROW(cepe_config_to_published_json(config), Error)
      << "it still scales beyond the window, and 4.34 refuses it";
  config.decoder.rope.kind = RopeKind::linear;
  EXPECT_FALSE(cepe_config_to_published_json(config).contains("rope_scaling"));
}

// What a converter to GGUF stores for llama3, the unscaled over the scaled frequencies, gives llama3's angles.
TEST(RotaryTable, DivisorsAreAnotherSpellingOfLlama3) {
  nlohmann::json json = llama();
  const StackConfig unscaled = stack_config_from_json(json, "config.json");
  json["rope_scaling"] = {{"rope_type", "llama3"},
                          {"factor", 8.0},
                          {"low_freq_factor", 1.0},
                          {"high_freq_factor", 4.0},
                          {"original_max_position_embeddings", 512}};
  const StackConfig llama3 = stack_config_from_json(json, "config.json");
  // The angle of position 1 is the frequency; all are below pi.
  const auto frequencies = [](const StackConfig& config) {
    const RotaryTable table = rotary_table(config, 2);
    return at::atan2(table.sin[1], table.cos[1]);
  };
  const at::Tensor ratios = (frequencies(unscaled) / frequencies(llama3)).contiguous();
  StackConfig divided = unscaled;
  divided.rope.frequency_divisors.assign(ratios.data_ptr<double>(), ratios.data_ptr<double>() + ratios.numel());
  EXPECT_GT(ratios.max().item<double>(), 7.9);
  EXPECT_TRUE(at::allclose(rotary_table(divided, 3000).cos, rotary_table(llama3, 3000).cos, 1e-9, 1e-9));
  EXPECT_FALSE(at::allclose(rotary_table(unscaled, 3000).cos, rotary_table(llama3, 3000).cos, 1e-2, 1e-2));
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
