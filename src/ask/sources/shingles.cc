#include "ask/sources/shingles.h"

#include <algorithm>

#include "base/random.h"
#include "text/word_hashes.h"

namespace cepe {
std::vector<uint64_t> shingle_hashes(std::string_view text) {
  constexpr size_t kLeast = 4;
  const std::vector<uint64_t> words = word_hashes(text);
  std::vector<uint64_t> shingles;
  if (words.size() < kLeast) return shingles;
  const size_t length = std::min(words.size(), ShingleSet::kWords);
  for (size_t first = 0; first + length <= words.size(); ++first) {
    uint64_t hash = length;
    for (size_t i = 0; i < length; ++i) hash = splitmix64_mix(hash ^ words[first + i]) + kSplitMix64Step;
    shingles.push_back(hash);
  }
  return shingles;
}

void ShingleSet::add(std::string_view text) {
  for (const uint64_t hash : shingle_hashes(text)) hashes_.insert(hash);
}

int64_t ShingleSet::shared(std::string_view text) const {
  if (hashes_.empty()) return 0;
  int64_t count = 0;
  for (const uint64_t hash : shingle_hashes(text)) count += hashes_.contains(hash) ? 1 : 0;
  return count;
}

}  // namespace cepe
