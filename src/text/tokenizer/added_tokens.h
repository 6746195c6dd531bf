// Added tokens: texts that are one token wherever they stand, found before anything else is done to a text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/tokenizer.h"

namespace cepe {

struct AddedToken {
  TokenId id = 0;
  std::string content;
  bool special = false;      // a control token: not parsed when EncodeOptions says so, no text when decoded
  bool normalized = false;   // looked for in the normalized text
  bool single_word = false;  // not beside a letter, digit or "_"
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
};

// A part of a text: either one added token or text to be encoded.
struct TextPart {
  std::string_view text;
  TokenId token;  // -1: text
};

// Finds the leftmost, and of these the longest, of a set of tokens again and again.
class AddedTokenMatcher {
 public:
  AddedTokenMatcher() = default;
  // Each token is looked for as it is spelled in `content`.
  explicit AddedTokenMatcher(std::vector<AddedToken> tokens);

  bool empty() const { return tokens_.empty(); }
  // Cuts valid UTF-8 text into parts and appends them. Without parse_special, special tokens are text.
  void split(std::string_view text, bool parse_special, std::vector<TextPart>& parts) const;

 private:
  struct Node {  // of a trie: the children of a node are a list through `sibling`
    unsigned char byte = 0;
    int32_t token = -1, child = -1, sibling = -1;
  };
  void insert(std::string_view content, int32_t token);
  int32_t find_child(int32_t node, unsigned char byte) const;
  int32_t longest_match(std::string_view text, size_t at) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;
  std::vector<int32_t> roots_;  // by first byte
};

}  // namespace cepe
