#include "train/train_config.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "base/error.h"
#include "model/checkpoint/checkpoint.h"

namespace cepe {
namespace {

void check_positive(const char* key, int64_t value) {
  require(value > 0, "{}: expected at least 1, found {}", key, value);
}
void check_not_negative(const char* key, double value) {
  require(std::isfinite(value) && value >= 0, "{}: expected a number of at least 0, found {}", key, value);
}

void check_sizes(const TrainConfig& c) {
  require(!c.base.empty(), "model.base: not given: the decoder to train for, a path or a name");
  require(!c.train.empty(), "data.train: no token shards given: make them with `cepe data`");
  require(c.stage == "standard" || c.stage == "warmup", "train.stage: expected standard or warmup, found \"{}\"",
          c.stage);
  check_positive("model.encoder_layers", c.encoder_layers);
  check_positive("model.cross_attention_layers", c.cross_attention_layers);
  check_positive("train.chunk_length", c.chunk_length);
  check_positive("train.decoder_tokens", c.decoder_tokens);
  check_positive("train.batch", c.batch);
  check_positive("train.micro_batch", c.micro_batch);
  check_positive("train.steps", c.steps);
  check_positive("run.keep_checkpoints", c.keep_checkpoints);
  check_positive("run.validation_samples", c.validation_samples);
  require(c.batch % c.micro_batch == 0,
          "train.batch: {} samples cannot be cut into micro-batches of {} (train.micro_batch)", c.batch, c.micro_batch);
  require(!c.context_chunks.empty(), "train.context_chunks: an empty list");
  for (int64_t chunks : c.context_chunks) check_positive("train.context_chunks", chunks);
  // Far above any use; keeps every product of sizes below 2^63.
  for (int64_t value : {c.chunk_length, c.max_context_tokens(), c.decoder_tokens, c.batch, c.steps}) {
    require(value <= int64_t{1} << 31, "train: a size of {} is too large", value);
  }
  if (c.stage == "warmup") {
    require(c.context_chunks.size() == 1 && c.max_context_tokens() == c.decoder_tokens,
            "train.stage warmup: encoder and decoder read the same tokens: {} chunks of {} are not decoder_tokens = {}",
            c.context_chunks[0], c.chunk_length, c.decoder_tokens);
  }
}

void check_numbers(const TrainConfig& c) {
  check_not_negative("train.learning_rate", c.learning_rate);
  check_not_negative("train.warmup_steps", static_cast<double>(c.warmup_steps));
  check_not_negative("train.weight_decay", c.weight_decay);
  check_not_negative("train.clip", c.clip);
  check_not_negative("run.max_minutes", c.max_minutes);
  check_not_negative("run.checkpoint_every", static_cast<double>(c.checkpoint_every));
  check_not_negative("run.validate_every", static_cast<double>(c.validate_every));
  check_not_negative("run.peak_tflops", c.peak_tflops);
  check_not_negative("train.seed", static_cast<double>(c.seed));
  require(c.mask_chunks >= 0 && c.mask_chunks <= 1, "train.mask_chunks: expected 0 to 1, found {}", c.mask_chunks);
  require(c.final_fraction >= 0 && c.final_fraction <= 1, "train.final_fraction: expected 0 to 1, found {}",
          c.final_fraction);
  for (double beta : {c.beta1, c.beta2})
    require(beta >= 0 && beta < 1, "train.beta1, beta2: expected 0 to below 1, found {}", beta);
  require(c.epsilon > 0 && std::isfinite(c.epsilon), "train.epsilon: expected a number above 0, found {}", c.epsilon);
  require(c.precision == "auto" || c.precision == "float32" || c.precision == "bfloat16",
          "train.precision: expected auto, float32 or bfloat16, found \"{}\"", c.precision);
  saved_weights_from_name(c.weights, "run.weights");
}

// Replaces each field by the configuration's value; the field's own value is the default.
class Reader {
 public:
  Reader(Config& config, std::string section) : config_(config), section_(std::move(section)) {}
  template <typename T>
  Reader& operator()(const char* key, T& field) {
    field = config_.get<T>(section_ + "." + key, field);
    return *this;
  }

 private:
  Config& config_;
  std::string section_;
};

}  // namespace

int64_t TrainConfig::max_context_tokens() const {
  return *std::max_element(context_chunks.begin(), context_chunks.end()) * chunk_length;
}

int64_t TrainConfig::span_tokens() const { return (stage == "warmup" ? 0 : max_context_tokens()) + decoder_tokens + 1; }

int64_t TrainConfig::tokens_per_step() const {
  const int64_t chunks = std::accumulate(context_chunks.begin(), context_chunks.end(), int64_t{0});
  return batch * (chunks * chunk_length / static_cast<int64_t>(context_chunks.size()) + decoder_tokens);
}

TrainConfig read_train_config(Config& config) {
  TrainConfig c;
  Reader(config, "model")("base", c.base)("base_name", c.base_name)("parts", c.parts)(
      "encoder_layers", c.encoder_layers)("cross_attention_layers", c.cross_attention_layers)("zero_output",
                                                                                              c.zero_output);
  Reader(config, "data")("train", c.train)("validation", c.validation)("domain_weights", c.domain_weights)(
      "filtered", c.filtered)("concatenated", c.concatenated);
  Reader(config, "train")("stage", c.stage)("chunk_length", c.chunk_length)("context_chunks", c.context_chunks)(
      "decoder_tokens", c.decoder_tokens)("mask_chunks", c.mask_chunks)("batch", c.batch)("micro_batch", c.micro_batch)(
      "steps", c.steps)("learning_rate", c.learning_rate)("warmup_steps", c.warmup_steps)(
      "final_fraction", c.final_fraction)("beta1", c.beta1)("beta2", c.beta2)("epsilon", c.epsilon)(
      "weight_decay", c.weight_decay)("clip", c.clip)("seed", c.seed)("precision", c.precision);
  Reader(config, "run")("max_minutes", c.max_minutes)("checkpoint_every", c.checkpoint_every)(
      "keep_checkpoints", c.keep_checkpoints)("validate_every", c.validate_every)(
      "validation_samples", c.validation_samples)("peak_tflops", c.peak_tflops)("weights", c.weights);
  config.refuse_unknown_keys();
  check_sizes(c);
  check_numbers(c);
  return c;
}

nlohmann::json training_identity(const TrainConfig& c) {
  nlohmann::json identity = {{"model.parts", !c.parts.empty()},
                             {"model.encoder_layers", c.encoder_layers},
                             {"model.cross_attention_layers", c.cross_attention_layers},
                             {"model.zero_output", c.zero_output},
                             {"data.domain_weights", c.domain_weights},
                             {"data.filtered", c.filtered},
                             {"data.concatenated", c.concatenated},
                             {"train.stage", c.stage},
                             {"train.chunk_length", c.chunk_length},
                             {"train.context_chunks", c.context_chunks},
                             {"train.decoder_tokens", c.decoder_tokens},
                             {"train.mask_chunks", c.mask_chunks},
                             {"train.batch", c.batch},
                             {"train.micro_batch", c.micro_batch},
                             {"train.steps", c.steps},
                             {"train.learning_rate", c.learning_rate},
                             {"train.warmup_steps", c.warmup_steps},
                             {"train.final_fraction", c.final_fraction},
                             {"train.beta1", c.beta1},
                             {"train.beta2", c.beta2},
                             {"train.epsilon", c.epsilon},
                             {"train.weight_decay", c.weight_decay},
                             {"train.clip", c.clip},
                             {"train.seed", c.seed},
                             {"train.precision", c.precision}};
  // Weights of the concatenated mixture counted the starts of spans once, and count tokens now: a run that was begun
  // so cannot go on with the same samples. All other runs draw what they always drew.
  if (!c.domain_weights.empty() && c.concatenated > 0) identity["data.concatenated_weights"] = "of tokens";
  return identity;
}

double learning_rate_at(const TrainConfig& c, int64_t step) {
  if (step < c.warmup_steps)
    return c.learning_rate * static_cast<double>(step + 1) / static_cast<double>(c.warmup_steps);
  const double length = static_cast<double>(std::max<int64_t>(1, c.steps - 1 - c.warmup_steps));
  const double progress = std::min(1.0, static_cast<double>(step - c.warmup_steps) / length);
  return c.learning_rate *
         (c.final_fraction + (1 - c.final_fraction) * 0.5 * (1 + std::cos(std::numbers::pi * progress)));
}

}  // namespace cepe
