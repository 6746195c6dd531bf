#include "ask/random.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace cepe {

int64_t AskRandom::log_between(int64_t least, int64_t most) {
  if (most <= least) return least;
  const double low = std::log(static_cast<double>(least)), high = std::log(static_cast<double>(most) + 1);
  return std::clamp(static_cast<int64_t>(std::exp(low + random_.uniform() * (high - low))), least, most);
}

size_t AskRandom::weighted(const std::vector<double>& weights) {
  double left = random_.uniform() * std::accumulate(weights.begin(), weights.end(), 0.0);
  size_t last = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] <= 0) continue;
    last = i;
    if (left < weights[i]) break;
    left -= weights[i];
  }
  return last;
}

std::vector<size_t> AskRandom::distinct(size_t count, size_t n) {
  std::vector<size_t> all(n);
  std::iota(all.begin(), all.end(), size_t{0});
  count = std::min(count, n);
  for (size_t i = 0; i < count; ++i)
    std::swap(all[i], all[i + static_cast<size_t>(below(static_cast<int64_t>(n - i)))]);
  all.resize(count);
  return all;
}

}  // namespace cepe
