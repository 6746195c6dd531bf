// The safetensors format (docs/formats/safetensors.md): 8 bytes little-endian header length, a JSON header
// {name: {dtype, shape, data_offsets}}, then the bytes. Everything in the header is checked before it is
// believed: length, JSON, types, shapes, that tensors neither overlap nor leave holes nor pass the end.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <unordered_map>

#include "base/file.h"
#include "io/tensor_source.h"

namespace cepe {

class SafetensorsFile : public TensorSource {
 public:
  // Maps the file. Throws Error naming the file, the tensor and what is wrong.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::vector<TensorView>& tensors() const override { return tensors_; }
  const TensorView* find(std::string_view name) const override;
  const std::filesystem::path& path() const override { return file_.path(); }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }  // "__metadata__"

 private:
  MappedFile file_;
  std::vector<TensorView> tensors_;
  std::unordered_map<std::string, size_t> index_;
  std::map<std::string, std::string> metadata_;
};

// Writes tensors atomically (see AtomicFile): wider element types first and in the given order within a width, after
// a header padded to 8 bytes, so that every tensor is aligned to its element (the reference library needs that).
void write_safetensors(const std::filesystem::path& path, const std::vector<TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata);

}  // namespace cepe
