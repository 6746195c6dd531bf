// Files of records: a JSON object a line, or one JSON value.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace cepe {

// Where a record stands: the file and the place, for errors, and the place alone, the id of a record without one.
struct RecordPlace {
  std::string where, short_name;  // "dev.jsonl:17", "line 17"; "dev.json: [3]", "[3]"
};

// Error naming the place where the text is no JSON, is not UTF-8 or holds a number beyond a double.
nlohmann::json parse_json_text(std::string_view text, const std::string& where);

// Whether a file holds an object a line, whatever its name: it is named so (.jsonl, .ndjson), or its first line is a
// whole object and more follow.
bool has_object_lines(const std::filesystem::path& path);

}  // namespace cepe
