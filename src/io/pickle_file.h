// A pickled checkpoint as torch.save has written it since torch 1.6 (docs/formats/pickle.md): a zip archive of
// records that are not compressed, one with the pickle of a dictionary {name: tensor}, one for each storage.
// pytorch_model.bin is such a file. Nothing in it is executed (io/unpickler.h).
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "io/tensor_source.h"
#include "io/zip.h"

namespace cepe {

struct PickledTensor;

class PickleFile : public TensorSource {
 public:
  // Maps the file; tensors are views into the map, so that a large file takes no memory of its own. A tensor that is
  // not contiguous is copied in row-major order; the copies together are no larger than the file. Tensors may share
  // bytes (tied weights). Throws Error naming the file, the tensor and what is wrong.
  explicit PickleFile(const std::filesystem::path& path);

  const std::vector<TensorView>& tensors() const override { return tensors_; }
  const TensorView* find(std::string_view name) const override;
  const std::filesystem::path& path() const override { return file_.path(); }

 private:
  TensorView view_of(const PickledTensor& tensor, std::span<const std::byte> storage);
  std::span<const std::byte> copy_of(const PickledTensor& tensor, std::span<const std::byte> storage, uint64_t bytes);

  MappedFile file_;
  std::vector<TensorView> tensors_;
  std::unordered_map<std::string, size_t> index_;
  std::vector<std::vector<std::byte>> copies_;
  uint64_t copied_ = 0;  // bytes
};

}  // namespace cepe
