#include "eval/documents.h"

#include <zstd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "base/error.h"
#include "text/utf8.h"

namespace cepe {
namespace {

constexpr const char* kPlainDomain = "text";
constexpr size_t kBlock = 1 << 17;

bool has_suffix(const std::filesystem::path& path, std::string_view suffix) {
  return path.filename().string().ends_with(suffix);
}

// The bytes of a file as stored.
class FileBytes {
 public:
  explicit FileBytes(const std::filesystem::path& path) : name_(path.string()) {
    require(!std::filesystem::is_directory(path), "{}: expected a text file, found a directory", name_);
    file_.reset(std::fopen(path.c_str(), "rbe"));
    if (!file_) fail("{}: cannot open the file: {}", name_, std::strerror(errno));
  }
  // Up to `size` bytes; 0 at the end.
  size_t read(char* out, size_t size) {
    const size_t count = std::fread(out, 1, size, file_.get());
    if (count == 0 && std::ferror(file_.get())) fail("{}: cannot read the file: {}", name_, std::strerror(errno));
    return count;
  }
  const std::string& name() const { return name_; }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::string name_;
  std::unique_ptr<std::FILE, Close> file_;
};

// The bytes of a text file, decompressed where its name ends in .zst.
class TextBytes {
 public:
  explicit TextBytes(const std::filesystem::path& path) : file_(path) {
    if (!has_suffix(path, ".zst")) return;
    stream_.reset(ZSTD_createDStream());
    require(stream_ != nullptr, "{}: zstd cannot start", file_.name());
    // Long windows are how corpora are packed; the default would refuse anything beyond 128 MiB.
    ZSTD_DCtx_setParameter(stream_.get(), ZSTD_d_windowLogMax, ZSTD_cParam_getBounds(ZSTD_c_windowLog).upperBound);
    stored_.resize(ZSTD_DStreamInSize());
  }
  size_t read(char* out, size_t size) { return stream_ ? decompress(out, size) : file_.read(out, size); }

 private:
  size_t decompress(char* out, size_t size) {
    ZSTD_outBuffer output{out, size, 0};
    while (output.pos == 0) {
      if (input_.pos == input_.size && !pending_output_) {
        input_ = {stored_.data(), file_.read(stored_.data(), stored_.size()), 0};
        if (input_.size == 0) {
          require(frame_done_, "{}: the zstd stream ends in the middle: the file is truncated", file_.name());
          return 0;
        }
      }
      const size_t status = ZSTD_decompressStream(stream_.get(), &output, &input_);
      if (ZSTD_isError(status)) fail("{}: not a valid zstd stream: {}", file_.name(), ZSTD_getErrorName(status));
      frame_done_ = status == 0;
      pending_output_ = output.pos == output.size;  // the decoder may hold more than fitted
    }
    return output.pos;
  }

  struct Free {
    void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
  };
  FileBytes file_;
  std::unique_ptr<ZSTD_DStream, Free> stream_;
  std::string stored_;
  ZSTD_inBuffer input_{nullptr, 0, 0};
  bool frame_done_ = true, pending_output_ = false;
};

// Splits bytes into lines, however the blocks fall.
class Lines {
 public:
  explicit Lines(TextBytes& bytes) : bytes_(bytes), block_(kBlock, '\0') {}
  // False after the last line. The newline is not part of the line.
  bool next(std::string& line) {
    line.clear();
    for (;;) {
      if (begin_ == end_) {
        begin_ = 0;
        end_ = bytes_.read(block_.data(), block_.size());
        if (end_ == 0) return !line.empty();
      }
      const char* found = static_cast<const char*>(std::memchr(block_.data() + begin_, '\n', end_ - begin_));
      const size_t stop = found ? static_cast<size_t>(found - block_.data()) : end_;
      line.append(block_, begin_, stop - begin_);
      begin_ = found ? stop + 1 : stop;
      if (found) return true;
    }
  }

 private:
  TextBytes& bytes_;
  std::string block_;
  size_t begin_ = 0, end_ = 0;
};

// nlohmann's "[json.exception.parse_error.101] parse error at line 1, column 5: ..." without its own address.
std::string reason_of(const nlohmann::json::exception& error) {
  const std::string text = error.what();
  const size_t end = text.find("] ");
  return end == std::string::npos ? text : text.substr(end + 2);
}

TextDocument parse_record(const std::string& line, const std::string& name) {
  nlohmann::json record;
  try {
    record = nlohmann::json::parse(line);
  } catch (const nlohmann::json::exception& error) {
    fail("{}: not a JSON record: {}", name, reason_of(error));
  }
  require(record.is_object(), "{}: expected a JSON object with a \"text\", found a JSON {}", name, record.type_name());
  const auto text = record.find("text");
  require(text != record.end(), "{}: the record has no \"text\"", name);
  require(text->is_string(), "{}: expected \"text\" to be a string, found a JSON {}", name, text->type_name());
  std::string domain = kPlainDomain;
  if (const auto given = record.find("domain"); given != record.end() && !given->is_null()) {
    require(given->is_string(), "{}: expected \"domain\" to be a string, found a JSON {}", name, given->type_name());
    if (!given->get_ref<const std::string&>().empty()) domain = given->get<std::string>();
  }
  return {name, domain, std::move(text->get_ref<std::string&>())};
}

void read_records(const std::filesystem::path& path, const std::function<void(TextDocument)>& use) {
  TextBytes bytes(path);
  Lines lines(bytes);
  std::string line;
  bool any = false;
  for (int64_t number = 1; lines.next(line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    TextDocument document = parse_record(line, fmt::format("{}:{}", path.string(), number));
    if (document.text.empty()) continue;
    any = true;
    use(std::move(document));
  }
  require(any, "{}: the file holds no record with text", path.string());
}

void read_plain(const std::filesystem::path& path, const std::function<void(TextDocument)>& use) {
  TextBytes bytes(path);
  std::string text, block(kBlock, '\0');
  while (const size_t count = bytes.read(block.data(), block.size())) text.append(block, 0, count);
  require(!text.empty(), "{}: the text is empty", path.string());
  const size_t invalid = find_invalid_utf8(text);
  require(invalid == std::string_view::npos, "{}: expected UTF-8 text, found an invalid sequence at byte {}",
          path.string(), invalid);
  use({path.string(), kPlainDomain, std::move(text)});
}

}  // namespace

void read_documents(const std::vector<std::filesystem::path>& files, const std::function<void(TextDocument)>& use) {
  for (const auto& path : files) {
    if (has_suffix(path, ".jsonl") || has_suffix(path, ".jsonl.zst")) {
      read_records(path, use);
    } else {
      read_plain(path, use);
    }
  }
}

TokenDocuments read_token_documents(const std::vector<std::filesystem::path>& files, const Tokenizer& tokenizer) {
  TokenDocuments result;
  std::unordered_multimap<size_t, size_t> by_hash;  // of domain and text -> index
  read_documents(files, [&](TextDocument document) {
    TokenDocument tokens{document.name, document.domain, {}};
    try {
      tokens.tokens = tokenizer.encode(document.text, {.add_special_tokens = false, .parse_special_tokens = false});
    } catch (const Error& error) {
      fail("{}: {}", document.name, error.what());
    }
    const size_t hash = std::hash<std::string>{}(document.domain + '\0' + document.text);
    const auto [first, last] = by_hash.equal_range(hash);
    for (auto it = first; it != last; ++it) {
      const TokenDocument& earlier = result.documents[it->second];
      if (earlier.domain != tokens.domain || earlier.tokens != tokens.tokens) continue;
      result.notes.push_back(fmt::format("{} is the same text as {} and is left out.", tokens.name, earlier.name));
      return;
    }
    by_hash.emplace(hash, result.documents.size());
    result.documents.push_back(std::move(tokens));
  });
  return result;
}

}  // namespace cepe
