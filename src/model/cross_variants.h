// Departures of cross-attention from the published one. All are off by default; what each is worth is an ablation's
// matter (docs/cross-attention.md, "Variants"). Trained parts record them in config.json.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace cepe {

struct CrossVariants {
  // The decoder layers with cross-attention, from 0, ascending. Empty: the last CepeConfig::num_cross_attn_layers.
  std::vector<int64_t> layers;
  // Queries on a context of n states are multiplied by query_factor(). 0: by 1. Log-n scaling (Chiang & Cholak 2022,
  // arXiv 2202.12172; scalable softmax, Nakanishi 2025, arXiv 2501.19399) in a form that leaves short contexts alone.
  double query_log_scale = 0;
  int64_t query_log_tokens = 1024;
  // A learnt key for each key-value head, cross_attn.null_key, whose value is zero: what attends to it reads nothing.
  // Its score is q . key, without 1 / sqrt(K), so that it is learnt at the rate of other weights.
  bool null_key = false;
  // Key k of a state becomes k + b, b being one of so many learnt vectors of a layer (cross_attn.position_keys), chosen
  // by how far the state is from the context's end (position_bucket). 0: none. States stay free of positions.
  int64_t position_buckets = 0;
  int64_t position_states = 256;  // of a step of that distance: a whole chunk's
  // So many neighbouring states of a chunk become their mean, the last ones of a chunk fewer. 1: none do.
  int64_t pooling = 1;

  bool operator==(const CrossVariants&) const = default;
  // Scores are more than q . k of the states: the forms on latents and on kept keys and values do not compute them.
  bool only_materialised() const { return null_key || position_buckets > 0; }
};

// 1 + query_log_scale * ln(n / query_log_tokens) beyond query_log_tokens states, else 1.
double query_factor(const CrossVariants& variants, int64_t states);
// The distances that position buckets tell apart, in steps: beyond, all is one bucket.
constexpr int64_t kMostPositionSteps = 512;
// Powers fall a hair short of the whole number that is meant, on one device or another.
constexpr double kRoundingSlack = 1e-9;
// Of a state so many steps from the end: the first half of the buckets are a step each, the others grow geometrically
// to kMostPositionSteps (as T5's relative positions, Raffel et al. 2020).
int64_t position_bucket(const CrossVariants& variants, int64_t steps);
// The states of a chunk of so many tokens.
inline int64_t pooled_length(const CrossVariants& variants, int64_t tokens) {
  return (tokens + variants.pooling - 1) / variants.pooling;
}

// The object "cross_attention" of a config.json. Reading refuses unknown fields.
nlohmann::json cross_variants_to_json(const CrossVariants& variants);
CrossVariants cross_variants_from_json(const nlohmann::json& json, const std::string& where);
// Error naming `where` on values that make no sense for a decoder of so many layers.
void check_cross_variants(const CrossVariants& variants, int64_t decoder_layers, const std::string& where);

}  // namespace cepe
