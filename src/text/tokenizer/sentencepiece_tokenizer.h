// SentencePiece tokenizers, run by libsentencepiece itself.
#pragma once

#include <memory>

#include "text/tokenizer/tokenizer.h"

namespace cepe {

// The "llama" vocabulary of a GGUF file, already checked for sizes and UTF-8.
std::unique_ptr<Tokenizer> make_gguf_sentencepiece(GgufVocabulary vocabulary);

}  // namespace cepe
