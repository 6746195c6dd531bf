#include "io/hf_directory.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "io/pickle_file.h"
#include "io/safetensors.h"
#include "io/sharded_source.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

// Whether it is there. True as well where the system does not let us look: opening it then says why.
bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::status(path, error).type() != fs::file_type::not_found;
}

nlohmann::json read_object(const fs::path& path) {
  nlohmann::json value = read_json(path);
  require(value.is_object(), "{}: holds {}, expected a JSON object", path.string(), value.type_name());
  return value;
}

nlohmann::json read_object_if_present(const fs::path& path) {
  return is_there(path) ? read_object(path) : nlohmann::json::object();
}

std::optional<fs::path> path_if_present(const fs::path& path) {
  if (!is_there(path)) return std::nullopt;
  return path;
}

// The names in a directory in their order; of a directory that cannot be read, none.
std::vector<fs::path> names_in(const fs::path& directory) {
  std::vector<fs::path> names;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error))
    names.push_back(entry->path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

// What a directory holds that has no config.json, or no weights of a known name: the cause, where it is a known one.
std::string other_content(const fs::path& directory) {
  struct Content {
    const char *file, *meaning;
  };
  static constexpr Content kContents[] = {
      {"adapter_config.json", "an adapter (adapter_config.json), not a model: merge it into its base and save that"},
      {"consolidated.safetensors", "its weights under the names of their makers (consolidated.safetensors)"},
      {"consolidated.00.pth", "its weights under the names of their makers (consolidated.00.pth)"},
      {"tf_model.h5", "its weights for TensorFlow alone (tf_model.h5)"},
      {"flax_model.msgpack", "its weights for Flax alone (flax_model.msgpack)"},
  };
  for (const Content& content : kContents) {
    if (is_there(directory / content.file)) return content.meaning;
  }
  for (const fs::path& name : names_in(directory)) {
    if (name.extension() == ".gguf") return fmt::format("a GGUF file: name {} itself", (directory / name).string());
  }
  return "";
}

bool has_safetensors(const fs::path& directory) {
  return is_there(directory / "model.safetensors") || is_there(directory / "model.safetensors.index.json");
}

template <typename File>
std::unique_ptr<TensorSource> open_file(const fs::path& path) {
  return std::make_unique<File>(path);
}

std::unique_ptr<TensorSource> open_weights_in(const fs::path& directory) {
  struct Form {
    const char* file;
    ShardedSource::OpenShard open;
  };
  const Form forms[] = {{"model.safetensors", open_file<SafetensorsFile>},
                        {"pytorch_model.bin", open_file<PickleFile>}};
  for (const Form& form : forms) {
    const fs::path single = directory / form.file, index = directory / (std::string(form.file) + ".index.json");
    if (is_there(single)) return form.open(single);
    if (is_there(index)) return std::make_unique<ShardedSource>(index, form.open);
  }
  const std::string other = other_content(directory);
  require(other.empty(), "{}: expected model.safetensors or pytorch_model.bin, found {}", directory.string(), other);
  fail("{}: holds neither model.safetensors nor pytorch_model.bin, whole or with an index.json", directory.string());
}

}  // namespace

nlohmann::json read_model_config(const fs::path& directory) {
  std::error_code error;
  require(fs::is_directory(directory, error), "{}: not a directory with a model", directory.string());
  const fs::path config = directory / "config.json";
  if (is_there(config)) return read_object(config);
  // Hugging Face's cache keeps each revision of models--<owner>--<name> in a directory of its own.
  const std::vector<fs::path> snapshots = names_in(directory / "snapshots");
  require(snapshots.empty(), "{}: the root of a hub cache entry, not a model directory: name the snapshot {}",
          directory.string(), snapshots.empty() ? "" : (directory / "snapshots" / snapshots[0]).string());
  const std::string other = other_content(directory);
  require(other.empty(), "{}: not a model directory: it has no config.json, but {}", directory.string(), other);
  fail("{}: not a model directory: it has no config.json", directory.string());
}

std::vector<fs::path> weight_files(const fs::path& directory) {
  const bool pickled = !has_safetensors(directory);
  std::vector<fs::path> files;
  for (const fs::path& name : names_in(directory)) {
    if (pickled ? name.string().starts_with("pytorch_model") && name.extension() == ".bin"
                : name.extension() == ".safetensors")
      files.push_back(directory / name);
  }
  require(!files.empty(), "{}: holds neither .safetensors nor pytorch_model*.bin files", directory.string());
  return files;
}

HfDirectory open_hf_directory(const fs::path& path, bool open_weights) {
  HfDirectory model;
  model.path = path;
  model.config = read_model_config(path);
  model.generation_config = read_object_if_present(path / "generation_config.json");
  model.tokenizer_config = read_object_if_present(path / "tokenizer_config.json");
  model.tokenizer_json = path_if_present(path / "tokenizer.json");
  model.tokenizer_model = path_if_present(path / "tokenizer.model");
  if (open_weights) model.weights = open_weights_in(path);
  return model;
}

}  // namespace cepe
