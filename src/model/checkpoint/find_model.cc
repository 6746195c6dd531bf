#include "model/checkpoint/find_model.h"

#include <cstdlib>

#include "base/file.h"
#include "io/hf_directory.h"

namespace cepe {

namespace fs = std::filesystem;

namespace {

// Looks for a model in one place after the other.
class Search {
 public:
  // A place that may not be searched is none, and the list of places says so.
  bool find(const fs::path& place) {
    std::error_code error;
    const bool found = fs::exists(place, error);
    if (found) {
      path_ = place;
    } else {
      looked_ += (looked_.empty() ? "" : ", ") + place.string() + (error ? " (" + error.message() + ")" : "");
    }
    return found;
  }
  bool find_by_name(const fs::path& leaf) {
    const char *models = std::getenv("CEPE_MODELS"), *home = std::getenv("HOME");
    if (models && *models && find(fs::path(models) / leaf)) return true;
    return home && *home && find(fs::path(home) / ".cache/cepe/models" / leaf);
  }
  const fs::path& path() const { return path_; }
  const std::string& looked() const { return looked_; }

 private:
  fs::path path_;
  std::string looked_;
};

}  // namespace

fs::path find_model(const std::string& name) {
  Search search;
  require(!name.empty(), "the name of the model is empty");
  const fs::path path(name);
  if (search.find(path) || (!path.has_parent_path() && search.find_by_name(path))) return search.path();
  const std::string places = search.looked() == name ? "" : " (looked at " + search.looked() + ")";
  fail("{}: no such model file or directory{}", name, places);
}

bool is_trained_parts(const fs::path& path) {
  if (!fs::is_directory(path) || !fs::exists(path / "config.json")) return false;
  const nlohmann::json config = read_json(path / "config.json");
  return config.is_object() && config.contains("cepe_format");
}

fs::path resolve_base(const std::string& name, const std::optional<fs::path>& given) {
  std::error_code unreadable;  // a place that may not be searched holds no base
  if (given) {
    require(fs::exists(*given, unreadable), "{}: no such file or directory", given->string());
    return *given;
  }
  require(fs::path(name).has_filename() && fs::path(name).filename() != "..", "the base model's name is \"{}\"", name);
  Search search;
  if (fs::path(name).is_absolute() && search.find(name)) return search.path();
  if (search.find_by_name(fs::path(name).filename())) return search.path();
  throw BaseNotFound(
      fmt::format("the base model {} was not found (looked at {}): set CEPE_MODELS, or run scripts/setup.sh", name,
                  search.looked()));
}

std::string hash_weights(const fs::path& path) {
  if (!fs::is_directory(path)) return sha256_file(path);
  std::string lines;
  for (const fs::path& file : weight_files(path)) lines += sha256_file(file) + "  " + file.filename().string() + "\n";
  return sha256_bytes(lines);
}

}  // namespace cepe
