#include "ops/gemv/gemv_kernels.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "ops/dispatch.h"
#include "ops/gemv/gemv_cpu.h"
#include "ops/gemv/gemv_cuda.h"
#include "ops/operand.h"

namespace cepe {
namespace {

int64_t rows_of(const at::Tensor& x) { return x.numel() / std::max<int64_t>(1, x.size(-1)); }

bool kernel_type(at::ScalarType type) { return type == at::kBFloat16 || type == at::kFloat; }

// Values of x's type that the CPU kernel reads one after another, or none.
bool readable(const at::Tensor& values, const at::Tensor& x) {
  return !values.defined() || kernel_operand(values, at::kCPU, x.scalar_type());
}

bool few_rows(const at::Tensor& x) {
  const int64_t rows = rows_of(x);
  return rows > 0 && rows <= dispatch::kGemvRows && kernel_type(x.scalar_type()) &&
         kernel_operand(x, at::kCPU, x.scalar_type());
}

bool fits_cpu(const at::Tensor& x, const QuantisedWeight& weight) {
  const bool format = weight.type == WeightType::int8 || (weight.type == WeightType::int4 && weight.tiled);
  return x.dim() > 0 && few_rows(x) && x.size(-1) == weight.in && format && weight.values.is_cpu() &&
         gemv_cpu::sizes_fit(weight.out, weight.in) && weight.values.is_contiguous() && weight.scales.is_contiguous();
}

// A matrix in float32 is LibTorch's.
bool fits_cpu(const at::Tensor& x, const at::Tensor& weight) {
  return x.dim() > 0 && weight.dim() == 2 && x.scalar_type() == at::kBFloat16 && few_rows(x) &&
         kernel_operand(weight, at::kCPU) && x.size(-1) == weight.size(1) &&
         gemv_cpu::sizes_fit(weight.size(0), weight.size(1));
}

// gemv: the matrix, its format, scales and sizes.
at::Tensor cpu_product(const at::Tensor& x, const GemvOptions& options, cpu::Gemv gemv) {
  require(readable(options.norm, x) && readable(options.bias, x) && readable(options.residual, x),
          "GEMV: a norm, bias or residual is not contiguous, or not in {}", c10::toString(x.scalar_type()));
  const auto values = [](const at::Tensor& t) { return t.defined() ? t.const_data_ptr() : nullptr; };
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = gemv.outputs / (options.gated ? 2 : 1);
  const at::Tensor out = at::empty(sizes, x.options());
  gemv.half = x.scalar_type() == at::kBFloat16;
  gemv.x = values(x), gemv.out = out.mutable_data_ptr(), gemv.rows = rows_of(x);
  gemv.norm = values(options.norm), gemv.eps = static_cast<float>(options.eps);
  gemv.bias = values(options.bias), gemv.residual = values(options.residual), gemv.gated = options.gated;
  gemv_cpu::gemv(gemv);
  return out;
}

cpu::Gemv quantised_matrix(const QuantisedWeight& weight) {
  const bool int4 = weight.type == WeightType::int4;
  return {.format = int4 ? cpu::MatrixFormat::int4 : cpu::MatrixFormat::int8,
          .values = weight.values.const_data_ptr(),
          .scales = weight.scales.const_data_ptr(),
          .inputs = weight.in,
          .outputs = weight.out};
}

// A gated product computes a tile of gate together with one of up.
bool whole_tiles(int64_t outputs, const GemvOptions& options) {
  return !options.gated || outputs / 2 % cpu::kTileRows == 0;
}

}  // namespace

bool gemv_applies(const at::Tensor& x, const at::Tensor& weight) {
  if (weight.dim() != 2 || x.dim() == 0) return false;
  return x.is_cuda() ? cuda_gemv_applies(x, weight) : fits_cpu(x, weight);
}

bool gemv_applies(const at::Tensor& x, const QuantisedWeight& weight) {
  return x.dim() > 0 && (x.is_cuda() ? cuda_gemv_applies(x, weight) : fits_cpu(x, weight));
}

at::Tensor try_gemv(const at::Tensor& x, const at::Tensor& weight_OI, const GemvOptions& options) {
  if (weight_OI.dim() != 2 || x.dim() == 0) return {};
  if (x.is_cuda()) return cuda_gemv_applies(x, weight_OI) ? cuda_gemv(x, weight_OI, options) : at::Tensor();
  if (fits_cpu(x, weight_OI) && whole_tiles(weight_OI.size(0), options)) {
    return cpu_product(x, options,
                       {.format = cpu::MatrixFormat::bfloat16,
                        .values = weight_OI.const_data_ptr(),
                        .inputs = weight_OI.size(1),
                        .outputs = weight_OI.size(0)});
  }
  return {};
}

at::Tensor try_gemv(const at::Tensor& x, const QuantisedWeight& weight_OI, const GemvOptions& options) {
  if (x.dim() == 0) return {};
  if (x.is_cuda()) return cuda_gemv_applies(x, weight_OI) ? cuda_gemv(x, weight_OI, options) : at::Tensor();
  if (fits_cpu(x, weight_OI) && whole_tiles(weight_OI.out, options)) {
    return cpu_product(x, options, quantised_matrix(weight_OI));
  }
  return {};
}

}  // namespace cepe
