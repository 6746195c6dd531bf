// Where models are: names to paths, and the hash by which trained parts know their base.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/error.h"

namespace cepe {

// The base of trained parts is in none of the places where it was looked for.
class BaseNotFound : public Error {
 public:
  using Error::Error;
};

// The model that a person names: what stands at that path; of a name without a directory else $CEPE_MODELS/<name>, then
// what scripts/setup.sh fetched (~/.cache/cepe/models/<name>). Error listing the places looked at.
std::filesystem::path find_model(const std::string& name);
// True for a directory of trained parts, whose decoder is another model.
bool is_trained_parts(const std::filesystem::path& path);

// Where the base of a trained-parts directory is: the given one, $CEPE_MODELS/<name>, what scripts/setup.sh fetched
// (~/.cache/cepe/models/<name>). BaseNotFound lists the places looked at.
std::filesystem::path resolve_base(const std::string& name, const std::optional<std::filesystem::path>& given);
// SHA-256 of a GGUF file; of a directory: of the lines "<sha256>  <file name>\n" of its weight_files() in name order.
std::string hash_weights(const std::filesystem::path& path);

}  // namespace cepe
