// From text files (text/text_file.h) to token shards: `cepe data`. No torch here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "text/tokenizer/tokenizer.h"

namespace cepe {

struct TokenizeOptions {
  std::filesystem::path out;            // directory of the shards; created when absent
  std::string default_domain = "text";  // of documents that name none
  bool append_eos = false;              // end-of-text after each document; otherwise no special token is added
  int64_t threads = 0;                  // 0: one a processor
};
struct TokenizeSummary {
  std::filesystem::path shard;
  int64_t documents = 0, tokens = 0, text_bytes = 0;
  int64_t empty = 0;  // documents left out because their text was empty
};
// Where the shard of an input lies: books-00.jsonl.zst -> <out>/books-00.tokens. Error when the input is neither
// .jsonl nor .txt, plain, .zst or .gz.
std::filesystem::path shard_path(const std::filesystem::path& input, const TokenizeOptions& options);
// Tokenises one file into one shard, which is written atomically. A .txt file is one document, a .jsonl file one a
// line. "<|im_start|>" inside a document is plain text. Memory stays bounded: tens of megabytes and the longest
// document. Errors name file and line.
TokenizeSummary tokenize_file(const Tokenizer& tokenizer, const std::filesystem::path& input,
                              const TokenizeOptions& options);

}  // namespace cepe
