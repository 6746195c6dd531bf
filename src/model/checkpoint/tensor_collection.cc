#include "model/checkpoint/tensor_collection.h"

#include <ATen/ATen.h>

#include <set>

#include "base/error.h"
#include "io/safetensors.h"

namespace cepe {

using Weights = SaveOptions::Weights;

void TensorCollection::add(const std::string& name, at::Tensor value, DType dtype) {
  value = value.contiguous();
  TensorView view;
  view.name = name;
  view.dtype = dtype;
  view.shape = value.sizes().vec();
  view.bytes = {static_cast<const std::byte*>(value.data_ptr()), static_cast<size_t>(value.nbytes())};
  kept_.push_back(value);
  views_.push_back(view);
}

void TensorCollection::add_weight(const std::string& name, const at::Tensor& weight, Weights form) {
  const at::Tensor value = weight.detach().to(at::kCPU, at::kFloat);
  if (value.dim() < 2 || form == Weights::f32) return add(name, value, DType::f32);
  if (form == Weights::bf16) return add(name, value.to(at::kBFloat16), DType::bf16);
  const at::Tensor scale = value.abs().amax(1).div(127.0).clamp_min(1e-12);
  add(name, value.div(scale.unsqueeze(1)).round().clamp(-127, 127).to(at::kChar), DType::i8);
  add(name + "_scale", scale, DType::f32);
}

const char* TensorCollection::matrix_type() const {
  std::set<DType> types;
  for (const TensorView& view : views_) {
    if (view.shape.size() >= 2) types.insert(view.dtype);
  }
  if (types.count(DType::f64)) return "float64";
  if (types == std::set{DType::bf16}) return "bfloat16";
  return types == std::set{DType::f16} ? "float16" : "float32";
}

void TensorCollection::write(const std::filesystem::path& path) const {
  write_safetensors(path, views_, {{"format", "pt"}});
}

const char* weights_name(Weights weights) {
  return weights == Weights::f32 ? "float32" : weights == Weights::bf16 ? "bfloat16" : "int8";
}

void make_model_directory(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  require(!error, "{}: cannot create the directory: {}", directory.string(), error.message());
}

}  // namespace cepe
