// The SentencePiece model file: a protocol buffer, of which only these few fields are needed here.
// (https://github.com/google/sentencepiece, src/sentencepiece_model.proto)
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/tokenizer.h"

namespace cepe {

struct SentencePieceModel {
  enum Type { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };
  struct Piece {
    std::string text;
    float score = 0;
    int type = normal;
  };
  std::vector<Piece> pieces;  // by id
  // The rest is initialised to the protocol buffer's defaults.
  bool bpe = false;              // TrainerSpec.model_type
  bool byte_fallback = false;    // TrainerSpec
  bool space_as_suffix = false;  // TrainerSpec.treat_whitespace_as_suffix
  bool normalizes = false;       // NormalizerSpec.precompiled_charsmap is not empty
  bool dummy_prefix = true;      // NormalizerSpec.add_dummy_prefix: a space is put before the text
  bool remove_extra = true;      // NormalizerSpec.remove_extra_whitespaces
  bool escape_spaces = true;     // NormalizerSpec.escape_whitespaces: a space becomes U+2581
};

// Throws Error naming `where` when the bytes are not such a message.
SentencePieceModel parse_sentencepiece_model(std::string_view serialized, const std::string& where);

// The same model, which puts no space before a text.
std::string without_dummy_prefix(std::string serialized);

// A BPE model with byte fallback and no normalization, as the Llama family's, from a GGUF file's "llama" vocabulary.
std::string sentencepiece_model(const GgufVocabulary& vocabulary);

}  // namespace cepe
