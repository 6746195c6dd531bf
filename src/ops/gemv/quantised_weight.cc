#include "ops/gemv/quantised_weight.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <tuple>

#include "base/error.h"
#include "ops/cpu/gemv_args.h"
#include "ops/cpu/targets.h"
#include "ops/dispatch.h"
#include "ops/gemm/fp8.h"
#include "ops/gemv/gemv_cpu.h"
#include "ops/gemv/gemv_cuda.h"
#include "ops/gemv/gemv_kernels.h"
#include "ops/gemv/quantised_gemm_cpu.h"

namespace cepe {
namespace {

const uint16_t* bits(const at::Tensor& x) { return static_cast<const uint16_t*>(x.const_data_ptr()); }

// values (out, in), scales (out, in / 32, 2)
void tile_int4(const at::Tensor& values, const at::Tensor& scales, QuantisedWeight& out) {
  out.tiled = true;
  out.values = at::empty({out.out, out.in / 2}, at::kByte);
  out.scales = at::empty_like(scales);
  gemv_cpu::tile_int4({values.const_data_ptr<uint8_t>(), bits(scales), out.out, out.in},
                      out.values.mutable_data_ptr<uint8_t>(), static_cast<uint16_t*>(out.scales.mutable_data_ptr()));
}

// A grid from the least to the greatest weight of each group. The numbers are those of the grid as it is held: with
// scale and least value rounded to float16, and within its range.
QuantisedWeight pack_int4(const at::Tensor& weight) {
  constexpr float kGreatest = 65504;  // of float16
  const at::Tensor w = weight.to(at::kFloat).reshape({-1, kInt4Group});
  const auto rounded = [](const at::Tensor& x) { return x.to(at::kHalf).to(at::kFloat); };
  const at::Tensor least = rounded(std::get<0>(w.min(-1, true)).clamp(-kGreatest, kGreatest));
  const at::Tensor scale = rounded(((std::get<0>(w.max(-1, true)) - least) / 15).clamp(0, kGreatest));
  const at::Tensor step = at::where(scale == 0, at::ones_like(scale), scale);
  const at::Tensor values = ((w - least) / step).round().clamp(0, 15).to(at::kByte);
  return int4_weight(values.view(weight.sizes()),
                     at::cat({scale, least}, -1).to(at::kHalf).view({weight.size(0), -1, 2}));
}

void pack_int8(const at::Tensor& weight, QuantisedWeight& out) {
  const at::Tensor w = weight.to(at::kFloat);
  const at::Tensor scale = w.abs().amax(-1, true).clamp_min(1e-12) / 127;
  out.values = (w / scale).round().clamp(-127, 127).to(at::kChar);
  out.scales = scale.squeeze(1);
}

at::Tensor unpack_int4_cpu(const QuantisedWeight& weight, bool half) {
  const gemv_cpu::Int4Tiles tiles{weight.values.const_data_ptr<uint8_t>(), bits(weight.scales), weight.out, weight.in};
  const at::Tensor out = at::empty({weight.out, weight.in}, half ? at::kBFloat16 : at::kFloat);
  half ? gemv_cpu::widen_int4(tiles, static_cast<uint16_t*>(out.mutable_data_ptr()))
       : gemv_cpu::widen_int4(tiles, out.mutable_data_ptr<float>());
  return out;
}

// The whole matrix in bfloat16 where that is asked for and this device multiplies it, else in float32.
at::Tensor unpack_int4(const QuantisedWeight& weight, bool half) {
  if (weight.values.is_cuda()) return cuda_dequantise_int4(weight);
  return unpack_int4_cpu(weight, half && cpu::bfloat16_products());
}

// (rows, in) -> (rows, out) with the kernel of few rows, kGemvRows at a time; nothing where it does not apply.
std::optional<at::Tensor> in_few_rows(const at::Tensor& x, const QuantisedWeight& weight) {
  std::vector<at::Tensor> parts;
  for (const at::Tensor& rows : x.split(dispatch::kGemvRows)) {
    parts.push_back(try_gemv(rows, weight));
    if (!parts.back().defined()) return std::nullopt;
  }
  return parts.size() == 1 ? parts[0] : at::cat(parts);
}

// Rows that are too many for in_few_rows().
int64_t many_rows(const at::Tensor& x, const QuantisedWeight& weight) {
  if (x.is_cuda()) return dispatch::kWidenedRowsOnCuda;
  return weight.type == WeightType::int4 ? dispatch::kGemmRowsOfInt4 : dispatch::kGemmRowsOfInt8;
}

// Whether a CPU multiplies many such rows faster with the matrix widened to bfloat16; float32 stays float32.
bool in_bfloat16(const at::Tensor& x) {
  return x.scalar_type() == at::kBFloat16 && x.size(0) >= dispatch::kWidenedRows && cpu::fast_bfloat16_products();
}

bool gemm_fits(const at::Tensor& x, const QuantisedWeight& weight) {
  const bool type = x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
  return x.is_cpu() && type && weight.in % cpu::kGroup == 0 && weight.values.is_contiguous() &&
         weight.scales.is_contiguous();
}

// (rows, in) -> (rows, out) by our kernels; nothing where none applies.
std::optional<at::Tensor> by_kernels(const at::Tensor& x, const QuantisedWeight& weight) {
  if (x.size(0) == 0) return std::nullopt;
  if (x.size(0) < many_rows(x, weight)) {
    if (auto y = in_few_rows(x, weight)) return y;
  }
  if (!gemm_fits(x, weight) || in_bfloat16(x)) return std::nullopt;
  return quantised_gemm_cpu(x.to(at::kFloat), weight).to(x.scalar_type());
}

at::Tensor int4_linear(const at::Tensor& x, const QuantisedWeight& weight) {
  const at::Tensor rows = x.is_cuda() ? x.to(at::kBFloat16) : x;
  if (const auto y = by_kernels(rows, weight)) return y->to(x.scalar_type());
  const at::Tensor matrix = unpack_int4(weight, rows.scalar_type() == at::kBFloat16);
  return at::linear(x.to(matrix.scalar_type()), matrix).to(x.scalar_type());
}

// The scale belongs to the output's column, so it can wait until after the product. (LibTorch's kernel for CUDA takes
// ten times as long.)
at::Tensor int8_linear(const at::Tensor& x, const QuantisedWeight& weight) {
  if (const auto y = by_kernels(x, weight)) return *y;
  const at::ScalarType type = x.scalar_type();
  return at::linear(x, weight.values.to(type)).mul_(weight.scales.to(type));
}

void pack_fp8(const at::Tensor& weight, QuantisedWeight& out) {
  const Fp8Rows rows = fp8_rows(weight);
  out.values = rows.values;
  out.scales = rows.scales.squeeze(1);
}

at::Tensor fp8_linear(const at::Tensor& x, const QuantisedWeight& weight) {
  require(x.scalar_type() == at::kBFloat16, "products in fp8: activations in {}, expected bfloat16",
          c10::toString(x.scalar_type()));
  if (const at::Tensor y = try_gemv(x, weight); y.defined()) return y;
  return fp8_product(fp8_rows(x), {weight.values, weight.scales});
}

at::Tensor linear_of_rows(const at::Tensor& x, const QuantisedWeight& weight) {
  switch (weight.type) {
    case WeightType::int4: return int4_linear(x, weight);
    case WeightType::fp8: return fp8_linear(x, weight);
    default: return int8_linear(x, weight);
  }
}

}  // namespace

const char* weight_type_name(WeightType type) {
  switch (type) {
    case WeightType::stored: return "stored";
    case WeightType::int8: return "int8";
    case WeightType::int4: return "int4";
    case WeightType::fp8: return "fp8";
  }
  return "";
}

int64_t QuantisedWeight::bytes() const {
  int64_t sum = 0;
  for (const at::Tensor& tensor : {values, scales}) sum += tensor.defined() ? static_cast<int64_t>(tensor.nbytes()) : 0;
  return sum;
}

double read_bytes_a_weight(const QuantisedWeight& weight) {
  return static_cast<double>(weight.values.nbytes() + weight.scales.nbytes()) /
         static_cast<double>(weight.out * weight.in);
}

bool can_quantise(WeightType type, int64_t out, int64_t in) {
  if (type == WeightType::fp8) return fp8_fits(out, in);
  return type == WeightType::int8 || (type == WeightType::int4 && in % kInt4Group == 0 && out % 16 == 0);
}

QuantisedWeight quantise_weight(const at::Tensor& weight, WeightType type) {
  require(
      weight.dim() == 2 && can_quantise(type, weight.size(0), weight.size(1)),
      "a matrix of shape {} cannot be held as {}",
      weight.dim() == 2 ? fmt::format("({}, {})", weight.size(0), weight.size(1)) : "with other than two dimensions",
      weight_type_name(type));
  if (type == WeightType::int4) return pack_int4(weight);
  QuantisedWeight out;
  out.type = type;
  out.out = weight.size(0), out.in = weight.size(1);
  type == WeightType::fp8 ? pack_fp8(weight, out) : pack_int8(weight, out);
  return out;
}

QuantisedWeight int4_weight(const at::Tensor& values_OI, const at::Tensor& scales) {
  QuantisedWeight out;
  out.type = WeightType::int4;
  out.out = values_OI.size(0), out.in = values_OI.size(1);
  if (!values_OI.is_cuda()) {
    tile_int4(values_OI.contiguous(), scales.contiguous(), out);
    return out;
  }
  const at::Tensor even = values_OI.slice(1, 0, out.in, 2), odd = values_OI.slice(1, 1, out.in, 2);
  out.values = even.bitwise_left_shift(4).bitwise_or(odd);
  out.scales = scales.contiguous();
  return out;
}

at::Tensor dequantise_weight(const QuantisedWeight& weight, at::ScalarType dtype) {
  if (weight.type == WeightType::int4) return unpack_int4(weight, dtype == at::kBFloat16).to(dtype);
  return (weight.values.to(at::kFloat) * weight.scales.unsqueeze(1)).to(dtype);
}

std::optional<QuantisedWeight> merge_quantised(const std::vector<QuantisedWeight*>& parts) {
  QuantisedWeight all = *parts.at(0);
  all.out = 0;
  std::vector<at::Tensor> values, scales;
  for (const QuantisedWeight* part : parts) {
    if (part->type != all.type || part->in != all.in) return std::nullopt;
    all.out += part->out;
    values.push_back(part->values), scales.push_back(part->scales);
  }
  all.values = at::cat(values), all.scales = at::cat(scales);
  int64_t row = 0;
  for (QuantisedWeight* part : parts) {
    part->values = all.values.narrow(0, row, part->out);
    part->scales = all.scales.narrow(0, row, part->out);
    row += part->out;
  }
  return all;
}

at::Tensor quantised_linear(const at::Tensor& x, const QuantisedWeight& weight) {
  require(x.size(-1) == weight.in, "quantised weights: {} inputs, expected {}", x.size(-1), weight.in);
  const at::Tensor rows = x.reshape({-1, weight.in}).contiguous();  // as LibTorch's kernels and ours want them
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight.out;
  return linear_of_rows(rows, weight).view(shape);
}

}  // namespace cepe
