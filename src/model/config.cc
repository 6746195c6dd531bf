#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/error.h"

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
    return integer_in(key, object_[key]);
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
  // Positions: a size, which some files write as 32768.0.
  int64_t positions(const char* key) const {
    const double value = number(key, 0);
    require(value >= 1 && value < 2147483648.0 && value == std::floor(value),
            "{}: \"{}\" should be a positive number of tokens, found {}", where_, key, text(object_[key]));
    return static_cast<int64_t>(value);
  }
  double positive(const char* key, double fallback) const {
    const double value = number(key, fallback);
    require(value > 0 && std::isfinite(value), "{}: \"{}\" should be a positive number, found {}", where_, key, value);
    return value;
  }
  double number(const char* key, double fallback) const {
    if (!has(key)) return fallback;
    require(object_[key].is_number(), "{}: \"{}\" should be a number, found {}", where_, key, text(object_[key]));
    return object_[key].get<double>();
  }
  bool boolean(const char* key, bool fallback) const {
    if (!has(key)) return fallback;
    require(object_[key].is_boolean(), "{}: \"{}\" should be true or false, found {}", where_, key, text(object_[key]));
    return object_[key].get<bool>();
  }
  std::string string(const char* key, const std::string& fallback) const {
    if (!has(key)) return fallback;
    require(object_[key].is_string(), "{}: \"{}\" should be a string, found {}", where_, key, text(object_[key]));
    return object_[key].get<std::string>();
  }
  std::vector<double> numbers(const char* key) const {
    if (!has(key)) return {};
    require(object_[key].is_array(), "{}: \"{}\" should be a list of numbers, found {}", where_, key,
            text(object_[key]));
    std::vector<double> out;
    for (const Json& item : object_[key]) {
      require(item.is_number(), "{}: \"{}\" should hold numbers, found {}", where_, key, text(item));
      out.push_back(item.get<double>());
    }
    return out;
  }
  // Token ids: one, or a list. Below 0 stands for none in older files.
  std::vector<int64_t> token_ids(const char* key) const {
    if (!has(key)) return {};
    std::vector<int64_t> out;
    const Json& value = object_[key];
    for (const Json& item : value.is_array() ? value : Json::array({value})) {
      const int64_t id = integer_in(key, item);
      require(id < (int64_t{1} << 31), "{}: \"{}\" is {}, more than any token id", where_, key, id);
      if (id >= 0) out.push_back(id);
    }
    return out;
  }
  std::optional<int64_t> token_id(const char* key) const {
    if (!has(key)) return std::nullopt;
    const std::vector<int64_t> ids = token_ids(key);
    require(!object_[key].is_array(), "{}: \"{}\" should be one token id, found {}", where_, key, text(object_[key]));
    return ids.empty() ? std::nullopt : std::optional(ids[0]);
  }
  const Json& at(const char* key) const { return object_[key]; }
  const Json& object() const { return object_; }
  const std::string& where() const { return where_; }
  // A value for a message: JSON, cut where it is long.
  static std::string text(const Json& value) {
    std::string all = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    constexpr size_t kMost = 80;
    return all.size() <= kMost ? all : fmt::format("{} of {} values", value.type_name(), value.size());
  }

 private:
  int64_t integer_in(const char* key, const Json& value) const {
    require(value.is_number_integer(), "{}: \"{}\" should be an integer, found {}", where_, key, text(value));
    require(!value.is_number_unsigned() || value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX),
            "{}: \"{}\" is {}, more than 2^63-1", where_, key, text(value));
    return value.get<int64_t>();
  }

  const Json& object_;
  std::string where_;
};

// Fields of config.json that change the arithmetic of other families or of other code under the same model_type, and
// that cepe does not compute: refused, unless the value is the one that changes nothing (docs/models.md).
void refuse_other_arithmetic(const Reader& in, int64_t head_dim) {
  const double K = static_cast<double>(head_dim);
  static const char* const experts[] = {"num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"};
  for (const char* key : experts) {
    require(in.number(key, 0) == 0, "{}: \"{}\" is {}: a mixture of experts is not supported", in.where(), key,
            in.number(key, 0));
  }
  const std::vector<std::pair<const char*, double>> neutral = {{"residual_multiplier", 1},
                                                               {"embedding_multiplier", 1},
                                                               {"logits_scaling", 1},
                                                               {"attention_multiplier", 1 / std::sqrt(K)},
                                                               {"query_pre_attn_scalar", K},
                                                               {"logit_scale", 1},
                                                               {"lm_head_multiplier", 1},
                                                               {"key_multiplier", 1},
                                                               {"scale_emb", 1},
                                                               {"embedding_scale", 1},
                                                               {"residual_scale", 1},
                                                               {"final_logit_softcapping", 0},
                                                               {"attn_logit_softcapping", 0},
                                                               {"partial_rotary_factor", 1},
                                                               {"rotary_pct", 1},
                                                               {"clip_qkv", 0},
                                                               {"use_qk_norm", 0},
                                                               {"qk_layernorm", 0},
                                                               {"use_parallel_residual", 0},
                                                               {"parallel_attn", 0},
                                                               {"alibi", 0},
                                                               {"use_mrope", 0},
                                                               {"rope_interleaved", 0},
                                                               {"rope_interleave", 0},
                                                               {"attn_temperature_tuning", 0},
                                                               {"mlp_bias", 0},
                                                               {"scale_depth", 0},
                                                               {"no_rope_layer_interval", 0}};
  for (const auto& [key, value] : neutral) {
    if (!in.has(key)) continue;
    const Json& found = in.at(key);
    const bool same = found.is_boolean() ? static_cast<double>(found.get<bool>()) == value
                                         : found.is_number() && std::abs(found.get<double>() - value) < 1e-6;
    require(same, "{}: \"{}\" is {}, which cepe does not compute (only {} or null, which changes nothing)", in.where(),
            key, Reader::text(found), value);
  }
  for (const double rotates : in.numbers("no_rope_layers")) {
    require(rotates == 1, "{}: \"no_rope_layers\" names layers without rotary positions, which cepe does not compute",
            in.where());
  }
}

// Fields within the scaling: what transformers 5.24 reads, and what other code writes beside it.
void check_scaling_fields(const Reader& scaling) {
  static const std::set<std::string> known = {
      "rope_type",       "type",      "rope_theta", "factor",           "original_max_position_embeddings",
      "low_freq_factor", "beta_fast", "beta_slow",  "attention_factor", "high_freq_factor",
      "mscale",          "truncate",  "finetuned",  "mscale_all_dim",   "max_position_embeddings"};
  static const std::set<std::string> one = {"partial_rotary_factor", "attn_factor", "extrapolation_factor"};
  for (const auto& [key, value] : scaling.object().items()) {
    if (known.count(key) || value.is_null()) continue;
    require(!value.is_object(), "{}: scaling of each kind of layer by itself (\"{}\") is not supported",
            scaling.where(), key);
    require(one.count(key) && value.is_number() && value.get<double>() == 1.0,
            "{}: the field \"{}\" ({}) is not known, and might change the positions", scaling.where(), key,
            Reader::text(value));
  }
}

// mscale, mscale_all_dim and attention_factor of yarn, as transformers combines them.
double yarn_attention_factor(const Reader& scaling, double factor) {
  if (scaling.has("attention_factor")) return scaling.positive("attention_factor", 0);
  const double mscale = scaling.number("mscale", 0.0), all = scaling.number("mscale_all_dim", 0.0);
  if (mscale == 0.0 || all == 0.0) return 0.0;
  const auto scale = [&](double m) { return factor <= 1.0 ? 1.0 : 0.1 * m * std::log(factor) + 1.0; };
  const double ratio = scale(mscale) / scale(all);
  require(ratio > 0 && std::isfinite(ratio), "{}: \"mscale\" {} and \"mscale_all_dim\" {} scale attention by {}",
          scaling.where(), mscale, all, ratio);
  return ratio;
}

void read_yarn(const Reader& scaling, int64_t max_positions, RopeConfig& rope) {
  if (!scaling.has("factor"))
    rope.factor = static_cast<double>(max_positions) / static_cast<double>(rope.original_positions);
  // A beta of 0 is taken as absent, as by transformers.
  rope.beta_fast = scaling.number("beta_fast", 0.0) == 0.0 ? 32.0 : scaling.positive("beta_fast", 32.0);
  rope.beta_slow = scaling.number("beta_slow", 0.0) == 0.0 ? 1.0 : scaling.positive("beta_slow", 1.0);
  rope.truncate = scaling.boolean("truncate", true);
  rope.attention_factor = yarn_attention_factor(scaling, rope.factor);
}

// The scaling alone stands in "rope_scaling"; transformers 5 writes everything into "rope_parameters". Where both stand
// the former holds, as there.
RopeConfig rope_from_json(const Reader& config, int64_t max_positions) {
  static const std::map<std::string, RopeKind> kinds = {{"linear", RopeKind::linear},
                                                        {"dynamic", RopeKind::dynamic},
                                                        {"yarn", RopeKind::yarn},
                                                        {"llama3", RopeKind::llama3}};
  RopeConfig rope;
  rope.theta = config.number("rope_theta", 10000.0);
  rope.frequency_divisors = config.numbers("rope_frequency_divisors");
  const auto filled = [&](const char* key) { return config.has(key) && !config.at(key).empty(); };
  const char* key = filled("rope_scaling") ? "rope_scaling" : "rope_parameters";
  if (!filled(key)) return rope;
  const Reader scaling(config.at(key), config.where() + ": \"" + key + "\"");
  const std::string kind = scaling.string("rope_type", scaling.string("type", "default"));
  const auto found = kinds.find(kind);
  require(kind == "default" || found != kinds.end(),
          "{}: unknown kind \"{}\", expected default, linear, dynamic, yarn or llama3", scaling.where(), kind);
  check_scaling_fields(scaling);
  rope.theta = scaling.number("rope_theta", rope.theta);
  if (kind == "default") return rope;
  rope.kind = found->second;
  require(scaling.has("factor") || (rope.kind == RopeKind::yarn && scaling.object().contains("factor")),
          "{}: \"factor\" is missing", scaling.where());
  rope.factor = scaling.number("factor", 1.0);
  if (rope.kind == RopeKind::yarn || rope.kind == RopeKind::llama3) {
    const char* original = "original_max_position_embeddings";  // the file's own before the scaling's
    rope.original_positions = config.has(original)    ? config.positions(original)
                              : scaling.has(original) ? scaling.positions(original)
                                                      : max_positions;
  }
  if (rope.kind == RopeKind::yarn) read_yarn(scaling, max_positions, rope);
  if (rope.kind != RopeKind::llama3) return rope;
  for (const char* name : {"low_freq_factor", "high_freq_factor"})
    require(scaling.has(name), "{}: \"{}\" is missing", scaling.where(), name);
  rope.low_freq_factor = scaling.positive("low_freq_factor", 1.0);
  rope.high_freq_factor = scaling.positive("high_freq_factor", 4.0);
  require(rope.low_freq_factor < rope.high_freq_factor,
          "{}: \"low_freq_factor\" {} should be below \"high_freq_factor\" {}", scaling.where(), rope.low_freq_factor,
          rope.high_freq_factor);
  return rope;
}

// What transformers takes where config.json is silent, which differs from family to family.
struct FamilyDefaults {
  int64_t max_positions;
  int64_t head_dim;        // 0: width over heads
  int64_t sliding_window;  // 0: none
};
const std::map<std::string, FamilyDefaults> kFamilies = {{"llama", {2048, 0, 0}},
                                                         {"mistral", {131072, 0, 4096}},
                                                         {"qwen2", {32768, 0, 4096}},
                                                         {"qwen3", {32768, 128, 4096}}};

// The sliding window of the layers that have one; 0: none has. Mistral's layers slide whenever there is a number, the
// others' where "use_sliding_window" (for the layers from "max_window_layers" on) or "layer_types" says so: where the
// two contradict each other, the text ends early rather than wrong.
int64_t sliding_window_from_json(const Reader& in, const StackConfig& config) {
  const bool mistral = config.family == "mistral";
  bool slides =
      mistral || (in.boolean("use_sliding_window", false) && in.integer("max_window_layers", 28) < config.num_layers);
  if (in.has("layer_types")) {
    require(in.at("layer_types").is_array(), "{}: \"layer_types\" should be a list, found {}", in.where(),
            Reader::text(in.at("layer_types")));
    for (const Json& type : in.at("layer_types")) {
      require(type == "full_attention" || type == "sliding_attention",
              "{}: layers of the type {} are not supported, expected full_attention or sliding_attention", in.where(),
              Reader::text(type));
      slides = slides || type == "sliding_attention";
    }
  }
  if (!slides) return 0;
  if (in.object().contains("sliding_window")) return in.has("sliding_window") ? in.size("sliding_window") : 0;
  return kFamilies.at(config.family).sliding_window;
}

}  // namespace

int64_t default_head_dim(int64_t hidden, int64_t heads, const std::string& where) {
  require(hidden % heads == 0, "{}: width {} is not a multiple of {} heads and no head size is given", where, hidden,
          heads);
  return hidden / heads;
}

void check_stack_config(const StackConfig& config, const std::string& where) {
  require(config.num_heads % config.num_kv_heads == 0, "{}: {} attention heads cannot share {} key-value heads", where,
          config.num_heads, config.num_kv_heads);
  require(config.head_dim > 0 && config.head_dim % 2 == 0, "{}: head size {} should be even and positive", where,
          config.head_dim);
  require(config.num_layers < 10000, "{}: {} layers are more than any model has", where, config.num_layers);
  const RopeConfig& rope = config.rope;
  require(
      rope.theta > 0 && std::isfinite(rope.theta),
      "{}: the base of the rotary frequencies (rope_theta, rope.freq_base) is {}, expected a positive, finite number",
      where, rope.theta);
  constexpr double kMostFactor = 1e6;
  require(rope.factor >= 1.0 && rope.factor <= kMostFactor, "{}: the rope scaling factor should be 1 to {}, found {}",
          where, kMostFactor, rope.factor);
  require(rope.kind != RopeKind::yarn || rope.theta != 1.0, "{}: yarn has no ramp over frequencies of base 1", where);
  require(rope.kind != RopeKind::dynamic || config.head_dim > 2, "{}: dynamic scaling needs a head size above 2",
          where);
  const auto& divisors = rope.frequency_divisors;
  require(divisors.empty() || static_cast<int64_t>(divisors.size()) == config.head_dim / 2,
          "{}: {} divisors of rotary frequencies, expected half the head size {}", where, divisors.size(),
          config.head_dim);
  require(std::all_of(divisors.begin(), divisors.end(), [](double d) { return d > 0 && std::isfinite(d); }),
          "{}: a divisor of a rotary frequency is not a positive number", where);
  require(config.rms_norm_eps >= 0 && config.rms_norm_eps < 1,
          "{}: the epsilon of the RMS norms is {}, expected 0 or more and below 1", where, config.rms_norm_eps);
}

int64_t encoder_window(const StackConfig& config) {
  return config.sliding_window > 0 ? std::min(config.max_positions, config.sliding_window) : config.max_positions;
}

int64_t decoder_window(const StackConfig& config) {
  if (config.chosen_window > 0) return config.chosen_window;
  const RopeConfig& rope = config.rope;
  double window = static_cast<double>(config.max_positions);
  if (rope.kind == RopeKind::linear || rope.kind == RopeKind::dynamic) window *= rope.factor;
  if (rope.kind == RopeKind::yarn)
    window =
        static_cast<double>(rope.original_positions ? rope.original_positions : config.max_positions) * rope.factor;
  // A factor like 1.3 may fall a hair short of the whole number that is meant.
  int64_t tokens = static_cast<int64_t>(std::min(std::floor(window + 1e-6), static_cast<double>(INT32_MAX)));
  if (config.sliding_window > 0) tokens = std::min(tokens, config.sliding_window);
  return tokens;
}

void choose_window(StackConfig& config, int64_t window, const std::string& where) {
  require(window >= 1 && window <= INT32_MAX, "{}: a window of {} tokens is asked for, expected 1 to {}", where, window,
          INT32_MAX);
  require(
      config.sliding_window == 0 || window <= config.sliding_window,
      "{}: a window of {} tokens is asked for, and the model's attention slides over {}: cepe computes no such mask",
      where, window, config.sliding_window);
  config.chosen_window = window;
}

StackConfig stack_config_from_json(const Json& json, const std::string& where) {
  const Reader in(json, where);
  StackConfig config;
  config.family = in.string("model_type", "llama");
  const auto family = kFamilies.find(config.family);
  require(family != kFamilies.end(),
          "{}: architecture \"{}\" is not supported, expected llama, mistral, qwen2 or qwen3", where, config.family);
  for (const char* key : {"hidden_act", "hidden_activation"}) {
    const std::string activation = in.string(key, "silu");
    require(activation == "silu" || activation == "swish", "{}: activation \"{}\" is not supported, expected silu",
            where, activation);
  }
  config.vocab_size = in.size("vocab_size");
  config.hidden_size = in.size("hidden_size");
  config.intermediate_size = in.size("intermediate_size");
  config.num_layers = in.size("num_hidden_layers");
  config.num_heads = in.size("num_attention_heads");
  config.num_kv_heads = in.size("num_key_value_heads", config.num_heads);
  const int64_t usual = family->second.head_dim;
  config.head_dim = in.has("head_dim") ? in.size("head_dim")
                    : usual > 0        ? usual
                                       : default_head_dim(config.hidden_size, config.num_heads, where);
  config.max_positions = in.size("max_position_embeddings", family->second.max_positions);
  config.rms_norm_eps = in.number("rms_norm_eps", 1e-6);
  config.rope = rope_from_json(in, config.max_positions);
  refuse_other_arithmetic(in, config.head_dim);
  const bool biased = in.boolean("attention_bias", false);
  config.qkv_bias = in.boolean("qkv_bias", biased || config.family == "qwen2");
  config.output_bias = biased && config.family != "qwen2";
  config.qk_norm = config.family == "qwen3";
  config.tie_embeddings = in.boolean("tie_word_embeddings", false);
  config.sliding_window = sliding_window_from_json(in, config);
  config.bos_token = in.token_id("bos_token_id");
  config.end_tokens = in.token_ids("eos_token_id");
  config.pad_token = in.token_id("pad_token_id");
  check_stack_config(config, where);
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
  config.chunk_length = in.size("chunk_length", std::min<int64_t>(256, encoder_window(*config.encoder)));
  return config;
}

}  // namespace cepe
