#include "apps/output_files.h"

#include <filesystem>

#include "base/error.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

// By the file itself where both exist, else by the path that the links in it lead to.
bool same_file(const std::string& a, const std::string& b) {
  std::error_code error;
  if (fs::equivalent(a, b, error) && !error) return true;
  const fs::path first = fs::weakly_canonical(a, error);
  if (error) return false;
  const fs::path second = fs::weakly_canonical(b, error);
  return !error && first == second;
}

}  // namespace

void check_output_files(const std::vector<OutputFile>& outputs, const std::vector<std::string>& inputs) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    const auto& [option, path] = outputs[i];
    if (path.empty()) continue;
    for (const std::string& input : inputs) {
      require(!same_file(path, input), "{} {}: expected a file to write, found an input of the command", option, path);
    }
    for (size_t j = 0; j < i; ++j) {
      require(outputs[j].path.empty() || !same_file(path, outputs[j].path),
              "{} and {}: expected two files, found {} for both", outputs[j].option, option, path);
    }
  }
}

}  // namespace cepe
