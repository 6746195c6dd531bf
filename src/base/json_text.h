// JSON as text that is always UTF-8.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace cepe {

// The value as JSON, with line breaks where an indent is given, and nothing after the last brace. Strings of it that
// are not UTF-8 (names of files, texts that were cut inside a character) have U+FFFD in place of the faulty bytes:
// a result is not lost for its name.
std::string json_text(const nlohmann::json& value, int indent = -1);

}  // namespace cepe
