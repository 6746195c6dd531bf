#include "tasks/json_records.h"

#include "base/error.h"
#include "text/text_file.h"

namespace cepe {

using nlohmann::json;

json parse_json_text(std::string_view text, const std::string& where) {
  try {
    return json::parse(text);
  } catch (const json::parse_error& error) {
    fail("{}: not valid JSON in UTF-8: it breaks off or goes wrong at byte {}", where, error.byte);
  } catch (const json::out_of_range&) {
    fail("{}: holds a number beyond the range of a double", where);
  }
}

bool has_object_lines(const std::filesystem::path& path) {
  const std::string name = plain_file_name(path);
  if (name.ends_with(".jsonl") || name.ends_with(".ndjson")) return true;
  TextFile file(path, TextNames::json);
  std::string first, second;
  if (!file.next_line(first) || first.find_first_not_of(" \t") != first.find('{') || !json::accept(first)) return false;
  return file.next_line(second);
}

}  // namespace cepe
