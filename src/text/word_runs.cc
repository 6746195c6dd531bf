#include "text/word_runs.h"

#include <algorithm>
#include <functional>
#include <string>

#include "text/utf8.h"

namespace cepe {
namespace {

constexpr size_t kSharedWeight = 16;  // of a run

// A character of a script without spaces between words: such a text has no words to compare, but characters.
bool stands_alone(char32_t c) {
  constexpr std::pair<char32_t, char32_t> kRanges[] = {{0x0E00, 0x0EFF}, {0x1000, 0x109F}, {0x1780, 0x17FF},
                                                       {0x3040, 0x30FF}, {0x3400, 0x4DBF}, {0x4E00, 0x9FFF},
                                                       {0xF900, 0xFAFF}, {0xFF66, 0xFF9F}, {0x20000, 0x3FFFF}};
  return std::any_of(std::begin(kRanges), std::end(kRanges),
                     [c](const auto& range) { return range.first <= c && c <= range.second; });
}

}  // namespace

WordRuns::WordRuns(std::string_view text) {
  std::string word;
  const auto end_word = [&](size_t weight) {
    if (!word.empty()) words_.push_back({std::hash<std::string>{}(lower_case(word)), weight});
    word.clear();
  };
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    const bool alone = stands_alone(c.value);
    if (alone || !is_word_character(c.value)) end_word(2);
    if (is_word_character(c.value)) word += text.substr(at, c.size);
    if (alone) end_word(1);
    at += c.size;
  }
  end_word(2);
  for (size_t i = 0; i < words_.size(); ++i) {
    size_t hash = 0, weight = 0;
    for (size_t j = i; j < words_.size() && weight < kSharedWeight; ++j) {
      hash = hash * 1099511628211u + words_[j].first;
      weight += words_[j].second;
    }
    if (weight >= kSharedWeight) runs_.insert(hash);
  }
}

bool WordRuns::holds_part_of(const WordRuns& other) const {
  if (other.words_.empty()) return false;
  return std::any_of(other.runs_.begin(), other.runs_.end(), [&](size_t run) { return runs_.contains(run); }) ||
         std::search(words_.begin(), words_.end(), other.words_.begin(), other.words_.end()) != words_.end();
}

}  // namespace cepe
