// Text files, for evaluation and for training:
//
//   NAME.jsonl, NAME.jsonl.zst   one JSON object a line: "text" (required), "domain", "source"; others are not read
//   NAME.zst                     plain text, compressed: one document
//   NAME.gz, NAME.jsonl.gz       the same, compressed by gzip
//   anything else                plain UTF-8 text: one document
//
// Files named .json, .ndjson, or .jsonl and .zst in other letters, and those of other compressions and of no text are
// refused by their names: read as plain text they would be something else than meant (TextNames::json takes .json and
// .ndjson as well). A byte order mark at the beginning is dropped.
//
// Compressed files are read as compressed_file.h does, also those whose name does not say that they are. Every error is
// an Error that names the file, for records as FILE:LINE.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace cepe {

class CompressedFile;

// Text without the byte order mark that some editors put before it.
std::string_view without_byte_order_mark(std::string_view text);

// The name of a file without its directory and without .zst or .gz: "books.jsonl" of "corpus/books.jsonl.zst".
std::string plain_file_name(const std::filesystem::path& path);
bool is_json_lines(const std::filesystem::path& path);

// Which files a reader knows by their names.
enum class TextNames {
  text,  // as above
  json   // and .json and .ndjson, plain or compressed: a reader of JSON
};

// The content of a text file, streamed: memory holds one line and a small buffer.
class TextFile {
 public:
  // Error when the file cannot be opened, is a directory, or has a name whose form is not read.
  explicit TextFile(const std::filesystem::path& path, TextNames names = TextNames::text);
  ~TextFile();
  TextFile(const TextFile&) = delete;
  TextFile& operator=(const TextFile&) = delete;

  // The next line that is more than white space, without its end ("\n" or "\r\n"); false at the end of the file. Error
  // on a damaged or truncated stream and on a line of more than 1 GiB.
  bool next_line(std::string& line);
  std::string where() const;  // of the line that next_line() gave last: "books.jsonl:17", from 1
  // All that has not been read yet, as one text. Error when that is no valid UTF-8.
  std::string rest();

 private:
  bool fill();
  void skip_mark();
  bool next_raw_line(std::string& line);
  std::string name_;
  std::unique_ptr<CompressedFile> bytes_;
  std::string buffer_;
  size_t used_ = 0;
  bool started_ = false;
  int64_t line_number_ = 0;
};

struct TextDocument {
  std::string name;  // where it came from: "emma.txt", or "valid.jsonl.zst:17" for the record on line 17
  std::string domain;
  std::string text;    // valid UTF-8
  std::string source;  // what it is a part of, such as a project; empty: not known
};

// One line of a .jsonl file. An absent, null or empty "domain" is `default_domain`; the text may be empty. A "source"
// that is no string is not known: corpora use the name for other things as well.
TextDocument parse_text_record(std::string_view line, const std::string& where, const std::string& default_domain);

// Hands over the documents of one file in order; those without text are passed over. Error when none is left.
void read_text_file(const std::filesystem::path& path, const std::string& default_domain,
                    const std::function<void(TextDocument)>& use);

}  // namespace cepe
