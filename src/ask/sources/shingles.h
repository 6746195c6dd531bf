// Overlap of texts: runs of eight words ("shingles"; Broder 1997, "On the resemblance and containment of documents").
#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace cepe {

class ShingleSet {
 public:
  static constexpr size_t kWords = 8;

  void add(std::string_view text);
  // How many runs of eight words the text shares with the texts that were added; each place of the text counts.
  int64_t shared(std::string_view text) const;
  bool empty() const { return hashes_.empty(); }
  size_t size() const { return hashes_.size(); }

 private:
  std::unordered_set<uint64_t> hashes_;
};

// The hash of each run of eight words, in order. Words are word_hashes.h's. A text of fewer words has one shingle where
// it has at least four, of all of them.
std::vector<uint64_t> shingle_hashes(std::string_view text);

}  // namespace cepe
