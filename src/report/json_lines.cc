#include "report/json_lines.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "base/json_text.h"
#include "io/json_file.h"

namespace cepe {
namespace {

using nlohmann::json;

void use_object(const std::string& where, const json& value, const std::function<void(const json&)>& use) {
  require(value.is_object(), "{}: expected a JSON object, found {}", where,
          value.is_discarded() ? "no JSON" : value.type_name());
  try {
    use(value);
  } catch (const json::exception& error) {
    const std::string what = error.what();  // "[json.exception.type_error.302] type must be string, but is number"
    fail("{}: not what cepe writes: {}", where, what.substr(std::min(what.find("] ") + 2, what.size())));
  }
}

// The line as UTF-8: as a string of JSON its faulty bytes are replaced.
std::string as_utf8(const std::string& line) { return json::parse(json_text(json(line))).get<std::string>(); }

}  // namespace

void read_object(const std::filesystem::path& file, const std::function<void(const json&)>& use) {
  use_object(file.string(), read_json(file), use);
}

void for_each_record(const std::filesystem::path& file, const std::function<void(const json&)>& use) {
  const std::string content = read_file(file);
  size_t begin = 0, number = 0;
  for (size_t end = content.find('\n'); end != std::string::npos; end = content.find('\n', begin)) {
    const std::string line = content.substr(begin, end - begin), where = fmt::format("{}:{}", file.string(), ++number);
    begin = end + 1;
    use_object(where, json::parse(as_utf8(line), nullptr, /*allow_exceptions=*/false), use);
  }
}

}  // namespace cepe
