#include "retrieval/passage_files.h"

#include <algorithm>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "text/text_file.h"
#include "text/utf8.h"

namespace cepe {
namespace {

using nlohmann::json;

// The first of the members that is there and not null; empty where none is.
std::string member_of(const json& record, std::initializer_list<const char*> names, bool numbers,
                      const std::string& where) {
  for (const char* name : names) {
    const auto found = record.find(name);
    if (found == record.end() || found->is_null()) continue;
    if (numbers && found->is_number_integer()) return found->dump();
    require(found->is_string(), "{}: expected \"{}\" to be a JSON string{}, found a JSON {}", where, name,
            numbers ? " or a whole number" : "", found->type_name());
    return found->get<std::string>();
  }
  return "";
}

IndexedPassage parse_passage(const std::string& line, const std::string& where) {
  json record;
  try {
    record = json::parse(line);
  } catch (const json::parse_error& error) {
    fail("{}: not valid JSON in UTF-8: it breaks off or goes wrong at byte {}", where, error.byte);
  } catch (const json::out_of_range&) {
    fail("{}: holds a number beyond the range of a double", where);
  }
  require(record.is_object(), "{}: expected a JSON object with a passage, found a JSON {}", where, record.type_name());
  bool has_text = false;
  for (const char* name : {"text", "contents", "content", "passage", "body"}) has_text |= record.contains(name);
  require(has_text,
          "{}: expected a passage's \"text\" (or \"contents\", \"content\", \"passage\", \"body\"), found none", where);
  return {member_of(record, {"id", "_id", "docid", "pid"}, true, where), member_of(record, {"title"}, false, where),
          member_of(record, {"text", "contents", "content", "passage", "body"}, false, where), where};
}

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n\f\v") == std::string_view::npos; }

// Hands a passage on with an id, unless it has no text.
void finish(IndexedPassage passage, const std::function<void(IndexedPassage)>& use) {
  if (is_blank(passage.text)) return;
  if (passage.id.empty()) passage.id = passage_key(passage.title, passage.text);
  use(std::move(passage));
}

bool ends_sentence(std::string_view word) {
  const size_t last = word.find_last_not_of("\"')]}\xE2\x80\x9D\x99");  // closing brackets and quotes, curly ones too
  return last != std::string_view::npos && std::string_view(".!?").find(word[last]) != std::string_view::npos;
}

// Cuts a text that comes line by line.
class TextCutter {
 public:
  TextCutter(std::string title, int64_t words, const std::function<void(IndexedPassage)>& use)
      : title_(std::move(title)), words_(static_cast<size_t>(words)), use_(use) {}

  void add_line(std::string_view line, const std::string& where) {
    if (ends_.empty()) where_ = where;
    for (size_t at = 0; at < line.size();) {
      const size_t begin = line.find_first_not_of(" \t\f\v", at);
      if (begin == std::string_view::npos) break;
      size_t end = line.find_first_of(" \t\f\v", begin);
      if (end == std::string_view::npos) end = line.size();
      text_.append(line.substr(at, end - at));
      ends_.push_back({text_.size(), ends_sentence(line.substr(begin, end - begin))});
      if (ends_.size() == words_) cut(where);
      at = end;
    }
    if (!text_.empty()) text_ += '\n';
  }
  void finish_text() { emit(ends_.size()); }

 private:
  struct WordEnd {
    size_t end;
    bool sentence;
  };
  void cut(const std::string& where) {
    size_t count = words_;
    while (count > (words_ + 1) / 2 && !ends_[count - 1].sentence) --count;
    emit(ends_[count - 1].sentence ? count : words_);
    where_ = where;
  }
  void emit(size_t count) {
    if (count == 0) return;
    const size_t end = ends_[count - 1].end;
    const size_t begin = text_.find_first_not_of(" \t\f\v\n");
    finish({"", title_, text_.substr(begin, end - begin), where_}, use_);
    text_.erase(0, end);
    ends_.erase(ends_.begin(), ends_.begin() + static_cast<int64_t>(count));
    for (WordEnd& word : ends_) word.end -= end;
  }
  std::string title_, text_, where_;
  size_t words_;
  const std::function<void(IndexedPassage)>& use_;
  std::vector<WordEnd> ends_;  // of the words of text_
};

void cut_record(const IndexedPassage& record, const std::string& file, int64_t words,
                const std::function<void(IndexedPassage)>& use) {
  TextCutter cutter(record.title.empty() ? file : record.title, words, use);
  const std::string_view text = record.text;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    cutter.add_line(text.substr(begin, end - begin), record.where);
    begin = end + 1;
  }
  cutter.finish_text();
}

}  // namespace

std::string passage_key(const std::string& title, const std::string& text) {
  return sha256_bytes(title + "\n" + text).substr(0, 16);
}

void read_passages(const std::filesystem::path& path, int64_t words, const std::function<void(IndexedPassage)>& use,
                   bool cut_records) {
  const std::string name = plain_file_name(path);
  const bool lines = name.ends_with(".jsonl") || name.ends_with(".ndjson");
  TextFile file(path, lines ? TextNames::json : TextNames::text);
  TextCutter cutter(name, words, use);
  for (std::string line; file.next_line(line);) {
    if (lines && cut_records) {
      cut_record(parse_passage(line, file.where()), name, words, use);
    } else if (lines) {
      finish(parse_passage(line, file.where()), use);
    } else {
      require(find_invalid_utf8(line) == std::string_view::npos, "{}: not valid UTF-8 at byte {} of the line",
              file.where(), find_invalid_utf8(line));
      cutter.add_line(line, file.where());
    }
  }
  if (!lines) cutter.finish_text();
}

void read_passages(const QuestionSet& questions, const std::function<void(IndexedPassage)>& use) {
  for (const Passage& passage : questions.passages) {
    finish({"", passage.title, passage.text, questions.name}, use);
  }
}

}  // namespace cepe
