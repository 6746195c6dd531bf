#include "base/nearest.h"

#include <algorithm>
#include <cctype>
#include <utility>

namespace cepe {
namespace {

std::string folded(std::string_view word) {
  word.remove_prefix(std::min(word.find_first_not_of('-'), word.size()));
  std::string out;
  for (const unsigned char c : word) out += c == '_' ? '-' : static_cast<char>(std::tolower(c));
  return out;
}

// Rows of the table of distances between prefixes: two rows back suffice for swaps of neighbours.
size_t distance(const std::string& a, const std::string& b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    before = std::exchange(last, row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row[b.size()];
}

}  // namespace

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  const std::string meant = folded(word);
  std::string best;
  size_t best_distance = std::max<size_t>(1, meant.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const std::string name = folded(candidate);
    size_t found = distance(meant, name);
    if (meant.size() > 1 && name.starts_with(meant)) found = std::min<size_t>(found, 1);
    if (found >= best_distance) continue;
    best = candidate;
    best_distance = found;
  }
  return best;
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates) {
  const std::string best = nearest(word, candidates);
  return best.empty() ? "" : "; did you mean " + best + "?";
}

}  // namespace cepe
