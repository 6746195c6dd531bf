// The BPE tokenizer, put together from its parts. The loaders of tokenizer.json and of GGUF vocabularies fill
// BpeParts; everything after that is common to them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/normalizer.h"
#include "text/pretokenizer.h"
#include "text/tokenizer.h"

namespace cepe {

// From the spellings of tokens back to text.
struct BpeDecoding {
  enum class Kind {
    byte_level,  // the GPT-2 alphabet of bytes
    metaspace,   // `space` stands for a space; "<0x..>" tokens are bytes
  } kind = Kind::byte_level;
  std::string space = "\xE2\x96\x81";  // U+2581
  // Of a metaspace text: drop one leading space of the whole text.
  bool strip_leading_space = false;
};

struct BpeParts {
  BpeData data;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::vector<AddedToken> added_tokens;   // an id may be inside the vocabulary (same spelling) or beyond it
  std::vector<TokenId> prefix, suffix;    // what EncodeOptions::add_special_tokens puts around a text
  std::optional<TokenId> bos, eos;
  BpeDecoding decoding;
  std::string source;                     // "tokenizer.json", "GGUF": for describe()
  std::string where;                      // the file, for messages
};

// Throws Error when the parts do not fit one another.
std::unique_ptr<Tokenizer> make_bpe_tokenizer(BpeParts parts);

}  // namespace cepe
