#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>
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
struct Int8Rows {
  at::Tensor values, scales;
};
Int8Rows read_int8(const TensorView& view, const TensorSource& source) {
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
  return {values, scales};
}

at::Tensor decode_int8(const TensorView& view, const TensorSource& source) {
  const Int8Rows rows = read_int8(view, source);
  std::vector<int64_t> column(view.shape.size(), 1);
  column[0] = view.shape[0];
  return rows.values.to(at::kFloat) * rows.scales.view(column);
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

// Rows of q and k back into halves (TensorNames::permuted_heads); 0 heads: as they are.
at::Tensor rows_in_order(const at::Tensor& value, int64_t heads) {
  if (heads == 0) return value;
  return value.view({heads, value.size(0) / heads / 2, 2, -1}).transpose(1, 2).reshape(value.sizes());
}

// Blocks of Q4_0 and Q4_1 (docs/formats/gguf.md) as int4, exactly: Q4_0 is scale * (number - 8), so that its least
// value is -8 scales. Nothing where a scale or least value is not finite in float16.
std::optional<QuantisedWeight> int4_of_blocks(const TensorView& view, int64_t heads, const at::Device& device) {
  const int64_t rows = view.shape[0], groups = view.shape[1] / kInt4Group;
  const int64_t header = view.dtype == DType::q4_1 ? 4 : 2, nibbles = kInt4Group / 2;
  at::Tensor blocks = at::empty({rows, groups, header + nibbles}, at::kByte);
  std::memcpy(blocks.data_ptr(), view.bytes.data(), view.bytes.size());
  blocks = rows_in_order(blocks.view({rows, -1}), heads).view({rows, groups, -1});
  at::Tensor scales = blocks.narrow(2, 0, header).contiguous().view(at::kHalf);
  if (view.dtype == DType::q4_0) scales = at::cat({scales, scales * -8}, 2);
  if (!at::isfinite(scales).all().item<bool>()) return std::nullopt;
  const at::Tensor both = blocks.narrow(2, header, nibbles);
  const at::Tensor values = at::cat({both.bitwise_and(15), both.bitwise_right_shift(4)}, 2).view({rows, -1});
  return int4_weight(values.to(device), scales.to(device));
}

// The matrix as `input` may hold it without widening it; nothing where the file has it in another form.
std::optional<QuantisedWeight> packed_as_file(const TensorView& view, int64_t heads, const LoadInput& input) {
  const auto may_be = [&](WeightType type) {
    return input.as_file.count(type) > 0 && can_quantise(type, view.shape.at(0), view.shape.at(1));
  };
  switch (view.dtype) {
    case DType::q4_0:
    case DType::q4_1:
      if (may_be(WeightType::int4)) return int4_of_blocks(view, heads, input.device);
      break;
    case DType::q8_0:
      if (!may_be(WeightType::int8)) break;
      return quantise_weight(rows_in_order(decode_tensor(view, input), heads).to(input.device), WeightType::int8);
    case DType::i8: {
      if (!may_be(WeightType::int8)) break;
      const Int8Rows rows = read_int8(view, input.source);
      return QuantisedWeight{.type = WeightType::int8,
                             .out = view.shape[0],
                             .in = view.shape[1],
                             .values = rows.values.to(input.device),
                             .scales = rows.scales.to(input.device)};
    }
    default: break;
  }
  return std::nullopt;
}

// Whether it is held so now, and needs no wide form.
bool load_packed(const Parameter& parameter, const TensorView& view, int64_t heads, const LoadInput& input) {
  const auto place = std::find_if(input.packable.begin(), input.packable.end(),
                                  [&](const PackableMatrix& matrix) { return matrix.wide == parameter.value; });
  if (place == input.packable.end()) return false;
  std::optional<QuantisedWeight> packed = packed_as_file(view, heads, input);
  if (!packed) return false;
  *place->packed = std::make_shared<QuantisedWeight>(std::move(*packed));
  return !place->kept;
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
    used.insert(name);
    if (view->dtype == DType::i8) used.insert(name + "_scale");
    const int64_t heads = input.names ? input.names->permuted_heads(parameter.name) : 0;
    if (load_packed(parameter, *view, heads, input)) continue;
    const at::Tensor value = rows_in_order(decode_tensor(*view, input), heads);
    const bool trained = parameter.part != Parameter::Part::decoder;
    const at::ScalarType dtype = trained ? input.trained_dtype.value_or(input.dtype) : input.dtype;
    *parameter.value = value.to(input.device, dtype).contiguous();
  }
  std::vector<std::string> unused;
  for (const TensorView& view : input.source.tensors()) {
    if (!used.count(view.name)) unused.push_back(view.name);
  }
  return unused;
}

}  // namespace cepe
