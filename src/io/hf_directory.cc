#include "io/hf_directory.h"

#include "base/error.h"
#include "base/file.h"
#include "io/safetensors.h"

namespace cepe {
namespace {

nlohmann::json read_object(const std::filesystem::path& path) {
  nlohmann::json value = read_json(path);
  require(value.is_object(), "{}: holds {}, expected a JSON object", path.string(), value.type_name());
  return value;
}

nlohmann::json read_object_if_present(const std::filesystem::path& path) {
  return std::filesystem::exists(path) ? read_object(path) : nlohmann::json::object();
}

std::optional<std::filesystem::path> path_if_present(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  return path;
}

std::unique_ptr<TensorSource> open_weights_in(const std::filesystem::path& directory) {
  auto single = directory / "model.safetensors", index = directory / "model.safetensors.index.json";
  if (std::filesystem::exists(single)) return std::make_unique<SafetensorsFile>(single);
  if (std::filesystem::exists(index)) return std::make_unique<ShardedSafetensors>(index);
  for (const char* pickled : {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    require(!std::filesystem::exists(directory / pickled),
            "{}: holds its weights only as {}, expected model.safetensors (save the model as safetensors first)",
            directory.string(), pickled);
  }
  fail("{}: holds neither model.safetensors nor model.safetensors.index.json", directory.string());
}

}  // namespace

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

HfDirectory open_hf_directory(const std::filesystem::path& path, bool open_weights) {
  require(std::filesystem::is_directory(path), "{}: not a directory with a model", path.string());
  require(std::filesystem::exists(path / "config.json"), "{}: not a model directory: it has no config.json",
          path.string());
  HfDirectory model;
  model.path = path;
  model.config = read_object(path / "config.json");
  model.generation_config = read_object_if_present(path / "generation_config.json");
  model.tokenizer_config = read_object_if_present(path / "tokenizer_config.json");
  model.tokenizer_json = path_if_present(path / "tokenizer.json");
  model.tokenizer_model = path_if_present(path / "tokenizer.model");
  if (open_weights) model.weights = open_weights_in(path);
  return model;
}

}  // namespace cepe
