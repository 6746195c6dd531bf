// The GGUF format, versions 2 and 3 (docs/formats/gguf.md): metadata key-values, then tensors.
// Everything is checked before it is believed: magic, version, counts, string lengths, types, alignment,
// overlaps and the file's end.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/file.h"
#include "io/tensor_source.h"

namespace cepe {

class GgufFile : public TensorSource {
 public:
  // A metadata value: integers of every width are held as int64_t/uint64_t, floats as double.
  using Array = std::variant<std::vector<int64_t>, std::vector<uint64_t>, std::vector<double>, std::vector<bool>,
                             std::vector<std::string>>;
  using Value = std::variant<int64_t, uint64_t, double, bool, std::string, Array>;

  // Error too where the file is one part of a split model: the parts have to be merged first.
  explicit GgufFile(const std::filesystem::path& path);

  const std::vector<TensorView>& tensors() const override { return tensors_; }  // shape is outermost first
  const TensorView* find(std::string_view name) const override;
  const std::filesystem::path& path() const override { return file_.path(); }

  const Value* value(const std::string& key) const;  // null when absent
  std::vector<std::string> keys() const;             // in alphabetical order
  // The value as the asked type. Throws Error naming file and key when absent (no fallback) or of another kind.
  std::string string(const std::string& key) const;
  int64_t integer(const std::string& key) const;
  int64_t integer(const std::string& key, int64_t fallback) const;
  double number(const std::string& key, double fallback) const;  // accepts integers too
  double number(const std::string& key) const;
  bool boolean(const std::string& key, bool fallback) const;
  const std::vector<std::string>& strings(const std::string& key) const;
  std::vector<double> numbers(const std::string& key) const;
  std::vector<int64_t> integers(const std::string& key) const;

 private:
  MappedFile file_;
  std::unordered_map<std::string, Value> values_;
  std::vector<TensorView> tensors_;
  std::unordered_map<std::string, size_t> index_;
};

// Whether a file begins with the format's magic, whatever its name. False for what cannot be read.
bool is_gguf_file(const std::filesystem::path& path);

}  // namespace cepe
