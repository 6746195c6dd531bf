// The BPE tokenizer, put together from its parts. The loaders of tokenizer.json and of GGUF vocabularies fill
// BpeParts; everything after that is common to them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "text/tokenizer/added_tokens.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/detokenizer.h"
#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/pretokenizer.h"
#include "text/tokenizer/tokenizer.h"

namespace cepe {

struct BpeParts {
  BpeData data;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::vector<AddedToken> added_tokens;  // an id may be inside the vocabulary (same spelling) or beyond it
  std::vector<TokenId> prefix, suffix;   // what EncodeOptions::add_special_tokens puts around a text
  std::optional<TokenId> bos, eos;
  DetokenizerStyle decoding;
  // Of tokens that always decode to something other than their spelling (SentencePiece's unknown token).
  std::unordered_map<TokenId, std::string> decoded_texts;
  std::string kind = "byte-level BPE";  // for describe()
  std::string source;                   // "tokenizer.json", "GGUF": for describe()
  std::string where;                    // the file, for messages
};

// Throws Error when the parts do not fit one another.
std::unique_ptr<Tokenizer> make_bpe_tokenizer(BpeParts parts);

}  // namespace cepe
