#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <cstring>
#include <set>

#include "base/error.h"
#include "model/checkpoint/checkpoint.h"
#include "model/checkpoint/tensor_names.h"

namespace cepe {
namespace {

std::string shape_text(const std::vector<int64_t>& shape) { return fmt::format("({})", fmt::join(shape, ", ")); }

std::optional<at::ScalarType> plain_type(DType dtype) {
  switch (dtype) {
    case DType::f64: return at::kDouble;
    case DType::f32: return at::kFloat;
    case DType::f16: return at::kHalf;
    case DType::bf16: return at::kBFloat16;
    default: return std::nullopt;
  }
}

// int8 weights with one scale an output channel (row), or one for the whole vector.
at::Tensor decode_int8(const TensorView& view, const TensorSource& source) {
  const TensorView* scale = source.find(view.name + "_scale");
  const std::string where = source.path().string();
  require(scale && scale->dtype == DType::f32 && scale->shape == std::vector<int64_t>{view.shape.at(0)},
          "{}: tensor {} is int8 and its scales \"{}_scale\" are missing or not F32 of shape ({})", where, view.name,
          view.name, view.shape.at(0));
  require(source.find(view.name + "_zero_point") == nullptr,
          "{}: tensor {} is int8 with zero points, which are not read: expected scales alone", where, view.name);
  at::Tensor values = at::empty(view.shape, at::kChar), scales = at::empty({view.shape[0]}, at::kFloat);
  std::memcpy(values.data_ptr(), view.bytes.data(), view.bytes.size());
  std::memcpy(scales.data_ptr(), scale->bytes.data(), scale->bytes.size());
  std::vector<int64_t> column(view.shape.size(), 1);
  column[0] = view.shape[0];
  return values.to(at::kFloat) * scales.view(column);
}

at::Tensor decode_tensor(const TensorView& view, const LoadInput& input) {
  if (view.dtype == DType::i8) return decode_int8(view, input.source);
  if (const auto type = plain_type(view.dtype)) {
    at::Tensor out = at::empty(view.shape, *type);
    std::memcpy(out.data_ptr(), view.bytes.data(), view.bytes.size());
    return out;
  }
  at::Tensor out = at::empty(view.shape, at::kFloat);
  decode_to_f32(view, out.data_ptr<float>());
  return out;
}

// Why a tensor is missing, as far as the file's other names tell it; begins with ": ".
std::string reason_for_missing(const std::string& name, const TensorSource& source) {
  const std::string module = name.substr(0, name.rfind('.') + 1);
  if (source.find(module + "qweight")) return fmt::format(": {}qweight is quantised as GPTQ and AWQ do", module);
  for (const TensorView& view : source.tensors()) {
    if (view.name.find(".lora_") != std::string::npos) return fmt::format(": {} belongs to an adapter", view.name);
    if (view.name.ends_with("." + name) || name.ends_with("." + view.name))
      return fmt::format(": the file has it under another prefix, as {}", view.name);
  }
  return "";
}

}  // namespace

std::vector<std::string> load_parameters(const std::vector<Parameter>& list, const LoadInput& input) {
  const std::string where = input.source.path().string();
  std::set<std::string> used;
  for (const Parameter& parameter : list) {
    const std::string name = input.names ? input.names->file_name(parameter.name) : parameter.name;
    const TensorView* view = input.source.find(name);
    if (view == nullptr) {
      fail("{}: tensor {} is missing, expected with shape {}{}", where, name, shape_text(parameter.shape),
           reason_for_missing(name, input.source));
    }
    require(view->shape == parameter.shape, "{}: tensor {} has shape {}, expected {}", where, name,
            shape_text(view->shape), shape_text(parameter.shape));
    at::Tensor value = decode_tensor(*view, input);
    const int64_t heads = input.names ? input.names->permuted_heads(parameter.name) : 0;
    if (heads > 0) {
      const int64_t half = parameter.shape[0] / heads / 2;
      value = value.view({heads, half, 2, -1}).transpose(1, 2).reshape(parameter.shape);
    }
    const bool trained = parameter.part != Parameter::Part::decoder;
    const at::ScalarType dtype = trained ? input.trained_dtype.value_or(input.dtype) : input.dtype;
    *parameter.value = value.to(input.device, dtype).contiguous();
    used.insert(name);
    if (view->dtype == DType::i8) used.insert(name + "_scale");
  }
  std::vector<std::string> unused;
  for (const TensorView& view : input.source.tensors()) {
    if (!used.count(view.name)) unused.push_back(view.name);
  }
  return unused;
}

}  // namespace cepe
