// What a model is, from the metadata of a GGUF file.
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/error.h"
#include "io/gguf.h"
#include "model/config.h"

namespace cepe {
namespace {

constexpr const char* kTokenNames[] = {"bos", "eos", "eot", "eom", "padding"};

// How a key "<architecture>.<name>" is treated. Not listed: unknown_gguf_keys().
enum class Key {
  read,      // by stack_config_from_gguf()
  harmless,  // says nothing about the arithmetic of these families
  neutral,  // changes the arithmetic in a way that is not computed: refused, unless it has a value that changes nothing
};
struct KnownKey {
  Key treatment;
  std::vector<double> neutral = {};      // booleans as 0 and 1; none: always refused
  const char* meaning = "not computed";  // for the refusal
};

const KnownKey kRead{Key::read}, kHarmless{Key::harmless}, kExperts{Key::neutral, {0}, "a mixture of experts"};

KnownKey neutral(std::vector<double> values) { return {Key::neutral, std::move(values)}; }

// Every key that llama.cpp knows (src/llama-arch.cpp) and that a file of a decoder could have. What llama.cpp itself
// does not read for llama, qwen2 and qwen3, as the yarn_* keys, is refused too: the file means something by it.
const std::map<std::string, KnownKey> kKnownKeys = {
    {"context_length", kRead},
    {"embedding_length", kRead},
    {"feed_forward_length", kRead},
    {"block_count", kRead},
    {"attention.head_count", kRead},
    {"attention.head_count_kv", kRead},
    {"attention.key_length", kRead},
    {"attention.value_length", kRead},
    {"attention.layer_norm_rms_epsilon", kRead},
    {"attention.sliding_window", kRead},
    {"attention.scale", kRead},
    {"rope.dimension_count", kRead},
    {"rope.freq_base", kRead},
    {"rope.scale_linear", kRead},
    {"rope.scaling.type", kRead},
    {"rope.scaling.factor", kRead},
    {"rope.scaling.attn_factor", kRead},
    {"rope.scaling.original_context_length", kRead},
    {"hidden_activation", kRead},
    {"vocab_size", kHarmless},  // the embedding's rows count
    {"tensor_data_layout", kHarmless},
    {"rope.scaling.finetuned", kHarmless},
    {"attention.layer_norm_epsilon", kHarmless},      // of another norm than these families have
    {"attention.sliding_window_pattern", kHarmless},  // the text ends at the window, whichever layers slide
    {"pooling_type", kHarmless},
    {"decoder_start_token_id", kHarmless},
    {"interleave_moe_layer_step", kHarmless},  // all of experts: without expert_count they mean nothing
    {"expert_feed_forward_length", kHarmless},
    {"expert_weights_scale", kHarmless},
    {"expert_weights_norm", kHarmless},
    {"expert_gating_func", kHarmless},
    {"expert_count", kExperts},
    {"expert_used_count", kExperts},
    {"expert_shared_count", kExperts},
    {"expert_shared_feed_forward_length", kExperts},
    {"leading_dense_block_count", kExperts},
    {"nextn_predict_layers", neutral({0})},
    {"n_deepstack_layers", neutral({0})},
    {"embedding_length_out", neutral({})},
    {"embedding_scale", neutral({0, 1})},
    {"residual_scale", neutral({0, 1})},
    {"logit_scale", neutral({0, 1})},
    {"attn_logit_softcapping", neutral({0})},
    {"final_logit_softcapping", neutral({0})},
    {"use_parallel_residual", neutral({0})},
    {"swin_norm", neutral({0})},
    {"attention.causal", neutral({1})},
    {"attention.max_alibi_bias", neutral({0})},
    {"attention.clamp_kqv", neutral({0})},
    {"attention.output_scale", neutral({0, 1})},
    {"attention.value_scale", neutral({0, 1})},
    {"attention.temperature_length", neutral({0})},
    {"attention.temperature_scale", neutral({0})},
    {"attention.q_lora_rank", neutral({0})},
    {"attention.kv_lora_rank", neutral({0})},
    {"attention.key_length_swa", neutral({})},
    {"attention.value_length_swa", neutral({})},
    {"attention.shared_kv_layers", neutral({0})},
    {"rope.dimension_count_swa", neutral({})},
    {"rope.dimension_sections", neutral({})},
    {"rope.freq_base_swa", neutral({})},
    {"rope.scaling.alpha", neutral({0, 1})},
    {"rope.scaling.yarn_log_multiplier", neutral({0})},
    {"rope.scaling.yarn_ext_factor", neutral({-1, 1})},
    {"rope.scaling.yarn_attn_factor", neutral({1})},
    {"rope.scaling.yarn_beta_fast", neutral({32})},
    {"rope.scaling.yarn_beta_slow", neutral({1})},
};

// A value for a message.
std::string text_of(const GgufFile::Value& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return "\"" + *text + "\"";
  if (const auto* truth = std::get_if<bool>(&value)) return *truth ? "true" : "false";
  if (const auto* number = std::get_if<double>(&value)) return fmt::format("{}", *number);
  if (const auto* number = std::get_if<int64_t>(&value)) return fmt::format("{}", *number);
  if (const auto* number = std::get_if<uint64_t>(&value)) return fmt::format("{}", *number);
  return "a list";
}

std::optional<double> number_of(const GgufFile::Value& value) {
  if (const auto* truth = std::get_if<bool>(&value)) return *truth ? 1.0 : 0.0;
  if (const auto* number = std::get_if<double>(&value)) return *number;
  if (const auto* number = std::get_if<int64_t>(&value)) return static_cast<double>(*number);
  if (const auto* number = std::get_if<uint64_t>(&value)) return static_cast<double>(*number);
  return std::nullopt;
}

void refuse_other_arithmetic(const GgufFile& file, const std::string& family) {
  for (const auto& [name, known] : kKnownKeys) {
    const std::string key = family + "." + name;
    const GgufFile::Value* value = file.value(key);
    if (known.treatment != Key::neutral || !value) continue;
    const std::optional<double> number = number_of(*value);
    const bool same = number && std::find(known.neutral.begin(), known.neutral.end(), *number) != known.neutral.end();
    require(same, "{}: \"{}\" is {}: {} is not supported", file.path().string(), key, text_of(*value), known.meaning);
  }
}

// The ends that the file names, then, as in llama.cpp, control tokens of the listed families that end a text or a turn
// by their spelling: many files name one end alone, and their models write another.
std::vector<int64_t> end_tokens_from_gguf(const GgufFile& file) {
  static const std::set<std::string> spellings = {"</s>",       "<|endoftext|>", "<|im_end|>",
                                                  "<|eot_id|>", "<|eom_id|>",    "<|end_of_text|>"};
  constexpr int64_t kControl = 3, kUserDefined = 4;
  std::vector<int64_t> ends;
  const auto add = [&](int64_t token) {
    if (std::find(ends.begin(), ends.end(), token) == ends.end()) ends.push_back(token);
  };
  for (const char* name : {"eos", "eot", "eom"}) {
    if (const auto id = gguf_token_id(file, name)) add(*id);
  }
  if (!file.value("tokenizer.ggml.tokens") || !file.value("tokenizer.ggml.token_type")) return ends;
  const std::vector<std::string>& tokens = file.strings("tokenizer.ggml.tokens");
  const std::vector<int64_t> types = file.integers("tokenizer.ggml.token_type");
  for (size_t i = 0; i < std::min(tokens.size(), types.size()); ++i) {
    if ((types[i] == kControl || types[i] == kUserDefined) && spellings.count(tokens[i])) add(static_cast<int64_t>(i));
  }
  return ends;
}

// The scaling of rotary positions as llama.cpp combines it: a factor without a kind is linear, as is the key of 2023,
// and 0 stands for none; attn_factor scales cosines and sines on top of yarn's own.
RopeConfig rope_from_gguf(const GgufFile& file, const std::string& family, int64_t max_positions) {
  static const std::map<std::string, RopeKind> kinds = {
      {"none", RopeKind::none}, {"linear", RopeKind::linear}, {"yarn", RopeKind::yarn}};
  const std::string where = file.path().string();
  const auto key = [&](const char* name) { return family + ".rope." + name; };
  RopeConfig rope;
  rope.theta = file.number(key("freq_base"), 10000.0);
  const std::string type = key("scaling.type"), scaling = file.value(type) ? file.string(type) : "linear";
  const auto kind = kinds.find(scaling);
  require(kind != kinds.end(), "{}: rope scaling \"{}\" (\"{}\") is not supported, expected none, linear or yarn",
          where, scaling, type);
  const double factor = file.number(key("scaling.factor"), file.number(key("scale_linear"), 0.0));
  rope.kind = kind->second == RopeKind::linear && (factor == 0 || factor == 1) ? RopeKind::none : kind->second;
  if (rope.kind != RopeKind::none && factor != 0) rope.factor = factor;
  const std::string original = key("scaling.original_context_length");
  const int64_t trained = file.integer(original, 0);
  require(trained >= 0 && trained < (int64_t{1} << 31), "{}: \"{}\" is {}, expected a number of tokens", where,
          original, trained);
  if (rope.kind == RopeKind::yarn) rope.original_positions = trained > 0 ? trained : max_positions;
  const double attention = file.number(key("scaling.attn_factor"), 1.0);
  require(attention > 0 && std::isfinite(attention), "{}: \"{}\" is {}, expected a positive number", where,
          key("scaling.attn_factor"), attention);
  require(attention == 1.0 || rope.kind == RopeKind::yarn,
          "{}: \"{}\" is {} without yarn, which is not supported: only yarn scales attention", where,
          key("scaling.attn_factor"), attention);
  if (attention != 1.0) rope.attention_factor = attention * (0.1 * std::log(rope.factor) + 1.0);
  if (const TensorView* divisors = file.find("rope_freqs.weight")) {
    std::vector<float> values(static_cast<size_t>(divisors->elements()));
    decode_to_f32(*divisors, values.data());
    rope.frequency_divisors.assign(values.begin(), values.end());
  }
  return rope;
}

// Sizes that another part of the file must agree with, where it gives them.
void check_head_sizes(const GgufFile& file, const StackConfig& config) {
  const std::string where = file.path().string(), family = config.family + ".";
  for (const char* name : {"attention.value_length", "rope.dimension_count"}) {
    const int64_t found = file.integer(family + name, config.head_dim);
    require(found == config.head_dim, "{}: \"{}{}\" is {} and the head size {}: {} is not supported", where, family,
            name, found, config.head_dim,
            name[0] == 'r' ? "rotating a part of each head" : "values of another size than keys");
  }
  const double scale = file.number(family + "attention.scale", 0.0);
  require(scale == 0.0 || std::abs(scale * std::sqrt(static_cast<double>(config.head_dim)) - 1.0) < 1e-5,
          "{}: \"{}attention.scale\" is {}, only 1 over the root of the head size {} is supported", where, family,
          scale, config.head_dim);
}

std::string family_of(const GgufFile& file) {
  static const std::set<std::string> families = {"llama", "qwen2", "qwen3"};
  const std::string where = file.path().string();
  const std::string type = file.value("general.type") ? file.string("general.type") : "model";
  require(type == "model", "{}: holds no model but \"{}\" (\"general.type\")", where, type);
  const std::string family = file.string("general.architecture");
  require(families.count(family), "{}: architecture \"{}\" is not supported, expected llama, qwen2 or qwen3", where,
          family);
  return family;
}

}  // namespace

std::optional<int64_t> gguf_token_id(const GgufFile& file, const std::string& name) {
  const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name), list = "tokenizer.ggml.tokens";
  if (!file.value(key)) return std::nullopt;
  const int64_t id = file.integer(key);
  require(id < (int64_t{1} << 32), "{}: \"{}\" is {}, more than any token id", file.path().string(), key, id);
  const int64_t tokens = file.value(list) ? static_cast<int64_t>(file.strings(list).size()) : INT32_MAX;
  return id >= 0 && id < tokens ? std::optional(id) : std::nullopt;
}

std::vector<std::string> gguf_notes(const GgufFile& file) {
  const std::string prefix = family_of(file) + ".";
  std::vector<std::string> unknown, notes;
  for (const std::string& key : file.keys()) {
    if (key.rfind(prefix, 0) == 0 && !kKnownKeys.count(key.substr(prefix.size()))) unknown.push_back(key);
  }
  if (!unknown.empty()) {
    notes.push_back(fmt::format("{} of the file's keys are not known and were not read, the first is {}",
                                unknown.size(), unknown[0]));
  }
  for (const char* name : kTokenNames) {
    const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
    if (file.value(key) && !gguf_token_id(file, name)) {
      notes.push_back(fmt::format("\"{}\" is {}, outside the vocabulary: it is not used", key, file.integer(key)));
    }
  }
  return notes;
}

StackConfig stack_config_from_gguf(const GgufFile& file) {
  const std::string where = file.path().string(), family = family_of(file);
  refuse_other_arithmetic(file, family);
  const auto key = [&](const char* name) { return family + "." + name; };
  const auto size = [&](const std::string& name) {
    const int64_t value = file.integer(name);
    require(value > 0 && value < (int64_t{1} << 31), "{}: \"{}\" should be a positive size, found {}", where, name,
            value);
    return value;
  };
  const std::string activation = file.value(key("hidden_activation")) ? file.string(key("hidden_activation")) : "silu";
  require(activation == "silu" || activation == "swish", "{}: activation \"{}\" is not supported, expected silu", where,
          activation);
  StackConfig config;
  config.family = family;
  config.hidden_size = size(key("embedding_length"));
  config.intermediate_size = size(key("feed_forward_length"));
  config.num_layers = size(key("block_count"));
  config.num_heads = size(key("attention.head_count"));
  config.num_kv_heads =
      file.value(key("attention.head_count_kv")) ? size(key("attention.head_count_kv")) : config.num_heads;
  config.head_dim = file.value(key("attention.key_length"))
                        ? size(key("attention.key_length"))
                        : default_head_dim(config.hidden_size, config.num_heads, where);
  check_head_sizes(file, config);
  config.max_positions = size(key("context_length"));
  // llama.cpp does not mask for these families; the model was trained with the window, so that the text ends there.
  if (file.integer(key("attention.sliding_window"), 0) != 0)
    config.sliding_window = size(key("attention.sliding_window"));
  config.rms_norm_eps = file.number(key("attention.layer_norm_rms_epsilon"), 1e-5);
  config.rope = rope_from_gguf(file, family, config.max_positions);
  const TensorView* embedding = file.find("token_embd.weight");
  require(embedding && embedding->shape.size() == 2, "{}: tensor token_embd.weight is missing or not a matrix", where);
  config.vocab_size = embedding->shape[0];
  config.tie_embeddings = file.find("output.weight") == nullptr;
  config.qkv_bias = file.find("blk.0.attn_q.bias") != nullptr;
  config.output_bias = file.find("blk.0.attn_output.bias") != nullptr;
  config.qk_norm = family == "qwen3";
  config.bos_token = gguf_token_id(file, "bos");
  config.end_tokens = end_tokens_from_gguf(file);
  config.pad_token = gguf_token_id(file, "padding");
  check_stack_config(config, where);
  return config;
}

}  // namespace cepe
