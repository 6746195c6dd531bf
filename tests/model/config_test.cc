#include "model/config.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "io/gguf.h"
#include "io/gguf_bytes.h"
#include "model/fixtures.h"
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
  EXPECT_THROW(cepe_config_to_published_json(config), Error)
      << "it still scales beyond the window, and 4.34 refuses it";
  config.decoder.rope.kind = RopeKind::linear;
  EXPECT_FALSE(cepe_config_to_published_json(config).contains("rope_scaling"));
  config.decoder.rope.kind = RopeKind::dynamic;
  config.decoder.rope.factor = 2.0;
  config.decoder.rope.original_positions = config.decoder.max_positions / 2;  // it knows no other window than this one
  EXPECT_THROW(cepe_config_to_published_json(config), Error);
}

// The sizes that every Llama file gives, five values: heads of 4 in a width of 8.
void put_llama_sizes(GgufBytes& bytes) {
  bytes.text("general.architecture").put<uint32_t>(kString).text("llama");
  for (const auto& [key, number] :
       {std::pair("embedding_length", 8u), std::pair("feed_forward_length", 16u), std::pair("block_count", 1u),
        std::pair("attention.head_count", 2u), std::pair("context_length", 32u)}) {
    bytes.value(std::string("llama.") + key, kU32, static_cast<uint32_t>(number));
  }
}

StackConfig stack_config_of(const GgufBytes& bytes) {
  const ScratchDirectory scratch;
  write_file(scratch.path() / "m.gguf", bytes.str());
  return stack_config_from_gguf(GgufFile(scratch.path() / "m.gguf"));
}

// A Llama file with these tokens, their types (1 normal, 3 control, 4 user defined) and ids named as ends.
std::vector<int64_t> end_tokens_of(const std::vector<std::pair<std::string, int32_t>>& tokens,
                                   const std::vector<std::pair<std::string, uint32_t>>& named) {
  GgufBytes bytes;
  bytes.header(1, 8 + named.size());
  put_llama_sizes(bytes);
  bytes.text("tokenizer.ggml.tokens").put<uint32_t>(kArray).put<uint32_t>(kString).put<uint64_t>(tokens.size());
  for (const auto& token : tokens) bytes.text(token.first);
  constexpr uint32_t kI32 = 5;
  bytes.text("tokenizer.ggml.token_type").put<uint32_t>(kArray).put(kI32).put<uint64_t>(tokens.size());
  for (const auto& token : tokens) bytes.put(token.second);
  for (const auto& [name, id] : named) bytes.value("tokenizer.ggml." + name + "_token_id", kU32, id);
  bytes.tensor("token_embd.weight", {8, tokens.size()}, 0, 0).data(8 * tokens.size() * 4);
  return stack_config_of(bytes).end_tokens;
}

TEST(Config, EndTokensOfAGgufAreThoseItNamesAndThoseSpelledAsEnds) {
  using Ids = std::vector<int64_t>;
  EXPECT_EQ(end_tokens_of({{"a", 1}, {"b", 1}, {"c", 1}, {"d", 1}}, {{"eom", 3}, {"eot", 2}, {"eos", 1}}),
            (Ids{1, 2, 3}));
  // Llama 3.1, whose file names the end of a turn alone.
  EXPECT_EQ(end_tokens_of({{"a", 1}, {"<|end_of_text|>", 3}, {"<|eom_id|>", 3}, {"<|eot_id|>", 3}}, {{"eos", 3}}),
            (Ids{3, 1, 2}));
  EXPECT_EQ(end_tokens_of({{"<|endoftext|>", 3}, {"<|im_start|>", 3}, {"<|im_end|>", 3}}, {{"eos", 2}}), (Ids{2, 0}));
  EXPECT_EQ(end_tokens_of({{"<s>", 3}, {"</s>", 3}}, {}), (Ids{1}));
  // The same text as an ordinary token ends nothing.
  EXPECT_EQ(end_tokens_of({{"a", 1}, {"</s>", 1}, {"<|im_end|>", 4}}, {{"eos", 0}}), (Ids{0, 2}));
}

// A Llama file of heads of 4 with these divisors of its rotary frequencies, as llama3's scaling is stored.
GgufBytes with_divisors(const std::vector<float>& divisors) {
  GgufBytes bytes;
  bytes.header(2, 6);
  put_llama_sizes(bytes);
  bytes.tensor("token_embd.weight", {8, 4}, 0, 0).tensor("rope_freqs.weight", {divisors.size()}, 0, 128).data(128);
  for (const float divisor : divisors) bytes.put(divisor);
  return bytes.data(0);
}

TEST(Config, AGgufDividesRotaryFrequencies) {
  const StackConfig config = stack_config_of(with_divisors({1.0f, 8.0f}));
  EXPECT_EQ(config.rope.frequency_divisors, (std::vector<double>{1.0, 8.0}));
  const StackConfig again = stack_config_from_json(stack_config_to_json(config), "again");
  EXPECT_EQ(again.rope.frequency_divisors, config.rope.frequency_divisors);
  for (const auto& wrong :
       std::vector<std::vector<float>>{{1.0f}, {1.0f, 2.0f, 3.0f}, {1.0f, 0.0f}, {NAN, 1.0f}, {1.0f, INFINITY}}) {
    EXPECT_THROW(stack_config_of(with_divisors(wrong)), Error);
  }
  CepeConfig plain;
  plain.decoder = config;
  EXPECT_THROW(cepe_config_to_published_json(plain), Error);
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
