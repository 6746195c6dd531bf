// Lists of keys and values in many layouts, and tables of records; values are asked for by key, some keys by value.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "ask/kinds/draft.h"
#include "ask/sources/sentences.h"
#include "base/error.h"

namespace cepe {
namespace {

constexpr int64_t kMostPairs = 400;

// {k} and {v} of each line, what stands before and after all of them, and between two.
struct Layout {
  const char *before, *line, *between, *after;
  char separator = 0;  // of CSV: what holds it is quoted
};
constexpr Layout kLayouts[] = {
    {"{", "\"{k}\": \"{v}\"", ",\n ", "}"},
    {"{\n", "  \"{k}\": \"{v}\"", ",\n", "\n}"},
    {"{", "\"{k}\": \"{v}\"", ", ", "}"},
    {"{", "'{k}': '{v}'", ", ", "}"},
    {"", "{k}: {v}", "\n", ""},
    {"settings:\n", "  {k}: {v}", "\n", ""},
    {"", "{k}: \"{v}\"", "\n", ""},
    {"key,value\n", "{k},{v}", "\n", "", ','},
    {"", "{k};{v}", "\n", "", ';'},
    {"key\tvalue\n", "{k}\t{v}", "\n", ""},
    {"| key | value |\n| --- | --- |\n", "| {k} | {v} |", "\n", ""},
    {"", "{k} = {v}", "\n", ""},
    {"[values]\n", "{k}={v}", "\n", ""},
    {"", "{k} = \"{v}\";", "\n", ""},
    {"", "{n}. {k}: {v}", "\n", ""},
    {"", "{n}) {k} - {v}", "\n", ""},
    {"", "* {k}: {v}", "\n", ""},
    {"", "- {k} -> {v}", "\n", ""},
    {"<entries>\n", "  <entry key=\"{k}\">{v}</entry>", "\n", "\n</entries>"},
    {"<dl>\n", "<dt>{k}</dt><dd>{v}</dd>", "\n", "\n</dl>"},
    {"", "SET {k} {v}", "\n", ""},
    {"", "export {k}={v}", "\n", ""},
    {"", "#define {k} {v}", "\n", ""},
    {"", "{k} is {v}", "; ", "."},
    {"", "{k} ({v})", ", ", ""},
    {"", "The value of {k} is {v}.", "\n", ""},
    {"", "{v} <- {k}", "\n", ""},
    {"", "{k}\n    {v}", "\n", ""},
    {"(", "({k} . {v})", "\n ", ")"},
    {"map = dict()\n", "map[\"{k}\"] = \"{v}\"", "\n", ""},
    {"INSERT INTO pairs VALUES\n", "('{k}', '{v}')", ",\n", ";"},
};
constexpr const char* kQuestions[] = {
    "What is the value of {k}?",
    "What is the value of \"{k}\"?",
    "What is the value of the key \"{k}\"?",
    "Which value belongs to {k}?",
    "Look up {k}.",
    "What does {k} stand for in the list?",
    "Key: \"{k}\". What is the corresponding value?",
    "{k}: which value?",
    "Extract the value of the key \"{k}\".",
    "What stands beside {k}?",
    "Return the value for {k}.",
};
constexpr const char* kReverse[] = {
    "Which key has the value {v}?",
    "Under which key does one find \"{v}\"?",
    "What is the key of {v}?",
    "To which key does {v} belong?",
};
constexpr const char* kTypes[] = {"uuid", "word", "num",   "code", "hex",  "name",    "email",  "madeplace",
                                  "url",  "date", "phone", "org",  "time", "version", "colour", "amount"};

std::string filled(std::string text, const std::string& key, const std::string& value, size_t number) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const std::string_view tag = std::string_view(text).substr(i, 3);
    const bool known = tag == "{k}" || tag == "{v}" || tag == "{n}";
    if (known) {
      out += tag == "{k}" ? key : tag == "{v}" ? value : std::to_string(number);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

// A cell of CSV (RFC 4180): in quotes where it holds the separator or a quote.
std::string csv_cell(const std::string& cell, char separator) {
  if (separator == 0 || cell.find_first_of({separator, '"'}) == std::string::npos) return cell;
  std::string quoted = "\"";
  for (const char c : cell) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

int64_t cost_of(const std::string& list) {
  return list == "uuid" ? 26 : list == "hex" || list == "url" ? 16 : list == "email" || list == "phone" ? 13 : 7;
}

// A list inside a text, or by itself.
void place(const AskSources& sources, AskRequest& request, std::string list, int64_t list_tokens, AskDraft& draft) {
  const int64_t left = request.tokens() - list_tokens;
  if (left > 100 && request.random.chance(0.7)) {
    draft.documents = draw_haystack(sources, request, left);
    if (!draft.documents.empty() && request.random.chance(0.5)) {
      hide_statements(draft.documents, {"\n\n" + list + "\n\n"}, request.random);
      return;
    }
  }
  const auto at = static_cast<std::ptrdiff_t>(request.random.below(static_cast<int64_t>(draft.documents.size()) + 1));
  draft.documents.insert(draft.documents.begin() + at, {"", std::move(list)});
}

AskDraft make_list(const AskSources& sources, AskRequest& request) {
  AskRandom& random = request.random;
  const Layout& layout = random.pick(kLayouts);
  const bool uuids = random.chance(0.4);
  const std::string key_type = uuids ? "uuid" : random.pick(kTypes);
  const std::string value_type = uuids && random.chance(0.7) ? "uuid" : random.pick(kTypes);
  const int64_t each = cost_of(key_type) + cost_of(value_type) + 8;
  const int64_t most = std::clamp<int64_t>(request.tokens() * 9 / 10 / each, 5, kMostPairs);
  const int64_t count = random.chance(0.4) ? most : random.log_between(5, most);
  std::vector<std::pair<std::string, std::string>> pairs;
  std::set<std::string> keys, values;
  std::string list = layout.before;
  for (int64_t i = 0; i < count; ++i) {
    std::string key = sources.words.draw(key_type, random);
    for (int tries = 0; tries < 4 && keys.contains(key); ++tries) key = sources.words.draw(key_type, random);
    if (!keys.insert(key).second) continue;
    std::string value = sources.words.draw(value_type, random);
    list += pairs.empty() ? "" : layout.between;
    list += filled(layout.line, csv_cell(key, layout.separator), csv_cell(value, layout.separator), pairs.size() + 1);
    values.insert(value);
    pairs.emplace_back(std::move(key), std::move(value));
  }
  list += layout.after;
  AskDraft draft;
  random.shuffle(pairs);
  const bool backwards = random.chance(0.15);
  for (const auto& [key, value] : pairs) {
    if (keys.contains(value) || values.contains(key)) continue;  // a key or a value?
    if (backwards && count_occurrences(list, value) == 1) {
      draft.turns.push_back({filled(random.pick(kReverse), key, value, 0), key});
    } else {
      draft.turns.push_back({filled(random.pick(kQuestions), key, value, 0), value});
    }
  }
  place(sources, request, std::move(list), count * each, draft);
  return draft;
}

// ---- tables of records

struct Column {
  const char *name, *list;
};
constexpr Column kColumns[] = {{"town", "madeplace"},    {"age", "age"},
                               {"colour", "colour"},     {"profession", "job"},
                               {"phone", "phone"},       {"birthday", "date"},
                               {"language", "language"}, {"code", "code"},
                               {"drink", "drink"},       {"instrument", "instrument"},
                               {"weight", "weight"},     {"e-mail", "email"},
                               {"animal", "animal"},     {"price", "amount"},
                               {"time", "time"},         {"room", "num"}};

std::string record_line(int layout, const std::vector<Column>& columns, const std::vector<std::string>& cells) {
  std::string line = layout == 1 ? "| " : layout == 3 ? "{\"name\": \"" : "";
  for (size_t c = 0; c < cells.size(); ++c) {
    const std::string name = c == 0 ? "name" : columns[c - 1].name;
    switch (layout) {
      case 0: line += (c ? ";" : "") + csv_cell(cells[c], ';'); break;
      case 1: line += cells[c] + " | "; break;
      case 2: line += (c == 0 ? cells[c] + ":" : (c > 1 ? ", " : " ") + name + " " + cells[c]); break;
      case 3: line += c == 0 ? cells[c] + "\"" : ", \"" + name + "\": \"" + cells[c] + "\""; break;
      default: line += (c ? "\n  " : "") + name + ": " + cells[c]; break;
    }
  }
  return layout == 1 ? line.substr(0, line.size() - 1) : layout == 3 ? line + "}" : line;
}

AskDraft make_records(const AskSources& sources, AskRequest& request) {
  AskRandom& random = request.random;
  std::vector<Column> columns;
  for (const size_t c : random.distinct(static_cast<size_t>(random.between(2, 6)), std::size(kColumns))) {
    columns.push_back(kColumns[c]);
  }
  const int layout = static_cast<int>(random.below(5));
  std::string list;
  if (layout < 2) {
    std::vector<std::string> head{"name"};
    for (const Column& column : columns) head.emplace_back(column.name);
    list = record_line(layout, columns, head) + "\n";
    if (layout == 1) {
      for (size_t c = 0; c < head.size(); ++c) list += "| --- ";
      list += "|\n";
    }
  }
  const int64_t each = 8 + static_cast<int64_t>(columns.size()) * (layout < 2 ? 9 : 12);
  const int64_t count = random.log_between(3, std::clamp<int64_t>(request.tokens() * 9 / 10 / each, 3, 120));
  AskDraft draft;
  std::set<std::string> names;
  for (int64_t i = 0; i < count; ++i) {
    std::vector<std::string> cells{sources.words.draw("name", random)};
    if (!names.insert(cells[0]).second) continue;
    for (const Column& column : columns) cells.push_back(sources.words.draw(column.list, random));
    list += record_line(layout, columns, cells) + "\n";
    const size_t c = static_cast<size_t>(random.below(static_cast<int64_t>(columns.size())));
    const char* forms[] = {"What is the {} of {}?", "Which {} is given for {}?",
                           "What does the table say under {} for {}?"};
    draft.turns.push_back({fmt::format(fmt::runtime(random.pick(forms)), columns[c].name, cells[0]), cells[c + 1]});
  }
  list.pop_back();
  random.shuffle(draft.turns);
  place(sources, request, std::move(list), count * each, draft);
  return draft;
}

}  // namespace

AskDraft make_pairs(const AskSources& sources, AskRequest& request) {
  constexpr double kRecords = 0.25;
  return request.random.chance(kRecords) ? make_records(sources, request) : make_list(sources, request);
}

}  // namespace cepe
