#include "tasks/icl/csv.h"

#include <algorithm>

#include "base/error.h"

namespace cepe {
namespace {

class CsvReader {
 public:
  CsvReader(std::string_view text, const std::string& file) : text_(text), file_(file) {}

  std::vector<CsvRecord> read() {
    std::vector<CsvRecord> records;
    while (at_ < text_.size()) {
      if (end_line()) continue;
      CsvRecord record{.line = line_};
      do {
        record.fields.push_back(field());
      } while (take(','));
      require(at_ == text_.size() || end_line(),
              "{}:{}: expected a comma or the line's end after a quoted field, found \"{}\"", file_, line_,
              text_.substr(at_, 1));
      records.push_back(std::move(record));
    }
    return records;
  }

 private:
  bool take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool end_line() {
    const size_t size = text_.substr(at_).starts_with("\r\n") ? 2 : text_.substr(at_).starts_with('\n') ? 1 : 0;
    at_ += size;
    line_ += size > 0 ? 1 : 0;
    return size > 0;
  }
  std::string field() {
    if (take('"')) return quoted();
    const size_t end = std::min(text_.find_first_of(",\n", at_), text_.size());
    std::string_view plain = text_.substr(at_, end - at_);
    if (plain.ends_with('\r') && end < text_.size() && text_[end] == '\n') plain.remove_suffix(1);
    at_ += plain.size();
    return std::string(plain);
  }
  std::string quoted() {
    const int64_t first = line_;
    std::string out;
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == '"' && !text_.substr(at_ + 1).starts_with('"')) {
        ++at_;
        return out;
      }
      if (c == '"') ++at_;
      if (c == '\n') ++line_;
      out += c;
    }
    fail("{}:{}: a quoted field begins here and does not end", file_, first);
  }

  std::string_view text_;
  const std::string& file_;
  size_t at_ = 0;
  int64_t line_ = 1;
};

}  // namespace

std::vector<CsvRecord> read_csv(std::string_view text, const std::string& file) { return CsvReader(text, file).read(); }

}  // namespace cepe
