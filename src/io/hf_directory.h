// A Hugging Face model directory: config.json, weights (model.safetensors or pytorch_model.bin, whole or in shards
// named by an index), tokenizer files, generation_config.json.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "io/json_file.h"
#include "io/tensor_source.h"

namespace cepe {

struct HfDirectory {
  std::filesystem::path path;
  nlohmann::json config;                                 // config.json, an object
  nlohmann::json generation_config;                      // generation_config.json, or an empty object
  nlohmann::json tokenizer_config;                       // tokenizer_config.json, or an empty object
  std::optional<std::filesystem::path> tokenizer_json;   // byte-level BPE
  std::optional<std::filesystem::path> tokenizer_model;  // SentencePiece
  std::unique_ptr<TensorSource> weights;                 // null when open_weights was false
};

// Throws Error when config.json or the weights are missing or unreadable. Safetensors are taken before pickles.
HfDirectory open_hf_directory(const std::filesystem::path& path, bool open_weights = true);

// config.json of a model directory, an object. Where there is none the Error names what the directory is instead: an
// adapter, the root of a hub cache entry.
nlohmann::json read_model_config(const std::filesystem::path& directory);

// The files of a directory's weights in the order of their names: its .safetensors files, or, where open_hf_directory
// takes the pickles, pytorch_model*.bin. Throws Error where there are none.
std::vector<std::filesystem::path> weight_files(const std::filesystem::path& directory);

}  // namespace cepe
