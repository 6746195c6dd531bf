#include "text/text_file.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "text/compressed_file.h"
#include "text/utf8.h"

namespace cepe {
namespace {

constexpr size_t kBlockBytes = 1 << 18;
constexpr size_t kMaxLineBytes = size_t{1} << 30;
constexpr std::string_view kCompressed[] = {".zst", ".gz"};

// nlohmann's "[json.exception.parse_error.101] parse error at line 1, column 5: ..." without its own address.
std::string reason_of(const nlohmann::json::exception& error) {
  const std::string text = error.what();
  const size_t end = text.find("] ");
  return end == std::string::npos ? text : text.substr(end + 2);
}

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

std::string in_lower_case(std::string text) {
  for (char& c : text) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  return text;
}

// Error for a name that promises a form which is not read.
void require_known_form(const std::filesystem::path& path, TextNames names) {
  const std::string name = path.filename().string(), lower = in_lower_case(name);
  for (const std::string_view packed : {".bz2", ".xz", ".lz4", ".zip", ".7z", ".tar", ".zstd"}) {
    require(!lower.ends_with(packed),
            "{}: files named {} are not read: give the text itself, or compressed as .zst or .gz", path.string(),
            packed);
  }
  for (const std::string_view other : {".parquet", ".arrow", ".pdf", ".docx", ".epub"}) {
    require(!lower.ends_with(other), "{}: files named {} are not read: give plain text, or records as .jsonl",
            path.string(), other);
  }
  for (const std::string_view packed : kCompressed) {
    require(!lower.ends_with(packed) || name.ends_with(packed),
            "{}: a compressed text file is named {}, in small letters", path.string(), packed);
  }
  if (names == TextNames::json) return;
  const std::string plain = plain_file_name(path), plain_lower = in_lower_case(plain);
  for (const std::string_view records : {".json", ".ndjson", ".jsonl"}) {
    const bool meant = plain_lower.ends_with(records) && !plain.ends_with(".jsonl");
    require(!meant, "{}: records are read from files named .jsonl, one JSON object a line: rename it if it is one",
            path.string());
  }
}

}  // namespace

std::string_view without_byte_order_mark(std::string_view text) {
  return text.starts_with(kByteOrderMark) ? text.substr(kByteOrderMark.size()) : text;
}

std::string plain_file_name(const std::filesystem::path& path) {
  std::string name = path.filename().string();
  for (const std::string_view packed : kCompressed) {
    if (!name.ends_with(packed)) continue;
    name.resize(name.size() - packed.size());
    break;
  }
  return name;
}

bool is_json_lines(const std::filesystem::path& path) { return plain_file_name(path).ends_with(".jsonl"); }

TextFile::TextFile(const std::filesystem::path& path, TextNames names) : name_(path.string()) {
  std::error_code ignored;  // opening the file says what is wrong
  require(!std::filesystem::is_directory(path, ignored), "{}: expected a text file, found a directory", name_);
  require_known_form(path, names);
  bytes_ = std::make_unique<CompressedFile>(path);
}
TextFile::~TextFile() = default;

std::string TextFile::where() const { return fmt::format("{}:{}", name_, line_number_); }

// Appends a block to the buffer; false at the end.
bool TextFile::fill() {
  buffer_.erase(0, used_);
  used_ = 0;
  const size_t before = buffer_.size();
  buffer_.resize(before + kBlockBytes);
  const size_t count = bytes_->read(buffer_.data() + before, kBlockBytes);
  buffer_.resize(before + count);
  return count > 0;
}

void TextFile::skip_mark() {
  if (std::exchange(started_, true)) return;
  while (buffer_.size() < kByteOrderMark.size() && fill()) {
  }
  if (buffer_.starts_with(kByteOrderMark)) used_ = kByteOrderMark.size();
}

bool TextFile::next_raw_line(std::string& line) {
  skip_mark();
  ++line_number_;
  size_t searched = used_;
  for (;;) {
    const size_t end = buffer_.find('\n', searched);
    if (end != std::string::npos) {
      line.assign(buffer_, used_, end - used_);
      used_ = end + 1;
      break;
    }
    const size_t length = buffer_.size() - used_;
    require(length <= kMaxLineBytes, "{}: expected a line of at most 1 GiB, found a longer one", where());
    if (!fill()) {
      if (length == 0) return false;
      line = std::exchange(buffer_, {});
      break;
    }
    searched = length;
  }
  if (!line.empty() && line.back() == '\r') line.pop_back();
  return true;
}

bool TextFile::next_line(std::string& line) {
  while (next_raw_line(line)) {
    if (line.find_first_not_of(" \t\r") != std::string::npos) return true;
  }
  return false;
}

std::string TextFile::rest() {
  skip_mark();
  while (fill()) {
  }
  std::string text = std::exchange(buffer_, {});
  const size_t invalid = find_invalid_utf8(text);
  require(invalid == std::string_view::npos, "{}: expected UTF-8 text, found an invalid sequence at byte {}", name_,
          invalid);
  return text;
}

TextDocument parse_text_record(std::string_view line, const std::string& where, const std::string& default_domain) {
  nlohmann::json record;
  try {
    record = nlohmann::json::parse(line);
  } catch (const nlohmann::json::exception& error) {
    fail("{}: not a JSON record: {}", where, reason_of(error));
  }
  require(record.is_object(), "{}: expected a JSON object with a \"text\", found a JSON {}", where, record.type_name());
  const auto text = record.find("text");
  require(text != record.end(), "{}: the record has no \"text\"", where);
  require(text->is_string(), "{}: expected \"text\" to be a string, found a JSON {}", where, text->type_name());
  TextDocument document{where, default_domain, std::move(text->get_ref<std::string&>())};
  if (const auto domain = record.find("domain"); domain != record.end() && !domain->is_null()) {
    require(domain->is_string(), "{}: expected \"domain\" to be a string, found a JSON {}", where, domain->type_name());
    std::string& name = domain->get_ref<std::string&>();
    if (!name.empty()) document.domain = std::move(name);
  }
  const auto source = record.find("source");
  if (source != record.end() && source->is_string()) document.source = source->get<std::string>();
  return document;
}

void read_text_file(const std::filesystem::path& path, const std::string& default_domain,
                    const std::function<void(TextDocument)>& use) {
  TextFile file(path);
  if (!is_json_lines(path)) {
    std::string text = file.rest();
    require(!text.empty(), "{}: the text is empty", path.string());
    return use({path.string(), default_domain, std::move(text)});
  }
  bool any = false;
  for (std::string line; file.next_line(line);) {
    TextDocument document = parse_text_record(line, file.where(), default_domain);
    if (document.text.empty()) continue;
    any = true;
    use(std::move(document));
  }
  require(any, "{}: the file holds no record with text", path.string());
}

}  // namespace cepe
