// Configuration: one scheme for every command. A TOML file gives values, CEPE_<SECTION>_<KEY> environment
// variables override it, and --section.key=value on the command line overrides both. Keys nobody reads are
// refused, so that a misspelt option cannot pass silently.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace cepe {

class Config {
 public:
  Config() = default;
  // Reads a TOML file of [section] tables with scalar or array-of-scalar values; throws Error on anything else.
  static Config from_file(const std::filesystem::path& path);

  // "section.key=value" as given after "--" on a command line; throws Error when malformed.
  void override_with(const std::string& assignment);
  // Applies CEPE_SECTION_KEY variables for the keys that are asked for (in get) from now on.
  void use_environment() { environment_ = true; }

  // The value of "section.key", or the fallback. T: bool, int64_t, double, std::string,
  // std::vector<int64_t>, std::vector<std::string>. Throws Error when the value is not a T, naming the key and file.
  template <typename T>
  T get(const std::string& key, const T& fallback);

  // Throws Error naming the first key that was set but never asked for, with the key that was probably meant, else the
  // keys of its section, else the sections.
  void refuse_unknown_keys() const;

  // Everything that was asked for, with the value used, as TOML; recorded beside results.
  std::string used_as_toml() const;

 private:
  std::string keys_near(const std::string& key) const;

  std::map<std::string, std::string> values_;  // key -> TOML literal
  std::map<std::string, std::string> origin_;  // key -> the file, variable or option it came from
  std::map<std::string, std::string> used_;    // key -> TOML literal of the value used
  bool environment_ = false;
};

}  // namespace cepe
