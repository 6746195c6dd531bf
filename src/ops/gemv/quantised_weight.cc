#include "ops/gemv/quantised_weight.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <tuple>

#include "base/error.h"
#include "ops/dispatch.h"
#include "ops/gemm/fp8.h"
#include "ops/gemv/gemv_cpu.h"
#include "ops/gemv/gemv_cuda.h"
#include "ops/gemv/gemv_kernels.h"

namespace cepe {
namespace {

struct Grid {
  at::Tensor values, scale,
      zero;          // (groups, 32) integers as floats, (groups, 1), (groups, 1) as the kernel will see them
  at::Tensor error;  // (groups, 1): the sum of squares
};

// w (groups, 32) on the grid (value - 8) * scale + zero, scale and zero rounded to bfloat16 first.
Grid on_grid(const at::Tensor& w, const at::Tensor& scale, const at::Tensor& zero) {
  Grid grid;
  grid.scale = scale.to(at::kBFloat16).to(at::kFloat);
  grid.zero = zero.to(at::kBFloat16).to(at::kFloat);
  const at::Tensor step = at::where(grid.scale == 0, at::ones_like(grid.scale), grid.scale);
  grid.values = ((w - grid.zero) / step + 8).round().clamp(0, 15);
  grid.error = ((grid.values - 8) * grid.scale + grid.zero - w).square().sum(-1, true);
  return grid;
}

const uint16_t* bits(const at::Tensor& x) { return static_cast<const uint16_t*>(x.const_data_ptr()); }

// values (out, in), scales (out, in / 32, 2)
void tile_int4(const at::Tensor& values, const at::Tensor& scales, QuantisedWeight& out) {
  out.tiled = true;
  out.values = at::empty({out.out, out.in / 2}, at::kByte);
  out.scales = at::empty_like(scales);
  gemv_cpu::tile_int4({values.const_data_ptr<uint8_t>(), bits(scales), out.out, out.in},
                      out.values.mutable_data_ptr<uint8_t>(), static_cast<uint16_t*>(out.scales.mutable_data_ptr()));
}

void pack_int4(const at::Tensor& weight, QuantisedWeight& out) {
  const at::Tensor w = weight.to(at::kFloat).reshape({-1, kInt4Group});
  const at::Tensor least = std::get<0>(w.min(-1, true)), greatest = std::get<0>(w.max(-1, true));
  const at::Tensor step = (greatest - least) / 15;
  const Grid whole = on_grid(w, step, least + 8 * step);
  // Q4_0: the weight of the greatest magnitude, with its sign, is -8 steps.
  const at::Tensor extreme = at::where(greatest > -least, greatest, least);
  const Grid symmetric = on_grid(w, extreme / -8, at::zeros_like(extreme));
  const at::Tensor better = symmetric.error < whole.error;
  const at::Tensor values = at::where(better, symmetric.values, whole.values).to(at::kByte).view({out.out, out.in});
  const at::Tensor scale = at::where(better, symmetric.scale, whole.scale),
                   zero = at::where(better, symmetric.zero, whole.zero);
  const int64_t groups = out.in / kInt4Group;
  const at::Tensor by_row = at::cat({scale, zero}, -1).view({out.out, groups, 2});
  if (!weight.is_cuda() && gemv_cpu::available()) return tile_int4(values, by_row.to(at::kBFloat16), out);
  out.scales = (weight.is_cuda() ? by_row : by_row.transpose(0, 1).contiguous()).to(at::kBFloat16);
  const at::Tensor even = values.slice(1, 0, out.in, 2), odd = values.slice(1, 1, out.in, 2);
  out.values = even.bitwise_left_shift(4).bitwise_or(odd);
  if (!weight.is_cuda()) out.packed = at::_convert_weight_to_int4pack_for_cpu(values.to(at::kInt), /*innerKTiles=*/1);
}

void pack_int8(const at::Tensor& weight, QuantisedWeight& out) {
  const at::Tensor w = weight.to(at::kFloat);
  const at::Tensor scale = w.abs().amax(-1, true).clamp_min(1e-12) / 127;
  out.values = (w / scale).round().clamp(-127, 127).to(at::kChar);
  out.scales = scale.squeeze(1);
}

// (value - 8) * scale + zero, row by row: one pass, where tensor operations would take five.
at::Tensor unpack_int4_cpu(const QuantisedWeight& weight) {
  const at::Tensor out = at::empty({weight.out, weight.in}, at::kBFloat16);
  if (weight.tiled) {
    gemv_cpu::widen_int4(weight.values.const_data_ptr<uint8_t>(), bits(weight.scales), weight.out, weight.in,
                         static_cast<uint16_t*>(out.mutable_data_ptr()));
    return out;
  }
  const uint8_t* const values = weight.values.const_data_ptr<uint8_t>();
  const auto* const scales = weight.scales.const_data_ptr<at::BFloat16>();
  auto* const to = out.mutable_data_ptr<at::BFloat16>();
  at::parallel_for(0, weight.out, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t group = 0; group < weight.in / kInt4Group; ++group) {
        const float scale = scales[(group * weight.out + row) * 2], zero = scales[(group * weight.out + row) * 2 + 1];
        const uint8_t* const from = values + (row * weight.in + group * kInt4Group) / 2;
        at::BFloat16* const at = to + row * weight.in + group * kInt4Group;
        for (int64_t i = 0; i < kInt4Group / 2; ++i) {
          at[2 * i] = static_cast<float>((from[i] >> 4) - 8) * scale + zero;
          at[2 * i + 1] = static_cast<float>((from[i] & 15) - 8) * scale + zero;
        }
      }
    }
  });
  return out;
}

at::Tensor unpack_int4(const QuantisedWeight& weight) {
  if (!weight.values.is_cuda()) return unpack_int4_cpu(weight);
  return cuda_dequantise_int4(weight);
}

// (rows, in) -> (rows, out) with our kernel, kGemvRows at a time; nothing where it does not apply.
std::optional<at::Tensor> in_few_rows(const at::Tensor& x, const QuantisedWeight& weight) {
  const int64_t many = x.is_cuda()    ? dispatch::kWidenedRowsOnCuda
                       : weight.tiled ? dispatch::kWidenedRowsOfTiles
                                      : dispatch::kWidenedRows;
  if (x.size(0) >= many || x.size(0) == 0) return std::nullopt;
  std::vector<at::Tensor> parts;
  for (const at::Tensor& rows : x.split(dispatch::kGemvRows)) {
    parts.push_back(try_gemv(rows, weight));
    if (!parts.back().defined()) return std::nullopt;
  }
  return parts.size() == 1 ? parts[0] : at::cat(parts);
}

// (rows, in) -> (rows, out)
at::Tensor int4_linear(const at::Tensor& x, const QuantisedWeight& weight) {
  const at::Tensor narrow = x.to(at::kBFloat16);
  if (const auto y = in_few_rows(narrow, weight)) return y->to(x.scalar_type());
  if (!weight.packed.defined() || x.size(0) >= dispatch::kWidenedRows) {
    return at::linear(narrow, unpack_int4(weight)).to(x.scalar_type());
  }
  return at::_weight_int4pack_mm_for_cpu(narrow, weight.packed, kInt4Group, weight.scales).to(x.scalar_type());
}

at::Tensor int8_linear(const at::Tensor& x, const QuantisedWeight& weight) {
  if (const auto y = in_few_rows(x, weight)) return *y;
  // The scale belongs to the output's column, so it can wait until after the product. (LibTorch's kernel for CUDA takes
  // ten times as long.)
  if (x.is_cuda() || x.size(0) >= dispatch::kWidenedRows) {
    return at::linear(x, weight.values.to(x.scalar_type())).mul_(weight.scales.to(x.scalar_type()));
  }
  return at::_weight_int8pack_mm(x, weight.values, weight.scales.to(x.scalar_type()));
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
  for (const at::Tensor& tensor : {values, scales, packed})
    sum += tensor.defined() ? static_cast<int64_t>(tensor.nbytes()) : 0;
  return sum;
}

double read_bytes_a_weight(const QuantisedWeight& weight) {
  const at::Tensor& values = weight.packed.defined() ? weight.packed : weight.values;
  return static_cast<double>(values.nbytes() + weight.scales.nbytes()) / static_cast<double>(weight.out * weight.in);
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
  QuantisedWeight out;
  out.type = type;
  out.out = weight.size(0), out.in = weight.size(1);
  if (type == WeightType::fp8) {
    pack_fp8(weight, out);
  } else {
    type == WeightType::int8 ? pack_int8(weight, out) : pack_int4(weight, out);
  }
  return out;
}

at::Tensor dequantise_weight(const QuantisedWeight& weight, at::ScalarType dtype) {
  if (weight.type == WeightType::int4) return unpack_int4(weight).to(dtype);
  return (weight.values.to(at::kFloat) * weight.scales.unsqueeze(1)).to(dtype);
}

std::optional<QuantisedWeight> merge_quantised(const std::vector<QuantisedWeight*>& parts) {
  QuantisedWeight all = *parts.at(0);
  all.out = 0;
  std::vector<at::Tensor> values, scales;
  for (const QuantisedWeight* part : parts) {
    if (part->type != all.type || part->in != all.in || part->packed.defined()) return std::nullopt;
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
