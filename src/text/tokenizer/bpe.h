// Byte-pair encoding of one word: the vocabulary, the merges and the loop that applies them.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/tokenizer/tokenizer.h"

namespace cepe {

// The GPT-2 alphabet of bytes: each byte is spelled as one printable character, so that a token is text.
std::string_view byte_spelling(unsigned char byte);
// The bytes that a token of this alphabet spells; nullopt when it holds another character.
std::optional<std::string> bytes_of_spelling(std::string_view token);
// "<0x0A>" -> 0x0A: the spelling of a byte token in SentencePiece vocabularies.
std::optional<unsigned char> byte_of_fallback_token(std::string_view token);

struct BpeData {
  std::vector<std::pair<std::string, TokenId>> vocabulary;  // ids >= 0, each once; tokens each once
  std::vector<std::pair<std::string, std::string>> merges;  // by rank, unless `ranks` gives it
  std::vector<int32_t> ranks;                               // of the merges, lower first; may be equal
  bool byte_level = true;                    // words are bytes in the GPT-2 alphabet; otherwise Unicode characters
  bool ignore_merges = false;                // a word that is in the vocabulary is that token
  bool byte_fallback = false;                // a character outside the vocabulary becomes its bytes' "<0x..>" tokens
  bool fuse_unknown = false;                 // neighbouring unknown characters give one unknown token
  std::optional<std::string> unknown_token;  // none: unknown characters give no token
};

// Where words are encoded; one a thread at a time.
struct BpeScratch {
  struct Symbol {
    TokenId id;
    int32_t previous, next;  // -1: none
  };
  struct Candidate {  // of a merge
    int32_t rank, position;
    TokenId merged;
    bool operator>(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : position > other.position;
    }
  };
  std::vector<TokenId> ids;
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
};

// Immutable and thread-safe.
class BpeModel {
 public:
  // `where` names the file for messages. Throws Error for merges that do not fit the vocabulary.
  BpeModel(BpeData data, const std::string& where);
  BpeModel(BpeModel&&) = default;

  // Appends the tokens of a word (raw UTF-8, whatever the alphabet).
  void encode(std::string_view word, BpeScratch& scratch, std::vector<TokenId>& out) const;

  std::optional<TokenId> find(std::string_view token) const;
  const std::vector<std::string>& tokens() const { return tokens_; }  // by id; empty where an id is not used
  // Whether a word may be encoded in sections that each begin with U+2581 after another character: no merge ever
  // reaches over such a place. Holds for the vocabularies of the Llama family, whose words are whole texts.
  bool cuts_at_space() const { return cuts_at_space_; }

 private:
  struct Merge {
    uint64_t pair = kNoPair;
    int32_t rank = 0;
    TokenId merged = 0;
  };
  static constexpr uint64_t kNoPair = ~uint64_t{0};
  struct StringHash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };

  void add_merges(const BpeData& data, const std::string& where);
  const Merge* find_merge(TokenId left, TokenId right) const;
  size_t slot_of(uint64_t pair) const { return pair * 0x9E3779B97F4A7C15ULL >> shift_; }
  void to_symbols(std::string_view word, std::vector<TokenId>& ids) const;
  void unknown(std::string_view character, int& waiting, std::vector<TokenId>& ids) const;
  void merge_short(std::vector<TokenId>& ids) const;
  void merge_long(BpeScratch& scratch) const;

  std::vector<std::string> tokens_;
  std::unordered_map<std::string_view, TokenId> ids_;                                  // views into tokens_
  std::unordered_map<std::string, TokenId, StringHash, std::equal_to<>> whole_words_;  // raw text, for ignore_merges
  std::array<TokenId, 256> byte_ids_;                                                  // -1: not in the vocabulary
  std::array<TokenId, 256> fallback_ids_;
  std::vector<Merge> merges_;  // an open hash table, its size a power of two
  int shift_ = 63;
  bool byte_level_, ignore_merges_, byte_fallback_, fuse_unknown_;
  TokenId unknown_id_ = -1;
  bool cuts_at_space_ = false;
};

// The end of the section that begins at `begin`: the next U+2581 after another character, or the text's end.
size_t section_end(std::string_view text, size_t begin);

}  // namespace cepe
