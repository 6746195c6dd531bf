#include "io/json_file.h"

#include "base/error.h"
#include "base/file.h"

namespace cepe {

nlohmann::json read_json(const std::filesystem::path& path) {
  const std::string text = read_file(path);
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    fail("{}: not valid JSON in UTF-8: it breaks off or goes wrong at byte {}", path.string(), error.byte);
  } catch (const nlohmann::json::out_of_range&) {
    fail("{}: holds a number beyond the range of a double", path.string());
  }
}

}  // namespace cepe
