// Weights in several files beside an index that names each tensor's file: {"weight_map": {tensor: file name}}
// (docs/formats/safetensors.md).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "io/tensor_source.h"

namespace cepe {

// The shards as one source. Checks that every tensor the index names is in the shard it names; further tensors of a
// shard are left out. A file name with a directory in it is refused.
class ShardedSource : public TensorSource {
 public:
  using OpenShard = std::function<std::unique_ptr<TensorSource>(const std::filesystem::path&)>;
  ShardedSource(const std::filesystem::path& index_json, const OpenShard& open);

  const std::vector<TensorView>& tensors() const override { return tensors_; }
  const TensorView* find(std::string_view name) const override;
  const std::filesystem::path& path() const override { return path_; }

 private:
  std::filesystem::path path_;
  std::vector<std::unique_ptr<TensorSource>> shards_;
  std::vector<TensorView> tensors_;
  std::unordered_map<std::string, size_t> index_;
};

}  // namespace cepe
