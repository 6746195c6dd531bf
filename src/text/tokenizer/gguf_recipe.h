// What the word in tokenizer.ggml.pre means: the parts of a byte-level BPE tokenizer that a GGUF file only names.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/tokenizer.h"

namespace cepe {

enum GgufTokenType : int32_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4 };

struct GgufRecipe {
  bool digits = false;                     // every digit by itself, before the patterns
  std::vector<std::string_view> patterns;  // each cuts what the one before it left; matches are pieces (isolated)
  bool nfc = false;
  bool ignore_merges = false;
  bool add_bos = false;  // where the file does not say
};

// Error naming `where` and the known words when `pre` is none of them.
GgufRecipe gguf_recipe(const std::string& pre, const std::string& where);

// Error when the parts of the vocabulary do not fit one another.
void check_gguf_vocabulary(const GgufVocabulary& vocabulary);

// Tokens of these types are found in a text before anything is cut.
inline bool is_added_token(int32_t type) { return type == kControl || type == kUserDefined || type == kUnknown; }

// What the tokenizer puts before and after a text when asked for its special tokens.
struct GgufEnds {
  std::vector<TokenId> prefix, suffix;
};
GgufEnds gguf_ends(const GgufVocabulary& vocabulary, const GgufRecipe& recipe);

}  // namespace cepe
