#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.h"
#include "io/gguf.h"

namespace cepe {
namespace {

using Json = nlohmann::json;

// Typed reads of one JSON object, with the file's name in every error.
class Reader {
 public:
  Reader(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
    require(object_.is_object(), "{}: expected a JSON object, found {}", where_, object_.type_name());
  }
  bool has(const char* key) const { return object_.contains(key) && !object_[key].is_null(); }
  int64_t integer(const char* key) const {
    require(has(key), "{}: \"{}\" is missing", where_, key);
    const Json& value = object_[key];
    require(value.is_number_integer(), "{}: \"{}\" should be an integer, found {}", where_, key, value.dump());
    return value.get<int64_t>();
  }
  int64_t integer(const char* key, int64_t fallback) const { return has(key) ? integer(key) : fallback; }
  // A size: positive and small enough that products of two do not overflow.
  int64_t size(const char* key) const {
    const int64_t value = integer(key);
    require(value > 0 && value < (int64_t{1} << 31), "{}: \"{}\" should be a positive size, found {}", where_, key,
            value);
    return value;
  }
  int64_t size(const char* key, int64_t fallback) const { return has(key) ? size(key) : fallback; }
  double number(const char* key, double fallback) const {
    if (!has(key)) return fallback;
    require(object_[key].is_number(), "{}: \"{}\" should be a number, found {}", where_, key, object_[key].dump());
    return object_[key].get<double>();
  }
  bool boolean(const char* key, bool fallback) const {
    if (!has(key)) return fallback;
    require(object_[key].is_boolean(), "{}: \"{}\" should be true or false, found {}", where_, key,
            object_[key].dump());
    return object_[key].get<bool>();
  }
  std::string string(const char* key, const std::string& fallback) const {
    if (!has(key)) return fallback;
    require(object_[key].is_string(), "{}: \"{}\" should be a string, found {}", where_, key, object_[key].dump());
    return object_[key].get<std::string>();
  }
  std::vector<double> numbers(const char* key) const {
    if (!has(key)) return {};
    require(object_[key].is_array(), "{}: \"{}\" should be a list of numbers, found {}", where_, key,
            object_[key].dump());
    std::vector<double> out;
    for (const Json& item : object_[key]) {
      require(item.is_number(), "{}: \"{}\" should hold numbers, found {}", where_, key, item.dump());
      out.push_back(item.get<double>());
    }
    return out;
  }
  // An integer or a list of integers.
  std::vector<int64_t> integers(const char* key) const {
    if (!has(key)) return {};
    if (!object_[key].is_array()) return {integer(key)};
    std::vector<int64_t> out;
    for (const Json& item : object_[key]) {
      require(item.is_number_integer(), "{}: \"{}\" should hold integers, found {}", where_, key, item.dump());
      out.push_back(item.get<int64_t>());
    }
    return out;
  }
  const Json& at(const char* key) const { return object_[key]; }
  const std::string& where() const { return where_; }

 private:
  const Json& object_;
  std::string where_;
};

RopeConfig rope_from_json(const Reader& config) {
  RopeConfig rope;
  rope.theta = config.number("rope_theta", 10000.0);
  rope.frequency_divisors = config.numbers("rope_frequency_divisors");
  // transformers 5 writes everything into "rope_parameters"; before, scaling alone was in "rope_scaling".
  const char* key = config.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (!config.has(key)) return rope;
  const Reader scaling(config.at(key), config.where() + ": \"" + key + "\"");
  rope.theta = scaling.number("rope_theta", rope.theta);
  const std::string kind = scaling.string("rope_type", scaling.string("type", "default"));
  if (kind == "default") return rope;
  if (kind == "linear")
    rope.kind = RopeKind::linear;
  else if (kind == "dynamic")
    rope.kind = RopeKind::dynamic;
  else if (kind == "yarn")
    rope.kind = RopeKind::yarn;
  else if (kind == "llama3")
    rope.kind = RopeKind::llama3;
  else
    fail("{}: unknown kind \"{}\", expected default, linear, dynamic, yarn or llama3", scaling.where(), kind);
  require(scaling.has("factor"), "{}: \"factor\" is missing", scaling.where());
  rope.factor = scaling.number("factor", 1.0);
  rope.original_positions = scaling.size("original_max_position_embeddings", 0);
  rope.low_freq_factor = scaling.number("low_freq_factor", 1.0);
  rope.high_freq_factor = scaling.number("high_freq_factor", 4.0);
  rope.beta_fast = scaling.number("beta_fast", 32.0);
  rope.beta_slow = scaling.number("beta_slow", 1.0);
  rope.attention_factor = scaling.number("attention_factor", 0.0);
  return rope;
}

// What must hold for any stack, wherever its sizes came from.
void check(const StackConfig& config, const std::string& where) {
  require(config.num_heads % config.num_kv_heads == 0, "{}: {} attention heads cannot share {} key-value heads", where,
          config.num_heads, config.num_kv_heads);
  require(config.head_dim > 0 && config.head_dim % 2 == 0, "{}: head size {} should be even and positive", where,
          config.head_dim);
  require(config.num_layers < 10000, "{}: {} layers are more than any model has", where, config.num_layers);
  const RopeConfig& rope = config.rope;
  require(rope.theta > 0, "{}: rope base {} should be positive", where, rope.theta);
  require(rope.factor >= 1.0 && std::isfinite(rope.factor),
          "{}: the rope scaling factor should be at least 1, found {}", where, rope.factor);
  const auto& divisors = rope.frequency_divisors;
  require(divisors.empty() || static_cast<int64_t>(divisors.size()) == config.head_dim / 2,
          "{}: {} divisors of rotary frequencies, expected half the head size {}", where, divisors.size(),
          config.head_dim);
  require(std::all_of(divisors.begin(), divisors.end(), [](double d) { return d > 0 && std::isfinite(d); }),
          "{}: a divisor of a rotary frequency is not a positive number", where);
  require(config.rms_norm_eps >= 0, "{}: rms_norm_eps {} should not be negative", where, config.rms_norm_eps);
}

int64_t head_dim_of(int64_t hidden, int64_t heads, const std::string& where) {
  require(hidden % heads == 0, "{}: width {} is not a multiple of {} heads and no head size is given", where, hidden,
          heads);
  return hidden / heads;
}

}  // namespace

StackConfig stack_config_from_json(const Json& json, const std::string& where) {
  static const std::set<std::string> families = {"llama", "mistral", "qwen2", "qwen3"};
  const Reader in(json, where);
  StackConfig config;
  config.family = in.string("model_type", "llama");
  require(families.count(config.family),
          "{}: architecture \"{}\" is not supported, expected llama, mistral, qwen2 or qwen3", where, config.family);
  const std::string activation = in.string("hidden_act", "silu");
  require(activation == "silu", "{}: activation \"{}\" is not supported, expected silu", where, activation);
  config.vocab_size = in.size("vocab_size");
  config.hidden_size = in.size("hidden_size");
  config.intermediate_size = in.size("intermediate_size");
  config.num_layers = in.size("num_hidden_layers");
  config.num_heads = in.size("num_attention_heads");
  config.num_kv_heads = in.size("num_key_value_heads", config.num_heads);
  config.head_dim = in.has("head_dim") ? in.size("head_dim") : head_dim_of(config.hidden_size, config.num_heads, where);
  config.max_positions = in.size("max_position_embeddings", 2048);
  config.rms_norm_eps = in.number("rms_norm_eps", 1e-6);
  config.rope = rope_from_json(in);
  const bool biased = in.boolean("attention_bias", false);
  config.qkv_bias = in.boolean("qkv_bias", biased || config.family == "qwen2");
  config.output_bias = biased && config.family != "qwen2";
  require(!in.boolean("mlp_bias", false), "{}: biases in the feed-forward part (\"mlp_bias\") are not supported",
          where);
  config.qk_norm = config.family == "qwen3";
  config.tie_embeddings = in.boolean("tie_word_embeddings", false);
  // A sliding window ends what the model can read; Qwen2 carries the number without using it.
  const bool slides = in.has("sliding_window") && in.boolean("use_sliding_window", config.family == "mistral");
  if (slides) config.max_positions = std::min(config.max_positions, in.size("sliding_window"));
  if (in.has("bos_token_id")) config.bos_token = in.integers("bos_token_id").at(0);
  config.end_tokens = in.integers("eos_token_id");
  if (in.has("pad_token_id")) config.pad_token = in.integer("pad_token_id");
  check(config, where);
  return config;
}

CepeConfig cepe_config_from_json(const Json& json, const std::string& where) {
  CepeConfig config;
  config.decoder = stack_config_from_json(json, where);
  const Reader in(json, where);
  if (!in.boolean("do_cross_attention", false)) return config;
  require(in.has("encoder_config"), "{}: do_cross_attention is set and \"encoder_config\" is missing", where);
  config.encoder = stack_config_from_json(in.at("encoder_config"), where + ": \"encoder_config\"");
  config.num_cross_attn_layers = in.integer("num_cross_attn_layers", config.decoder.num_layers);
  require(config.num_cross_attn_layers >= 1 && config.num_cross_attn_layers <= config.decoder.num_layers,
          "{}: \"num_cross_attn_layers\" is {}, the decoder has {} layers", where, config.num_cross_attn_layers,
          config.decoder.num_layers);
  const int64_t states = in.integer("num_cross_attn_hidden_states", 1);
  require(states == 1, "{}: \"num_cross_attn_hidden_states\" is {}, only 1 is supported", where, states);
  const int64_t width = in.integer("encoder_hidden_size", config.encoder->hidden_size);
  require(width == config.encoder->hidden_size, "{}: \"encoder_hidden_size\" is {}, the encoder's hidden_size {}",
          where, width, config.encoder->hidden_size);
  config.encoder_embeddings = encoder_embeddings_from_name(in.string("encoder_embeddings", "own"), where);
  if (config.encoder_embeddings == EncoderEmbeddings::decoder) {
    require(width == config.decoder.hidden_size,
            "{}: the encoder reads the decoder's embedding of width {}, its own width is {}", where,
            config.decoder.hidden_size, width);
  }
  config.chunk_length = in.size("chunk_length", std::min<int64_t>(256, config.encoder->max_positions));
  return config;
}

namespace {

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
    const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
    if (file.value(key)) add(file.integer(key));
  }
  if (!file.value("tokenizer.ggml.tokens") || !file.value("tokenizer.ggml.token_type")) return ends;
  const std::vector<std::string>& tokens = file.strings("tokenizer.ggml.tokens");
  const std::vector<int64_t> types = file.integers("tokenizer.ggml.token_type");
  for (size_t i = 0; i < std::min(tokens.size(), types.size()); ++i) {
    if ((types[i] == kControl || types[i] == kUserDefined) && spellings.count(tokens[i])) add(static_cast<int64_t>(i));
  }
  return ends;
}

}  // namespace

StackConfig stack_config_from_gguf(const GgufFile& file) {
  static const std::set<std::string> families = {"llama", "qwen2", "qwen3"};
  const std::string where = file.path().string(), family = file.string("general.architecture");
  require(families.count(family), "{}: architecture \"{}\" is not supported, expected llama, qwen2 or qwen3", where,
          family);
  const auto key = [&](const char* name) { return family + "." + name; };
  const auto size = [&](const std::string& name) {
    const int64_t value = file.integer(name);
    require(value > 0 && value < (int64_t{1} << 31), "{}: \"{}\" should be a positive size, found {}", where, name,
            value);
    return value;
  };
  StackConfig config;
  config.family = family;
  config.hidden_size = size(key("embedding_length"));
  config.intermediate_size = size(key("feed_forward_length"));
  config.num_layers = size(key("block_count"));
  config.num_heads = size(key("attention.head_count"));
  config.num_kv_heads = file.integer(key("attention.head_count_kv"), config.num_heads);
  require(config.num_kv_heads > 0, "{}: {} key-value heads", where, config.num_kv_heads);
  const int64_t head_dim = file.integer(key("attention.key_length"), 0);
  config.head_dim = head_dim > 0 ? head_dim : head_dim_of(config.hidden_size, config.num_heads, where);
  config.max_positions = size(key("context_length"));
  config.rms_norm_eps = file.number(key("attention.layer_norm_rms_epsilon"), 1e-5);
  config.rope.theta = file.number(key("rope.freq_base"), 10000.0);
  const std::string scaling = file.value(key("rope.scaling.type")) ? file.string(key("rope.scaling.type")) : "none";
  if (scaling == "linear")
    config.rope.kind = RopeKind::linear;
  else if (scaling == "yarn")
    config.rope.kind = RopeKind::yarn;
  else
    require(scaling == "none", "{}: rope scaling \"{}\" is not supported, expected none, linear or yarn", where,
            scaling);
  // Some writers give a factor of 0 where nothing is scaled.
  if (config.rope.kind != RopeKind::none) config.rope.factor = file.number(key("rope.scaling.factor"), 1.0);
  config.rope.original_positions = file.integer(key("rope.scaling.original_context_length"), 0);
  if (const TensorView* divisors = file.find("rope_freqs.weight")) {
    std::vector<float> values(static_cast<size_t>(divisors->elements()));
    decode_to_f32(*divisors, values.data());
    config.rope.frequency_divisors.assign(values.begin(), values.end());
  }
  const TensorView* embedding = file.find("token_embd.weight");
  require(embedding && embedding->shape.size() == 2, "{}: tensor token_embd.weight is missing or not a matrix", where);
  config.vocab_size = embedding->shape[0];
  config.tie_embeddings = file.find("output.weight") == nullptr;
  config.qkv_bias = file.find("blk.0.attn_q.bias") != nullptr;
  config.output_bias = file.find("blk.0.attn_output.bias") != nullptr;
  config.qk_norm = family == "qwen3";
  if (file.value("tokenizer.ggml.bos_token_id")) config.bos_token = file.integer("tokenizer.ggml.bos_token_id");
  config.end_tokens = end_tokens_from_gguf(file);
  if (file.value("tokenizer.ggml.padding_token_id")) config.pad_token = file.integer("tokenizer.ggml.padding_token_id");
  check(config, where);
  return config;
}

Json stack_config_to_json(const StackConfig& config) {
  Json out = {{"model_type", config.family},
              {"hidden_act", "silu"},
              {"vocab_size", config.vocab_size},
              {"hidden_size", config.hidden_size},
              {"intermediate_size", config.intermediate_size},
              {"num_hidden_layers", config.num_layers},
              {"num_attention_heads", config.num_heads},
              {"num_key_value_heads", config.num_kv_heads},
              {"head_dim", config.head_dim},
              {"max_position_embeddings", config.max_positions},
              {"rms_norm_eps", config.rms_norm_eps},
              {"rope_theta", config.rope.theta},
              {"attention_bias", config.output_bias},
              {"tie_word_embeddings", config.tie_embeddings}};
  // Words of our own, for what only a GGUF file can be: a Llama with biases on q, k and v alone.
  if (config.qkv_bias != (config.output_bias || config.family == "qwen2")) out["qkv_bias"] = config.qkv_bias;
  if (!config.rope.frequency_divisors.empty()) out["rope_frequency_divisors"] = config.rope.frequency_divisors;
  if (config.bos_token) out["bos_token_id"] = *config.bos_token;
  if (config.pad_token) out["pad_token_id"] = *config.pad_token;
  if (config.end_tokens.size() == 1) out["eos_token_id"] = config.end_tokens[0];
  if (config.end_tokens.size() > 1) out["eos_token_id"] = config.end_tokens;
  if (config.rope.kind == RopeKind::none) return out;
  static const char* kinds[] = {"default", "linear", "dynamic", "yarn", "llama3"};
  Json rope = {{"rope_type", kinds[static_cast<int>(config.rope.kind)]},
               {"factor", config.rope.factor},
               {"low_freq_factor", config.rope.low_freq_factor},
               {"high_freq_factor", config.rope.high_freq_factor},
               {"beta_fast", config.rope.beta_fast},
               {"beta_slow", config.rope.beta_slow}};
  if (config.rope.original_positions) rope["original_max_position_embeddings"] = config.rope.original_positions;
  if (config.rope.attention_factor) rope["attention_factor"] = config.rope.attention_factor;
  out["rope_scaling"] = rope;
  return out;
}

namespace {

// The published code reads its configuration with transformers 4.34, which wants exactly these two fields, the factor
// above 1.
void write_published_rope(const RopeConfig& rope, Json& out) {
  out.erase("rope_scaling");
  if (rope.kind == RopeKind::none || (rope.kind == RopeKind::linear && rope.factor == 1.0)) return;
  out["rope_scaling"] = {{"type", rope.kind == RopeKind::linear ? "linear" : "dynamic"}, {"factor", rope.factor}};
}

}  // namespace

Json cepe_config_to_published_json(const CepeConfig& config) {
  const auto plain = [](const StackConfig& stack, const char* part) {
    require(stack.family == "llama" || stack.family == "mistral",
            "the published layout is a Llama model; the {} is of the family {}", part, stack.family);
    require(stack.head_dim * stack.num_heads == stack.hidden_size,
            "the published layout needs {} heads of {} to make up the {}'s width {}", stack.num_heads, stack.head_dim,
            part, stack.hidden_size);
    require(!stack.qkv_bias || stack.output_bias,
            "the published layout has no biases on q, k and v alone, as the {} has", part);
    require(stack.rope.kind == RopeKind::none || stack.rope.kind == RopeKind::linear ||
                stack.rope.kind == RopeKind::dynamic,
            "the published code knows no rotary scaling but linear and dynamic; the {} has another", part);
    require(stack.rope.frequency_divisors.empty(),
            "the published layout has no divisors of rotary frequencies; the {} has", part);
    require(stack.rope.kind != RopeKind::dynamic || stack.rope.factor > 1.0,
            "the published code refuses dynamic rotary scaling by a factor of 1, as the {} has", part);
    require(stack.rope.kind != RopeKind::dynamic || stack.rope.original_positions == 0 ||
                stack.rope.original_positions == stack.max_positions,
            "the published code scales dynamically beyond {} positions, max_position_embeddings; the {} beyond {}",
            stack.max_positions, part, stack.rope.original_positions);
  };
  const auto unbiased = [](const StackConfig& stack, const char* part) {
    require(!stack.qkv_bias && !stack.output_bias, "the published code has attention without biases; the {} has them",
            part);
  };
  plain(config.decoder, "decoder");
  Json out = stack_config_to_json(config.decoder);
  out.erase("head_dim");
  out["model_type"] = "llama";
  out["architectures"] = {config.encoder ? "LlamaForCausalContextLM" : "LlamaForCausalLM"};
  out["is_decoder"] = true;
  out["do_cross_attention"] = config.encoder.has_value();
  // The published code ties nothing: the head is always a tensor of its own.
  out["tie_word_embeddings"] = false;
  write_published_rope(config.decoder.rope, out);
  if (!config.encoder) return out;
  unbiased(config.decoder, "decoder");
  require(config.encoder_embeddings != EncoderEmbeddings::decoder_projected,
          "the published layout has no projection between the decoder's embedding and the encoder");
  plain(*config.encoder, "encoder");
  unbiased(*config.encoder, "encoder");
  Json encoder = stack_config_to_json(*config.encoder);
  encoder.erase("head_dim");
  encoder["model_type"] = "llama";
  encoder["is_decoder"] = false;
  encoder["do_cross_attention"] = false;
  encoder["tie_word_embeddings"] = false;
  write_published_rope(config.encoder->rope, encoder);
  out["encoder_config"] = encoder;
  out["encoder_hidden_size"] = config.encoder->hidden_size;
  out["num_cross_attn_layers"] = config.num_cross_attn_layers;
  out["num_cross_attn_hidden_states"] = 1;
  out["train_encoder"] = true;
  out["chunk_length"] = config.chunk_length;  // read by cepe; the published code is told it by its data
  return out;
}

const char* encoder_embeddings_name(EncoderEmbeddings embeddings) {
  switch (embeddings) {
    case EncoderEmbeddings::own: return "own";
    case EncoderEmbeddings::decoder: return "decoder";
    case EncoderEmbeddings::decoder_projected: return "decoder_projected";
  }
  return "";
}

EncoderEmbeddings encoder_embeddings_from_name(const std::string& name, const std::string& where) {
  for (EncoderEmbeddings kind :
       {EncoderEmbeddings::own, EncoderEmbeddings::decoder, EncoderEmbeddings::decoder_projected}) {
    if (name == encoder_embeddings_name(kind)) return kind;
  }
  fail("{}: \"encoder_embeddings\" is \"{}\", expected own, decoder or decoder_projected", where, name);
}

}  // namespace cepe
