// Words already encoded: most of a text consists of words seen before.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/tokenizer.h"

namespace cepe {

// A hash table from short words to their tokens; emptied as a whole when it is full. Not thread-safe.
class WordCache {
 public:
  static constexpr size_t kLongestWord = 64;  // bytes; longer words are rare, and mostly unique

  WordCache() : slots_(kSlots) {}

  // The tokens of a word put here before; nullptr data when it is not there. Valid until the next put().
  std::span<const TokenId> find(std::string_view word, uint64_t hash) const {
    for (size_t at = hash & (kSlots - 1);; at = (at + 1) & (kSlots - 1)) {
      const Slot& slot = slots_[at];
      if (slot.size == 0) return {};
      if (slot.hash == hash && slot.size == word.size() &&
          std::memcmp(bytes_.data() + slot.bytes, word.data(), word.size()) == 0) {
        return {ids_.data() + slot.ids, slot.count};
      }
    }
  }

  // The word must not be empty nor longer than kLongestWord, and have at least one token.
  void put(std::string_view word, uint64_t hash, std::span<const TokenId> ids) {
    if (used_ >= kSlots / 2) clear();
    size_t at = hash & (kSlots - 1);
    while (slots_[at].size != 0) at = (at + 1) & (kSlots - 1);
    slots_[at] = {hash, static_cast<uint32_t>(bytes_.size()), static_cast<uint32_t>(ids_.size()),
                  static_cast<uint16_t>(word.size()), static_cast<uint16_t>(ids.size())};
    bytes_.append(word);
    ids_.insert(ids_.end(), ids.begin(), ids.end());
    ++used_;
  }

  static uint64_t hash(std::string_view word) { return std::hash<std::string_view>()(word); }

 private:
  static constexpr size_t kSlots = size_t{1} << 17;
  struct Slot {
    uint64_t hash = 0;
    uint32_t bytes = 0, ids = 0;   // where they begin
    uint16_t size = 0, count = 0;  // size 0: free
  };
  void clear() {
    slots_.assign(kSlots, {});
    bytes_.clear();
    ids_.clear();
    used_ = 0;
  }

  std::vector<Slot> slots_;
  std::string bytes_;
  std::vector<TokenId> ids_;
  size_t used_ = 0;
};

}  // namespace cepe
