// The records of an evaluation.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"

namespace cepe {

inline std::vector<nlohmann::json> samples_of(const std::filesystem::path& directory,
                                              const std::string& name = "samples.jsonl") {
  std::vector<nlohmann::json> samples;
  const std::string lines = read_file(directory / name);
  for (size_t begin = 0; begin < lines.size();) {
    const size_t end = lines.find('\n', begin);
    samples.push_back(nlohmann::json::parse(lines.substr(begin, end - begin)));
    begin = end + 1;
  }
  return samples;
}

}  // namespace cepe
