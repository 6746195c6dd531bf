// JSON files.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

namespace cepe {

// Reads and parses a JSON file; errors name the file and the byte where parsing stopped.
nlohmann::json read_json(const std::filesystem::path& path);

}  // namespace cepe
