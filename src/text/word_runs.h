// Whether two texts share long runs of words: then one is no help for reading the other, but its answer.
#pragma once

#include <cstddef>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

namespace cepe {

// A text for comparing: its words in lower case without punctuation, as hashes. In scripts without spaces (Chinese,
// Japanese, Thai and others) each character is a word of half the weight: a run is of eight words or sixteen
// characters.
class WordRuns {
 public:
  WordRuns() = default;
  explicit WordRuns(std::string_view text);  // valid UTF-8

  // Whether they share a run of eight words or sixteen characters, or the other one as a whole, however short.
  bool holds_part_of(const WordRuns& other) const;

 private:
  std::vector<std::pair<size_t, size_t>> words_;  // hash and weight: 2, or 1 for a character that stands alone
  std::unordered_set<size_t> runs_;
};

}  // namespace cepe
