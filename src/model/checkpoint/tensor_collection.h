// The tensors of a safetensors file that is being written.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

#include "io/tensor_source.h"
#include "model/checkpoint/checkpoint.h"

namespace cepe {

class TensorCollection {
 public:
  // Matrices in the asked form; vectors (norms) always in float32, they weigh nothing. int8: with "<name>_scale".
  void add_weight(const std::string& name, const at::Tensor& weight, SaveOptions::Weights form);
  // A tensor as it stands in a file that stays open until write().
  void add_unchanged(const TensorView& view) { views_.push_back(view); }
  // torch_dtype of a configuration: the narrowest type that holds every matrix without rounding it.
  const char* matrix_type() const;
  void write(const std::filesystem::path& path) const;

 private:
  void add(const std::string& name, at::Tensor value, DType dtype);
  std::vector<at::Tensor> kept_;  // what the views look at, on the CPU
  std::vector<TensorView> views_;
};

const char* weights_name(SaveOptions::Weights weights);  // "float32", "bfloat16", "int8"
// Error where it cannot be made.
void make_model_directory(const std::filesystem::path& directory);

}  // namespace cepe
