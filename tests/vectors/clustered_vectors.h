// Vectors of length 1 around centres, as embeddings lie, and what brute force finds among them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <set>
#include <vector>

namespace cepe {

inline std::vector<float> clustered_vectors(int64_t count, int64_t width, unsigned seed, int64_t centres = 40) {
  std::mt19937 centre_random(7), random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> middle(static_cast<size_t>(centres * width)), all(static_cast<size_t>(count * width));
  for (float& x : middle) x = normal(centre_random);
  for (int64_t v = 0; v < count; ++v) {
    const auto centre = static_cast<int64_t>(random() % static_cast<unsigned>(centres));
    float* vector = all.data() + v * width;
    float length = 0;
    for (int64_t d = 0; d < width; ++d) {
      vector[d] = middle[static_cast<size_t>(centre * width + d)] + normal(random);
      length += vector[d] * vector[d];
    }
    for (int64_t d = 0; d < width; ++d) vector[d] /= std::sqrt(length);
  }
  return all;
}

inline double product(const float* a, const float* b, int64_t width) {
  double sum = 0;
  for (int64_t d = 0; d < width; ++d) sum += double{a[d]} * b[d];
  return sum;
}

// The rows with the highest products, best first; those of `without` are left out.
inline std::vector<int64_t> brute_force(const std::vector<float>& all, int64_t width, const float* query, size_t count,
                                        const std::set<int64_t>& without = {}) {
  std::vector<std::pair<double, int64_t>> scores;
  for (int64_t row = 0; row < static_cast<int64_t>(all.size()) / width; ++row) {
    if (!without.contains(row)) scores.push_back({-product(query, all.data() + row * width, width), row});
  }
  count = std::min(count, scores.size());
  std::partial_sort(scores.begin(), scores.begin() + static_cast<int64_t>(count), scores.end());
  std::vector<int64_t> best;
  for (size_t i = 0; i < count; ++i) best.push_back(scores[i].second);
  return best;
}

}  // namespace cepe
