// What the metadata of a GGUF file says of a model: read as llama.cpp reads it, or refused by name.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "base/error.h"
#include "base/file.h"
#include "io/gguf.h"
#include "io/gguf_bytes.h"
#include "model/config.h"
#include "model/fixtures.h"
#include "model/layers.h"

namespace cepe {
namespace {

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

// A Llama file with more keys, added one by one.
class LlamaFile {
 public:
  template <typename T>
  LlamaFile& add(const std::string& key, GgufType type, T value) {
    more_.push_back([=](GgufBytes& bytes) { bytes.value(key, type, value); });
    return *this;
  }
  LlamaFile& add(const std::string& key, const std::string& value) {
    more_.push_back([=](GgufBytes& bytes) { bytes.text(key).put<uint32_t>(kString).text(value); });
    return *this;
  }
  LlamaFile& add_list(const std::string& key, uint32_t value) {
    more_.push_back([=](GgufBytes& bytes) {
      bytes.text(key).put<uint32_t>(kArray).put<uint32_t>(kU32).put<uint64_t>(1).put(value);
    });
    return *this;
  }
  void write(const std::filesystem::path& path) const {
    GgufBytes bytes;
    bytes.header(1, 6 + more_.size());
    put_llama_sizes(bytes);
    for (const auto& put : more_) put(bytes);
    write_file(path, bytes.tensor("token_embd.weight", {8, 4}, 0, 0).data(128).str());
  }
  StackConfig config() const {
    const ScratchDirectory scratch;
    write(scratch.path() / "m.gguf");
    return stack_config_from_gguf(GgufFile(scratch.path() / "m.gguf"));
  }
  std::vector<std::string> notes() const {
    const ScratchDirectory scratch;
    write(scratch.path() / "m.gguf");
    return gguf_notes(GgufFile(scratch.path() / "m.gguf"));
  }
  void expect_refused(const std::string& part) const {
    try {
      config();
      ADD_FAILURE() << "accepted, expected a refusal with " << part;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr(part), testing::HasSubstr("m.gguf")));
    }
  }

 private:
  std::vector<std::function<void(GgufBytes&)>> more_;
};

const std::string kRope = "llama.rope.";

TEST(GgufConfig, AFactorWithoutAKindIsLinear) {
  const at::Tensor plain = rotary_table(LlamaFile().config(), 10).cos;
  for (const char* key : {"scaling.factor", "scale_linear"}) {
    const StackConfig config = LlamaFile().add(kRope + key, kF32, 4.0f).config();
    EXPECT_EQ(config.rope.kind, RopeKind::linear) << key;
    EXPECT_TRUE(at::allclose(rotary_table(config, 40).cos[36], plain[9])) << key;
    EXPECT_EQ(decoder_window(config), 128) << key;
  }
  // The newer key holds where both stand; 0 and 1 scale nothing, as a factor beside the kind "none".
  EXPECT_EQ(LlamaFile()
                .add(kRope + "scaling.factor", kF32, 2.0f)
                .add(kRope + "scale_linear", kF32, 8.0f)
                .config()
                .rope.factor,
            2.0);
  EXPECT_EQ(LlamaFile().add(kRope + "scaling.factor", kF32, 0.0f).config().rope.kind, RopeKind::none);
  EXPECT_EQ(
      LlamaFile().add(kRope + "scaling.factor", kF32, 4.0f).add(kRope + "scaling.type", "none").config().rope.kind,
      RopeKind::none);
}

TEST(GgufConfig, YarnHasItsOriginalWindowAndAttentionFactor) {
  LlamaFile file;
  file.add(kRope + "scaling.type", "yarn").add(kRope + "scaling.factor", kF32, 4.0f);
  EXPECT_EQ(file.config().rope.original_positions, 32);
  EXPECT_EQ(decoder_window(file.config()), 128);
  file.add(kRope + "scaling.original_context_length", kU32, uint32_t{16});
  EXPECT_EQ(decoder_window(file.config()), 64);
  const at::Tensor before = rotary_table(file.config(), 8).cos;
  file.add(kRope + "scaling.attn_factor", kF32, 1.5f);
  EXPECT_TRUE(at::allclose(rotary_table(file.config(), 8).cos, before * 1.5));
}

TEST(GgufConfig, KeysThatChangeTheArithmeticAreRefusedByName) {
  const auto refused = [](const std::string& name, float value, const std::string& part = "") {
    LlamaFile().add("llama." + name, kF32, value).expect_refused(part.empty() ? "llama." + name : part);
  };
  for (const char* name :
       {"logit_scale", "residual_scale", "embedding_scale", "final_logit_softcapping", "attn_logit_softcapping",
        "attention.scale", "attention.clamp_kqv", "attention.max_alibi_bias", "rope.scaling.attn_factor",
        "rope.scaling.alpha", "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow",
        "rope.scaling.yarn_log_multiplier", "rope.scaling.yarn_ext_factor", "rope.freq_base_swa"})
    refused(name, 0.3f);
  LlamaFile().add("llama.expert_count", kU32, uint32_t{8}).expect_refused("mixture of experts");
  LlamaFile().add("llama.rope.dimension_count", kU32, uint32_t{2}).expect_refused("llama.rope.dimension_count");
  LlamaFile().add("llama.attention.value_length", kU32, uint32_t{8}).expect_refused("llama.attention.value_length");
  LlamaFile().add("llama.attention.causal", kBool, uint8_t{0}).expect_refused("llama.attention.causal");
  LlamaFile().add(kRope + "scaling.type", "longrope").expect_refused("longrope");
  LlamaFile().add("llama.hidden_activation", "gelu").expect_refused("gelu");
  LlamaFile().add_list("llama.rope.dimension_sections", 2).expect_refused("llama.rope.dimension_sections");
  LlamaFile().add("general.type", "adapter").expect_refused("adapter");
}

TEST(GgufConfig, ValuesAreWithinBounds) {
  for (const float base : {0.0f, -1.0f, INFINITY, NAN})
    LlamaFile().add(kRope + "freq_base", kF32, base).expect_refused("rope.freq_base");
  for (const float eps : {-1.0f, 1.0f, INFINITY, NAN})
    LlamaFile().add("llama.attention.layer_norm_rms_epsilon", kF32, eps).expect_refused("epsilon");
  for (const float factor : {0.5f, INFINITY, NAN})
    LlamaFile().add(kRope + "scaling.factor", kF32, factor).expect_refused("factor");
  LlamaFile().add("llama.attention.head_count_kv", kU32, uint32_t{0}).expect_refused("llama.attention.head_count_kv");
  LlamaFile().add("llama.attention.head_count_kv", "2").expect_refused("llama.attention.head_count_kv");
  LlamaFile().add_list("llama.attention.head_count_kv", 2).expect_refused("llama.attention.head_count_kv");
  LlamaFile().add("tokenizer.ggml.bos_token_id", kU64, (uint64_t{1} << 32) + 1).expect_refused("bos_token_id");
}

TEST(GgufConfig, KeysThatChangeNothingAreAcceptedAndUnknownOnesTold) {
  LlamaFile file;
  file.add("llama.vocab_size", kU32, uint32_t{4}).add("llama.rope.dimension_count", kU32, uint32_t{4});
  file.add("llama.attention.scale", kF32, 0.5f).add("llama.logit_scale", kF32, 1.0f);
  file.add("llama.expert_count", kU32, uint32_t{0}).add("llama.attention.causal", kBool, uint8_t{1});
  file.add("llama.tensor_data_layout", "Meta AI original pth").add("general.type", "model");
  EXPECT_EQ(file.config().head_dim, 4);
  EXPECT_TRUE(file.notes().empty());
  file.add("llama.surprise", kU32, uint32_t{4}).add("other.surprise", kU32, uint32_t{4});
  EXPECT_EQ(file.notes(), std::vector<std::string>{
                              "1 of the file's keys are not known and were not read, the first is llama.surprise"});
}

TEST(GgufConfig, ASlidingWindowEndsTheText) {
  const StackConfig config = LlamaFile().add("llama.attention.sliding_window", kU32, uint32_t{8}).config();
  EXPECT_EQ(decoder_window(config), 8);
  EXPECT_EQ(stack_config_from_json(stack_config_to_json(config), "again").sliding_window, 8);
  EXPECT_EQ(LlamaFile().add("llama.attention.sliding_window", kU32, uint32_t{0}).config().sliding_window, 0);
}

// 2^32 - 1 is what some converters write for none.
TEST(GgufConfig, ATokenIdOutsideTheVocabularyIsNone) {
  EXPECT_EQ(end_tokens_of({{"a", 1}, {"b", 1}}, {{"eos", 0xffffffff}, {"eot", 1}}), std::vector<int64_t>{1});
  EXPECT_EQ(end_tokens_of({{"a", 1}, {"b", 1}}, {{"eos", 2}}), std::vector<int64_t>{});
}

}  // namespace
}  // namespace cepe
