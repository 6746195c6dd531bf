#include "tasks/icl/labelled_files.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/report.h"
#include "tasks/icl/csv.h"
#include "tasks/json_members.h"
#include "text/text_file.h"
#include "text/utf8.h"

namespace cepe {
namespace {

using nlohmann::json;

constexpr const char* kTextNames[] = {"text", "sentence", "content", "question", "query", "utterance"};
constexpr const char* kLabelNames[] = {"label_text", "label", "coarse_label", "intent", "category"};

// One line, without spaces around it.
std::string trimmed_line(std::string_view text) {
  std::string line(text);
  std::replace_if(line.begin(), line.end(), [](char c) { return c == '\n' || c == '\r' || c == '\t'; }, ' ');
  const size_t first = line.find_first_not_of(' ');
  return first == std::string::npos ? "" : line.substr(first, line.find_last_not_of(' ') + 1 - first);
}

std::string list_of(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

class LabelledReader {
 public:
  LabelledReader(const LabelTask& task, LabelledPart part) : task_(task), part_(part) {}

  std::vector<LabelledText> read(const std::filesystem::path& path) {
    const std::string name = plain_file_name(path);
    file_ = path.string();
    if (name.ends_with(".jsonl") || name.ends_with(".ndjson")) {
      read_json_lines(path);
    } else if (name.ends_with(".json")) {
      read_json(path);
    } else if (name.ends_with(".csv")) {
      read_csv_records(TextFile(path).rest());
    } else if (name.ends_with(".tsv")) {
      read_tabs(path);
    } else {
      read_lines(path);
    }
    require(!texts_.empty(), "{}: the file holds no labelled text", file_);
    return std::move(texts_);
  }

 private:
  void add(std::string_view text, const std::string& label, const std::string& where) {
    LabelledText one{trimmed_line(text), label};
    require(!one.text.empty(), "{}: the text is empty", where);
    texts_.push_back(std::move(one));
  }

  std::string named(std::string_view given, const std::string& where) const {
    std::string name = trimmed_line(given);
    require(!name.empty(), "{}: the label is empty", where);
    if (const auto code = task_.codes.find(name); code != task_.codes.end()) name = code->second;
    if (task_.spaces) std::replace(name.begin(), name.end(), '_', ' ');
    const bool known =
        task_.labels.empty() || std::find(task_.labels.begin(), task_.labels.end(), name) != task_.labels.end();
    require(known, "{}: expected a label of {} ({}), found \"{}\"", where, task_.name, list_of(task_.labels),
            printable(name));
    return name;
  }

  // `first`: the number of the first label.
  std::string numbered(int64_t number, const std::vector<std::string>& labels, int64_t first,
                       const std::string& where) const {
    require(!labels.empty(), "{}: the label is the number {}, and {} has no names for numbers", where, number,
            task_.name);
    const bool known = number >= first && number - first < static_cast<int64_t>(labels.size());
    require(known, "{}: expected a label from {} to {} ({}), found {}", where, first,
            first + static_cast<int64_t>(labels.size()) - 1, list_of(labels), number);
    return labels[static_cast<size_t>(number - first)];
  }

  static std::optional<int64_t> number_in(std::string_view text) {
    int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    return error == std::errc() && end == text.data() + text.size() ? std::optional(number) : std::nullopt;
  }

  // Of a column: a number where the task has names for numbers.
  std::string label_of(const std::string& text, int64_t first, const std::string& where) const {
    const std::optional<int64_t> number = number_in(trimmed_line(text));
    return number && !task_.labels.empty() ? numbered(*number, task_.labels, first, where) : named(text, where);
  }

  std::string with_title(const std::string& title, const std::string& text) const {
    return task_.title && !title.empty() ? title + " " + text : text;
  }

  // ---- JSON

  // A number in "label" counts before "label_text", which has a set's own words: "very positive" for SST-5's "great".
  bool has_numbered_label(const json& record) const {
    return !task_.labels.empty() && record.contains("label") && record.at("label").is_number_integer();
  }

  static json parsed(std::string_view text, const std::string& where) {
    try {
      return json::parse(text);
    } catch (const json::exception&) {
      fail("{}: not valid JSON in UTF-8", where);
    }
  }

  void read_record(const json& record, const std::string& where) {
    require(record.is_object(), "{}: expected a JSON object with a text and a label, found a JSON {}", where,
            record.type_name());
    const auto member = [&](std::span<const char* const> names, const char* what) -> const json& {
      for (const char* name : names) {
        if (record.contains(name)) return record.at(name);
      }
      fail("{}: the record has no {} (\"{}\")", where, what, names.front());
    };
    const json& text = member(kTextNames, "text");
    require(text.is_string(), "{}: expected the text to be a JSON string, found a JSON {}", where, text.type_name());
    const json& label = has_numbered_label(record) ? record.at("label") : member(kLabelNames, "label");
    require(label.is_string() || label.is_number_integer(),
            "{}: expected the label to be a JSON string or a whole number, found a JSON {}", where, label.type_name());
    const auto title = record.find("title");
    const bool titled = title != record.end() && title->is_string();
    add(with_title(titled ? title->get<std::string>() : "", text.get<std::string>()),
        label.is_string() ? named(label.get<std::string>(), where)
                          : numbered(label.get<int64_t>(), task_.labels, 0, where),
        where);
  }

  void read_json_lines(const std::filesystem::path& path) {
    TextFile file(path, TextNames::json);
    for (std::string line; file.next_line(line);) read_record(parsed(line, file.where()), file.where());
  }

  void read_json(const std::filesystem::path& path) {
    const std::string content = TextFile(path, TextNames::json).rest();
    // An object a line, whatever the name: a whole one ends with the first line, and more follow.
    const size_t end = content.find('\n');
    if (content.starts_with('{') && end != std::string::npos && json::accept(content.substr(0, end)) &&
        content.find_first_not_of(" \r\n", end) != std::string::npos) {
      return read_json_lines(path);
    }
    const json value = parsed(content, file_);
    if (value.is_array()) {
      for (size_t i = 0; i < value.size(); ++i) read_record(value[i], fmt::format("{}: [{}]", file_, i));
      return;
    }
    require(value.is_object(), "{}: expected a JSON array of records or CLINC150's parts, found a JSON {}", file_,
            value.type_name());
    const char* part = part_ == LabelledPart::asked ? "test" : "train";
    const json& pairs = json_list_of(value, part, file_);
    for (size_t i = 0; i < pairs.size(); ++i) {
      const std::string where = fmt::format("{}: {}[{}]", file_, part, i);
      const json& pair = pairs[i];
      require(pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_string(),
              "{}: expected a pair of a text and a label", where);
      add(pair[0].get<std::string>(), named(pair[1].get<std::string>(), where), where);
    }
  }

  // ---- columns

  // Where the columns stand, by their names.
  struct Columns {
    size_t text = 0, label = 0, count = 0;
    std::optional<size_t> title = {}, number = {};  // number: "label", which counts where it holds one
  };
  std::optional<Columns> columns_of(const std::vector<std::string>& names) const {
    const auto place = [&](std::span<const char* const> known) -> std::optional<size_t> {
      for (const char* name : known) {
        const auto found = std::find(names.begin(), names.end(), name);
        if (found != names.end()) return found - names.begin();
      }
      return std::nullopt;
    };
    const std::optional<size_t> text = place(kTextNames), label = place(kLabelNames);
    if (!text || !label) return std::nullopt;
    constexpr const char *kTitle[] = {"title"}, *kNumber[] = {"label"};
    return Columns{*text, *label, names.size(), place(kTitle), place(kNumber)};
  }

  void read_row(const std::vector<std::string>& fields, const Columns& columns, const std::string& where) {
    require(fields.size() == columns.count, "{}: expected {} columns, found {}", where, columns.count, fields.size());
    const bool numbered = !task_.labels.empty() && columns.number && number_in(trimmed_line(fields[*columns.number]));
    add(with_title(columns.title ? fields[*columns.title] : "", fields[columns.text]),
        label_of(fields[numbered ? *columns.number : columns.label], 0, where), where);
  }

  void read_csv_records(const std::string& content) {
    const std::vector<CsvRecord> records = read_csv(without_byte_order_mark(content), file_);
    require(!records.empty(), "{}: the file holds no labelled text", file_);
    const std::optional<Columns> columns = columns_of(records.front().fields);
    for (size_t i = columns ? 1 : 0; i < records.size(); ++i) {
      const std::vector<std::string>& fields = records[i].fields;
      const std::string where = fmt::format("{}:{}", file_, records[i].line);
      if (columns) {
        read_row(fields, *columns, where);
        continue;
      }
      require(fields.size() == 3 && number_in(fields[0]).has_value(),
              "{}: expected a first line that names the columns text and label, or the columns class (a number), title "
              "and text, found {} columns",
              where, fields.size());
      add(with_title(fields[1], fields[2]), label_of(fields[0], 1, where), where);
    }
  }

  void read_tabs(const std::filesystem::path& path) {
    TextFile file(path);
    std::optional<Columns> columns;
    for (std::string line; file.next_line(line);) {
      check_utf8(line, file.where());
      std::vector<std::string> fields(1);
      for (const char c : line) {
        if (c == '\t') {
          fields.emplace_back();
        } else {
          fields.back() += c;
        }
      }
      if (columns) {
        read_row(fields, *columns, file.where());
      } else {
        columns = columns_of(fields);
        require(columns.has_value(), "{}: expected the columns' names, among them sentence and label", file.where());
      }
    }
  }

  // ---- lines

  static void check_utf8(const std::string& line, const std::string& where) {
    require(find_invalid_utf8(line) == std::string_view::npos,
            "{}: expected UTF-8 text, found something else (iconv -f WINDOWS-1252 -t UTF-8 converts older files)",
            where);
  }

  void read_lines(const std::filesystem::path& path) {
    const std::vector<std::string>& labels = task_.line_labels.empty() ? task_.labels : task_.line_labels;
    TextFile file(path);
    for (std::string line; file.next_line(line);) {
      const std::string where = file.where();
      check_utf8(line, where);
      const size_t space = line.find_first_of(" \t");
      require(space != std::string::npos && space > 0, "{}: expected a label, a space and a text", where);
      const std::string label = line.substr(0, space);
      const std::optional<int64_t> number = number_in(label);
      // A set with codes has kinds behind them: TREC's "HUM:ind". Elsewhere ":" is a part of the label.
      const std::string name = task_.codes.empty() ? label : label.substr(0, label.find(':'));
      add(line.substr(space), number ? numbered(*number, labels, 0, where) : named(name, where), where);
    }
  }

  const LabelTask& task_;
  LabelledPart part_;
  std::string file_;
  std::vector<LabelledText> texts_;
};

}  // namespace

std::vector<LabelledText> read_labelled_texts(const std::filesystem::path& path, const LabelTask& task,
                                              LabelledPart part) {
  return LabelledReader(task, part).read(path);
}

}  // namespace cepe
