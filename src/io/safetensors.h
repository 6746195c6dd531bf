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

// The shards named by a model.safetensors.index.json, as one source. Checks that every tensor the index
// names is in the shard it names; further tensors of a shard are left out.
class ShardedSafetensors : public TensorSource {
 public:
  explicit ShardedSafetensors(const std::filesystem::path& index_json);

  const std::vector<TensorView>& tensors() const override { return tensors_; }
  const TensorView* find(std::string_view name) const override;
  const std::filesystem::path& path() const override { return path_; }

 private:
  std::filesystem::path path_;
  std::vector<std::unique_ptr<SafetensorsFile>> shards_;
  std::vector<TensorView> tensors_;
  std::unordered_map<std::string, size_t> index_;
};

// Writes tensors atomically (see AtomicFile): wider element types first and in the given order within a width, after
// a header padded to 8 bytes, so that every tensor is aligned to its element (the reference library needs that).
void write_safetensors(const std::filesystem::path& path, const std::vector<TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata);

}  // namespace cepe
