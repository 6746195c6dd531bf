// A model's tokenizer as files beside another model's weights.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "model/checkpoint/checkpoint.h"

namespace cepe {

struct TokenizerFiles {
  std::map<std::string, std::string> contents;  // by file name; empty: there is no tokenizer to write
  std::string said;                             // what became of it, for the user: "with its tokenizer"
  // Each atomically.
  void write(const std::filesystem::path& directory) const;
};

// Of an opened model, or of its base: of a directory its files, of a GGUF file's byte-level BPE Hugging Face's files.
// A SentencePiece vocabulary of a GGUF file has no such form. model_max_length is the decoder's window.
TokenizerFiles tokenizer_files(const OpenedModel& opened);

}  // namespace cepe
