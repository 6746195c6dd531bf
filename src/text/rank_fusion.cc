#include "text/rank_fusion.h"

#include <algorithm>
#include <map>

namespace cepe {

std::vector<std::pair<int64_t, double>> fuse_rankings(const std::vector<std::vector<int64_t>>& rankings) {
  constexpr double kConstant = 60;
  std::map<int64_t, double> scores;
  for (const std::vector<int64_t>& ranking : rankings) {
    for (size_t i = 0; i < ranking.size(); ++i) scores[ranking[i]] += 1 / (kConstant + static_cast<double>(i + 1));
  }
  std::vector<std::pair<int64_t, double>> fused(scores.begin(), scores.end());
  std::stable_sort(fused.begin(), fused.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  return fused;
}

}  // namespace cepe
