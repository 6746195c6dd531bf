// Small shards of samples for the tests of training.
#pragma once

#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "data/shards.h"

namespace cepe {

struct PlannedSample {
  std::vector<int64_t> chunks;                     // lengths
  std::vector<std::pair<int64_t, float>> decoder;  // length and weight of each segment
  std::string domain = "needle";
};

inline std::vector<SamplePiece> pieces_of(const PlannedSample& plan) {
  std::vector<SamplePiece> pieces;
  for (int64_t length : plan.chunks) pieces.push_back({length, true, 0});
  for (const auto& [length, weight] : plan.decoder) pieces.push_back({length, false, weight});
  return pieces;
}

// Token t of sample i is (11 i + 3 t) % vocabulary.
inline void write_samples(const std::filesystem::path& path, const std::vector<PlannedSample>& plans,
                          int64_t vocabulary = 128) {
  ShardWriter writer(path, {vocabulary, 0}, ShardKind::samples);
  for (size_t i = 0; i < plans.size(); ++i) {
    std::vector<TokenId> tokens;
    for (const SamplePiece& piece : pieces_of(plans[i])) {
      for (int64_t t = 0; t < piece.length; ++t)
        tokens.push_back(static_cast<TokenId>((11 * i + 3 * tokens.size()) % static_cast<size_t>(vocabulary)));
    }
    writer.add_sample(tokens, pieces_of(plans[i]), plans[i].domain);
  }
  writer.commit();
}

// Samples of 0 to 5 chunks of up to 8 tokens, with a question of 1 to 12 tokens and an answer of 1 to 4 and two
// weights.
inline std::vector<PlannedSample> planned_samples(size_t count) {
  std::mt19937 random(3);
  const auto below = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  std::vector<PlannedSample> plans(count);
  for (size_t i = 0; i < count; ++i) {
    for (int64_t c = below(6); c > 0; --c) plans[i].chunks.push_back(1 + below(8));
    plans[i].decoder = {{1 + below(12), 0.0f}, {1 + below(4), 1.0f}, {1, 0.25f}};
    plans[i].domain = i % 3 == 0 ? "chain" : "needle";
  }
  return plans;
}

}  // namespace cepe
