// Everything a training run is told. What each field means, and its key in configs/*.toml, stands in
// train_settings.h, the one list of settings.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/config.h"
#include "model/cross_variants.h"
#include "model/layers.h"

namespace cepe {

enum class Stage { standard, warmup, distill, ask, mlm, window };
enum class Divergence { full, top };
enum class WindowRope { none, linear, yarn };
enum class Precision { automatic, float32, bfloat16 };
const char* name_of(Stage stage);
const char* name_of(Precision precision);

struct TrainConfig {
  // [model]
  std::string base, base_name, parts, encoder;
  int64_t encoder_layers = 8, cross_attention_layers = 15;
  bool zero_output = true;
  std::vector<int64_t> cross_attention_at;
  double query_log_scale = 0;
  int64_t query_log_tokens = 1024;
  bool null_key = false;
  int64_t position_buckets = 0, pooling = 0;

  // [data]
  std::vector<std::string> train, validation, domain_weights;
  double filtered = 1.0, concatenated = 0.0;
  std::vector<std::string> ask, ask_validation;
  double ask_share = 0.5;
  std::vector<std::string> ask_weights;

  // [train]
  Stage stage = Stage::standard;
  int64_t chunk_length = 256;
  std::vector<int64_t> context_chunks = {16};
  int64_t decoder_tokens = 1024;
  double mask_chunks = 0.0;
  int64_t batch = 16, micro_batch = 16, steps = 1000;
  double learning_rate = 5e-4;
  int64_t warmup_steps = 100, hold_steps = 0;
  double final_fraction = 0.05;
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0.0, clip = 1.0;
  double ask_weight = 1.0, evidence_weight = 0.0;
  double lm_coefficient = 1.0, kl_coefficient = 2.0;
  Divergence kl = Divergence::full;
  int64_t kl_top = 50;
  std::string kl_mode = "drop";
  int64_t seed = 1;
  Precision precision = Precision::automatic;
  bool fp8_frozen = false;
  Recompute recompute = Recompute::none;

  // [mlm]
  int64_t mlm_hidden_size = 0, mlm_heads = 16, mlm_intermediate_size = 4096, mlm_positions = 512;
  double mlm_mask_share = 0.3;
  int64_t mlm_mask_token = -1;

  // [window]
  WindowRope window_rope = WindowRope::linear;
  double window_factor = 1.0;

  // [run]
  double max_minutes = 0;
  int64_t checkpoint_every = 500;
  double checkpoint_minutes = 0;
  int64_t stop_after_not_finite = 20;
  double rank_minutes = 30;
  int64_t keep_checkpoints = 2, validate_every = 0, validation_samples = 64;
  double peak_tflops = 0;
  int64_t profile_steps = 0, profile_after = 20;
  std::string weights = "bf16";

  bool only_ask() const { return stage == Stage::ask && ask_share == 1; }  // no plain samples
  // `from` with the variants of cross-attention that are set.
  CrossVariants cross_variants(CrossVariants from) const;
  // The stage trains encoder and cross-attention; else it trains the encoder or the decoder alone.
  bool has_encoder() const { return stage != Stage::mlm && stage != Stage::window; }
  int64_t max_context_tokens() const;  // of a plain sample; 0 in stages mlm and window
  int64_t plain_positions() const;     // that are predicted of a plain sample; in stage mlm the piece's
  int64_t span_tokens() const;         // tokens of a plain sample, the last label included
  int64_t tokens_per_step() const;     // context and decoder, at the mean number of chunks; plain samples alone
};

// Reads every key of train_settings.h ("model.base", "train.steps", ...), refuses unknown ones and values that make no
// sense.
TrainConfig read_train_config(Config& config);

// Every setting with its value, as TOML: read again, it gives the same configuration.
std::string effective_settings(const TrainConfig& config);

// The settings that a resumed run must share with its checkpoint, by key: those that decide what is learnt. A key that
// came later is left out at its default, so that earlier checkpoints go on. Where draws came to mean something else, a
// further key keeps a run that was begun with the old ones from going on.
nlohmann::json training_identity(const TrainConfig& config);
bool is_mark_of_draws(const std::string& key);  // such a further key, which is no setting
// The first key in which two identities differ, except those that no longer decide anything; empty: none. A mark of
// draws only where all settings agree.
std::string differing_setting(const nlohmann::json& recorded, const nlohmann::json& now);

// The keys of settings that are not at their defaults and that the run's stage does not read.
std::vector<std::string> idle_settings(const TrainConfig& config);

// The table of all settings in docs/training.md: key, default, meaning.
std::string settings_table();

// Learning rate of a step (from 0): linear warm-up, hold_steps at the peak, then half a cosine down to final_fraction
// at the last step.
double learning_rate_at(const TrainConfig& config, int64_t step);

}  // namespace cepe
