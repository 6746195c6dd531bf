// From text files to token shards: `cepe data`. No torch here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "text/tokenizer.h"

namespace cepe {

// The lines of a text file, plain or compressed by zstd (.zst), streamed: memory holds one line and a small buffer.
// zstd windows of up to 2^31 bytes are accepted (files written with `zstd --long=31`).
class CorpusLines {
 public:
  explicit CorpusLines(const std::filesystem::path& path);
  ~CorpusLines();
  // The next line without its end; false at the end of the file. Throws Error on a cut or broken zstd stream and on
  // a line of more than 1 GiB.
  bool next(std::string& line);
  int64_t line_number() const { return line_number_; }  // of the line that next() gave last, from 1
  std::string rest();                                   // everything that has not been read yet

 private:
  class Source;
  bool fill();
  std::filesystem::path path_;
  std::unique_ptr<Source> source_;
  std::string buffer_;
  size_t used_ = 0;
  int64_t line_number_ = 0;
};

// One document of a corpus.
struct CorpusRecord {
  std::string text;
  std::string domain;
};
// One line of a .jsonl file: an object with the string `text` and optionally `domain`; other fields (`id`, `source`)
// are not read. `where` names file and line in errors.
CorpusRecord parse_corpus_record(const std::string& line, const std::string& where, const std::string& default_domain);

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
// .jsonl nor .txt, plain or .zst.
std::filesystem::path shard_path(const std::filesystem::path& input, const TokenizeOptions& options);
// Tokenises one file into one shard, which is written atomically. A .txt file is one document, a .jsonl file one a
// line. "<|im_start|>" inside a document is plain text. Memory stays bounded: tens of megabytes and the longest
// document. Errors name file and line.
TokenizeSummary tokenize_file(const Tokenizer& tokenizer, const std::filesystem::path& input,
                              const TokenizeOptions& options);

}  // namespace cepe
