#include "train/train_config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>
#include <set>
#include <span>
#include <type_traits>
#include <utility>

#include "base/error.h"
#include "model/checkpoint/checkpoint.h"
#include "ops/distillation.h"
#include "train/train_settings.h"

namespace cepe {
namespace {

// Keys of an identity that are no settings: they mark how samples are drawn.
constexpr const char *kWeightsMark = "data.concatenated_weights", *kChunksMark = "train.chunk_draws";

// Settings that are one of a few names.
constexpr std::pair<Stage, const char*> kStages[] = {{Stage::mlm, "mlm"},           {Stage::warmup, "warmup"},
                                                     {Stage::standard, "standard"}, {Stage::distill, "distill"},
                                                     {Stage::ask, "ask"},           {Stage::window, "window"}};
constexpr std::pair<Divergence, const char*> kDivergences[] = {{Divergence::full, "full"}, {Divergence::top, "top"}};
constexpr std::pair<Precision, const char*> kPrecisions[] = {
    {Precision::automatic, "auto"}, {Precision::float32, "float32"}, {Precision::bfloat16, "bfloat16"}};
constexpr std::pair<WindowRope, const char*> kWindowRopes[] = {
    {WindowRope::none, "none"}, {WindowRope::linear, "linear"}, {WindowRope::yarn, "yarn"}};
constexpr std::pair<Recompute, const char*> kRecomputes[] = {
    {Recompute::none, "none"}, {Recompute::feed_forward, "feed_forward"}, {Recompute::layers, "layers"}};
std::span<const std::pair<Stage, const char*>> names_of(Stage) { return kStages; }
std::span<const std::pair<Recompute, const char*>> names_of(Recompute) { return kRecomputes; }
std::span<const std::pair<WindowRope, const char*>> names_of(WindowRope) { return kWindowRopes; }
std::span<const std::pair<Divergence, const char*>> names_of(Divergence) { return kDivergences; }
std::span<const std::pair<Precision, const char*>> names_of(Precision) { return kPrecisions; }

template <typename T>
const char* name_in_list(T value) {
  for (const auto& [known, name] : names_of(value)) {
    if (known == value) return name;
  }
  return "";
}

template <typename T>
T value_of_name(const char* key, const std::string& given) {
  std::string expected;
  for (const auto& [value, name] : names_of(T{})) {
    if (given == name) return value;
    expected += (expected.empty() ? "" : ", ") + std::string(name);
  }
  fail("{}: expected one of {}, found \"{}\"", key, expected, given);
}

// A field as configuration files, JSON and tables know it.
template <typename T>
auto plain_value(const T& field) {
  if constexpr (std::is_enum_v<T>) {
    return std::string(name_in_list(field));
  } else {
    return field;
  }
}

// Of sizes and numbers of steps: far above any use, and keeps their sums and products below 2^63.
constexpr int64_t kLargest = int64_t{1} << 30;

void check_positive(const char* key, int64_t value) {
  require(value > 0, "{}: expected at least 1, found {}", key, value);
}
void check_not_negative(const char* key, double value) {
  require(std::isfinite(value) && value >= 0, "{}: expected a number of at least 0, found {}", key, value);
}

void check_sizes(const TrainConfig& c) {
  const bool random = c.stage == Stage::mlm && (c.mlm_hidden_size > 0 || !c.encoder.empty());
  require(random || !c.base.empty(), "model.base: not given: the decoder to train for, a path or a name");
  require(!c.train.empty() || c.only_ask(), "data.train: no token shards given: make them with `cepe data`");
  check_positive("model.encoder_layers", c.encoder_layers);
  check_positive("model.cross_attention_layers", c.cross_attention_layers);
  check_positive("train.chunk_length", c.chunk_length);
  check_positive("train.decoder_tokens", c.decoder_tokens);
  check_positive("train.batch", c.batch);
  check_positive("train.micro_batch", c.micro_batch);
  check_positive("train.steps", c.steps);
  check_positive("run.keep_checkpoints", c.keep_checkpoints);
  check_positive("run.validation_samples", c.validation_samples);
  check_positive("run.stop_after_not_finite", c.stop_after_not_finite);
  require(c.batch % c.micro_batch == 0,
          "train.batch: {} samples cannot be cut into micro-batches of {} (train.micro_batch)", c.batch, c.micro_batch);
  require(!c.context_chunks.empty(), "train.context_chunks: an empty list");
  for (int64_t chunks : c.context_chunks) check_positive("train.context_chunks", chunks);
  const auto check_not_large = [](const char* key, int64_t value) {
    require(value <= kLargest, "{}: {} is too large, at most {} is possible", key, value, kLargest);
  };
  check_not_negative("model.pooling", static_cast<double>(c.pooling));
  check_not_large("train.chunk_length", c.chunk_length);
  for (int64_t chunks : c.context_chunks) check_not_large("train.context_chunks", chunks);
  check_not_large("train.context_chunks x train.chunk_length", c.max_context_tokens());
  check_not_large("train.decoder_tokens", c.decoder_tokens);
  check_not_large("train.batch", c.batch);
  check_not_large("train.steps", c.steps);
  check_not_large("train.warmup_steps", c.warmup_steps);
  check_not_large("train.hold_steps", c.hold_steps);
  if (c.stage == Stage::warmup) {
    require(c.context_chunks.size() == 1 && c.max_context_tokens() == c.decoder_tokens,
            "train.stage warmup: encoder and decoder read the same tokens: {} chunks of {} are not decoder_tokens = {}",
            c.context_chunks[0], c.chunk_length, c.decoder_tokens);
  }
}

void check_mlm(const TrainConfig& c) {
  if (c.stage != Stage::mlm) return;
  require(c.mlm_hidden_size >= 0, "mlm.hidden_size: expected 0 or a width, found {}", c.mlm_hidden_size);
  const std::pair<const char*, int64_t> sizes[] = {{"mlm.hidden_size", c.mlm_hidden_size},
                                                   {"mlm.heads", c.mlm_heads},
                                                   {"mlm.intermediate_size", c.mlm_intermediate_size},
                                                   {"mlm.positions", c.mlm_positions}};
  for (const auto& [key, size] : sizes) {
    if (key != sizes[0].first) check_positive(key, size);
    require(size <= kLargest, "{}: {} is too large, at most {} is possible", key, size, kLargest);
  }
  require(c.mlm_mask_share > 0 && c.mlm_mask_share <= 1,
          "mlm.mask_share: expected a number above 0 and at most 1, found {}", c.mlm_mask_share);
  require(c.mlm_mask_token >= -1 && c.mlm_mask_token <= kLargest, "mlm.mask_token: expected a token id or -1, found {}",
          c.mlm_mask_token);
}

// Stages mlm and window train no encoder with cross-attention, the others no decoder.
void check_stage(const TrainConfig& c) {
  if (!c.has_encoder())
    require(c.parts.empty(), "model.parts: stage {} trains no encoder with cross-attention", name_of(c.stage));
  require(c.encoder.empty() || c.parts.empty(),
          "model.encoder: model.parts {} have an encoder already: give one of the two", c.parts);
  require(c.weights != "int8" || c.has_encoder(), "run.weights int8: stage {} writes {}, which has no int8 weights",
          name_of(c.stage), c.stage == Stage::mlm ? "the published layout" : "a Hugging Face directory");
  if (c.stage != Stage::window) return;
  require(c.encoder.empty(), "model.encoder: stage window trains the decoder alone");
  require(std::isfinite(c.window_factor) && c.window_factor >= 1,
          "window.factor: expected a number of at least 1, found {}", c.window_factor);
  require(c.window_rope != WindowRope::none || c.window_factor == 1,
          "window.factor: {} with window.rope none: choose linear or yarn", c.window_factor);
}

void check_ask(const TrainConfig& c) {
  if (c.stage != Stage::ask) {
    require(c.ask.empty(), "data.ask: samples are learnt in stage ask, train.stage is {}", name_of(c.stage));
    return;
  }
  require(!c.ask.empty(), "data.ask: stage ask needs token shards of samples");
  require(c.ask_share > 0 && c.ask_share <= 1, "data.ask_share: expected a number above 0 and at most 1, found {}",
          c.ask_share);
}

void check_distill(const TrainConfig& c) {
  if (c.stage != Stage::distill) return;
  check_not_negative("train.lm_coefficient", c.lm_coefficient);
  require(c.kl_coefficient > 0 && std::isfinite(c.kl_coefficient),
          "train.kl_coefficient: expected a number above 0, found {}", c.kl_coefficient);
  check_positive("train.kl_top", c.kl_top);
  distill_mode_from_name(c.kl_mode, "train.kl_mode");
}

void check_numbers(const TrainConfig& c) {
  check_not_negative("train.learning_rate", c.learning_rate);
  check_not_negative("train.warmup_steps", static_cast<double>(c.warmup_steps));
  check_not_negative("train.hold_steps", static_cast<double>(c.hold_steps));
  check_not_negative("train.weight_decay", c.weight_decay);
  check_not_negative("train.clip", c.clip);
  check_not_negative("train.evidence_weight", c.evidence_weight);
  check_not_negative("run.max_minutes", c.max_minutes);
  check_not_negative("run.checkpoint_every", static_cast<double>(c.checkpoint_every));
  check_not_negative("run.checkpoint_minutes", c.checkpoint_minutes);
  check_not_negative("run.validate_every", static_cast<double>(c.validate_every));
  check_not_negative("run.peak_tflops", c.peak_tflops);
  check_not_negative("run.profile_steps", static_cast<double>(c.profile_steps));
  check_not_negative("run.profile_after", static_cast<double>(c.profile_after));
  check_not_negative("train.seed", static_cast<double>(c.seed));
  require(c.mask_chunks >= 0 && c.mask_chunks <= 1, "train.mask_chunks: expected 0 to 1, found {}", c.mask_chunks);
  require(c.final_fraction >= 0 && c.final_fraction <= 1, "train.final_fraction: expected 0 to 1, found {}",
          c.final_fraction);
  for (double beta : {c.beta1, c.beta2})
    require(beta >= 0 && beta < 1, "train.beta1, beta2: expected 0 to below 1, found {}", beta);
  require(c.epsilon > 0 && std::isfinite(c.epsilon), "train.epsilon: expected a number above 0, found {}", c.epsilon);
  // It is used as a float.
  require(c.ask_weight <= std::numeric_limits<float>::max() && static_cast<float>(c.ask_weight) > 0,
          "train.ask_weight: expected a number above 0 within the range of float32, found {}", c.ask_weight);
  require(c.rank_minutes > 0 && c.rank_minutes <= 1e6, "run.rank_minutes: expected a number above 0, found {}",
          c.rank_minutes);
  saved_weights_from_name(c.weights, "run.weights");
}

// Replaces a field by the configuration's value; the field's own value is the default.
class Reader {
 public:
  explicit Reader(Config& config) : config_(config) {}
  template <typename T>
  void operator()(const Setting& setting, T& field) const {
    if constexpr (std::is_enum_v<T>) {
      field = value_of_name<T>(setting.key, config_.get<std::string>(setting.key, name_in_list(field)));
    } else {
      field = config_.get<T>(setting.key, field);
    }
  }

 private:
  Config& config_;
};

// The value of every setting, in the order of the list.
std::vector<nlohmann::json> values_of(const TrainConfig& config) {
  std::vector<nlohmann::json> values;
  visit_settings(config, [&](const Setting&, const auto& field) { values.push_back(plain_value(field)); });
  return values;
}

}  // namespace

const char* name_of(Stage stage) { return name_in_list(stage); }
const char* name_of(Precision precision) { return name_in_list(precision); }

int64_t TrainConfig::max_context_tokens() const {
  if (!has_encoder()) return 0;
  return *std::max_element(context_chunks.begin(), context_chunks.end()) * chunk_length;
}

int64_t TrainConfig::plain_positions() const { return stage == Stage::mlm ? chunk_length : decoder_tokens; }

int64_t TrainConfig::span_tokens() const {
  if (stage == Stage::mlm) return chunk_length;
  return (stage == Stage::warmup ? 0 : max_context_tokens()) + decoder_tokens + 1;
}

int64_t TrainConfig::tokens_per_step() const {
  if (!has_encoder()) return batch * plain_positions();
  const int64_t chunks = std::accumulate(context_chunks.begin(), context_chunks.end(), int64_t{0});
  return batch * (chunks * chunk_length / static_cast<int64_t>(context_chunks.size()) + decoder_tokens);
}

CrossVariants TrainConfig::cross_variants(CrossVariants v) const {
  if (!cross_attention_at.empty()) v.layers = cross_attention_at;
  if (query_log_scale != 0) v.query_log_scale = query_log_scale, v.query_log_tokens = query_log_tokens;
  v.null_key = v.null_key || null_key;
  if (position_buckets != 0) v.position_buckets = position_buckets;
  if (pooling != 0) v.pooling = pooling;
  // Of parts with positions the states of a chunk stay what their biases were learnt for.
  if (v.position_buckets != 0 && (position_buckets != 0 || pooling != 0))
    v.position_states = pooled_length(v, chunk_length);
  return v;
}

TrainConfig read_train_config(Config& config) {
  TrainConfig c;
  visit_settings(c, Reader(config));
  config.refuse_unknown_keys();
  check_sizes(c);
  check_numbers(c);
  check_ask(c);
  check_distill(c);
  check_mlm(c);
  check_stage(c);
  return c;
}

std::string effective_settings(const TrainConfig& c) {
  Config config;  // writes what it was asked for
  visit_settings(c, [&](const Setting& setting, const auto& field) { config.get(setting.key, plain_value(field)); });
  return config.used_as_toml();
}

nlohmann::json training_identity(const TrainConfig& c) {
  const std::vector<nlohmann::json> values = values_of(c), defaults = values_of({});
  nlohmann::json identity = {{"model.parts", !c.parts.empty()}};
  if (!c.encoder.empty()) identity["model.encoder"] = true;  // which one, its hash says
  size_t i = 0;
  visit_settings(c, [&](const Setting& setting, const auto&) {
    const bool added = setting.resume == Setting::Resume::same_added;
    if (setting.resume == Setting::Resume::same || (added && values[i] != defaults[i]))
      identity[setting.key] = values[i];
    ++i;
  });
  // Weights of the concatenated mixture counted the starts of spans once, and count tokens now: a run that was begun
  // so cannot go on with the same samples. All other runs draw what they always drew.
  if (!c.domain_weights.empty() && c.concatenated > 0) identity[kWeightsMark] = "of tokens";
  // Numbers of chunks and masks were drawn for each micro-batch once, and are drawn for each sample now.
  if (c.context_chunks.size() > 1 || c.mask_chunks > 0) identity[kChunksMark] = "for each sample";
  return identity;
}

bool is_mark_of_draws(const std::string& key) { return key == kWeightsMark || key == kChunksMark; }

std::string differing_setting(const nlohmann::json& recorded, const nlohmann::json& now) {
  std::string mark;
  const auto differs = [&](const std::string& key) {
    if (is_mark_of_draws(key)) mark = key;
    return !is_mark_of_draws(key);
  };
  for (const auto& [key, value] : now.items()) {
    if (recorded.value(key, nlohmann::json()) != value && differs(key)) return key;
  }
  for (const auto& [key, value] : recorded.items()) {
    if (!now.contains(key) && key != "train.micro_batch" && differs(key)) return key;
  }
  return mark;
}

namespace {

// The keys that a stage does not read, whatever their values.
std::set<std::string> unread_settings(const TrainConfig& c) {
  std::set<std::string> unread;
  if (c.stage != Stage::distill)
    unread = {"train.lm_coefficient", "train.kl_coefficient", "train.kl", "train.kl_top", "train.kl_mode"};
  if (c.stage == Stage::distill || !c.has_encoder()) unread.insert("train.evidence_weight");
  if (c.stage != Stage::ask) unread.insert({"data.ask_share", "data.ask_weights", "train.ask_weight"});
  if (c.only_ask())
    unread.insert({"data.train", "data.domain_weights", "data.filtered", "data.concatenated", "train.mask_chunks",
                   "train.evidence_weight"});
  const std::set<std::string> sizes = {"mlm.hidden_size", "mlm.heads", "mlm.intermediate_size", "mlm.positions"};
  if (c.stage != Stage::mlm) unread.insert({"mlm.mask_share", "mlm.mask_token"});
  if (c.stage != Stage::mlm || !c.encoder.empty()) unread.insert(sizes.begin(), sizes.end());
  if (!c.encoder.empty() || !c.parts.empty()) unread.insert("model.encoder_layers");
  if (!c.cross_attention_at.empty()) unread.insert("model.cross_attention_layers");
  if (c.query_log_scale == 0) unread.insert("model.query_log_tokens");
  if (c.stage != Stage::window) unread.insert({"window.rope", "window.factor"});
  if (c.has_encoder()) return unread;
  unread.insert({"model.cross_attention_at", "model.query_log_scale", "model.null_key", "model.position_buckets",
                 "model.pooling"});
  unread.insert({"train.fp8_frozen", "model.cross_attention_layers", "model.zero_output", "model.base_name",
                 "data.ask_validation", "train.context_chunks", "train.mask_chunks"});
  if (c.stage == Stage::window) unread.insert({"model.encoder_layers", "train.chunk_length"});
  if (c.stage == Stage::mlm) unread.insert("train.decoder_tokens");
  if (c.stage == Stage::mlm && (c.mlm_hidden_size > 0 || !c.encoder.empty())) unread.insert("model.base");
  // A decoder's first layers have its sizes.
  if (c.stage == Stage::mlm && c.mlm_hidden_size == 0) unread.insert({"mlm.heads", "mlm.intermediate_size"});
  return unread;
}

}  // namespace

std::vector<std::string> idle_settings(const TrainConfig& c) {
  const std::set<std::string> unread = unread_settings(c);
  const std::vector<nlohmann::json> values = values_of(c), defaults = values_of({});
  std::vector<std::string> idle;
  size_t i = 0;
  visit_settings(c, [&](const Setting& setting, const auto&) {
    if (values[i] != defaults[i] && unread.contains(setting.key)) idle.push_back(setting.key);
    ++i;
  });
  return idle;
}

std::string settings_table() {
  const std::vector<nlohmann::json> defaults = values_of({});
  std::string table = "| key | default | meaning |\n|---|---|---|\n";
  size_t i = 0;
  const TrainConfig config;
  visit_settings(config, [&](const Setting& setting, const auto&) {
    table += fmt::format("| `{}` | `{}` | {} |\n", setting.key, defaults[i++].dump(), setting.meaning);
  });
  return table;
}

double learning_rate_at(const TrainConfig& c, int64_t step) {
  if (step < c.warmup_steps)
    return c.learning_rate * static_cast<double>(step + 1) / static_cast<double>(c.warmup_steps);
  const int64_t begin = c.warmup_steps + c.hold_steps;  // of the cosine
  const double length = static_cast<double>(std::max<int64_t>(1, c.steps - 1 - begin));
  const double progress = std::clamp(static_cast<double>(step - begin) / length, 0.0, 1.0);
  return c.learning_rate *
         (c.final_fraction + (1 - c.final_fraction) * 0.5 * (1 + std::cos(std::numbers::pi * progress)));
}

}  // namespace cepe
