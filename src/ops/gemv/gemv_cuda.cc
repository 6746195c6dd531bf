#include "ops/gemv/gemv_cuda.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "ops/cuda/capability.h"
#include "ops/cuda/launch.h"
#include "ops/dispatch.h"
#include "ops/gemv/gemv_kernel.h"

namespace cepe {
namespace {

int64_t rows_of(const at::Tensor& x) { return x.numel() / std::max<int64_t>(1, x.size(-1)); }

// The rows of x lie in shared memory, beside up to 16 KB of other things.
bool few_rows(const at::Tensor& x, int64_t rows) {
  return rows > 0 && rows <= dispatch::kGemvRows && cuda::operand(x) &&
         rows * x.size(-1) * 2 + 16 * 1024 <= cuda::capability(x.get_device()).shared_bytes;
}

bool fits(const at::Tensor& x, const at::Tensor& weight, int64_t rows) {
  return few_rows(x, rows) && gemv_kernel::width_fits(x.size(-1)) && cuda::operand(weight);
}

using gemv_kernel::Args;
using gemv_kernel::Format;

void launch(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& out, Args args) {
  const cuda::Launch launch(x);
  args.x = x.const_data_ptr();
  args.weight = weight.const_data_ptr();
  args.out = out.mutable_data_ptr();
  if (args.semaphores != nullptr)
    gemv_kernel::skinny_gemm(args, launch.stream());
  else
    gemv_kernel::gemv(args, launch.stream());
}

// What a product of tiles writes besides, for as long as it lives.
at::Tensor tile_parts(const at::Tensor& x, const at::Tensor& semaphores, Args& args) {
  const at::Tensor parts = at::empty({gemv_kernel::tile_part_bytes(args)}, x.options().dtype(at::kByte));
  args.parts = parts.mutable_data_ptr(), args.semaphores = semaphores.mutable_data_ptr();
  return parts;
}

// matrix: of `outputs` rows; args: its format and scales.
at::Tensor launch_gemv(const at::Tensor& x, const at::Tensor& matrix, const GemvOptions& options, Args args) {
  require(!options.norm.defined() || vector_aligned(options.norm), "GEMV: the norm does not lie in 16-byte pieces");
  const auto pointer = [](const at::Tensor& t) -> const void* {
    require(!t.defined() || t.is_contiguous(), "GEMV: a norm, bias or residual is not contiguous");
    return t.defined() ? t.const_data_ptr() : nullptr;
  };
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = matrix.size(0) / (options.gated ? 2 : 1);
  const at::Tensor out = at::empty(sizes, x.options());
  args.rows = rows_of(x), args.inputs = x.size(-1), args.outputs = matrix.size(0);
  args.norm = pointer(options.norm), args.eps = static_cast<float>(options.eps);
  args.bias = pointer(options.bias), args.residual = pointer(options.residual), args.gated = options.gated;
  at::Tensor parts;
  if (args.rows > dispatch::kGemvRows) parts = tile_parts(x, options.semaphores, args);
  launch(x, matrix, out, args);
  return out;
}

Format format_of(WeightType type) {
  switch (type) {
    case WeightType::int8: return Format::int8;
    case WeightType::int4: return Format::int4;
    case WeightType::fp8: return Format::fp8;
    case WeightType::stored: break;
  }
  return Format::bf16;
}

}  // namespace

bool cuda_gemv_applies(const at::Tensor& x, const at::Tensor& weight) { return fits(x, weight, rows_of(x)); }

bool cuda_gemv_applies(const at::Tensor& x, const QuantisedWeight& weight) {
  const bool scales_aligned =
      weight.scales.is_contiguous() && reinterpret_cast<uintptr_t>(weight.scales.const_data_ptr()) % 4 == 0;
  return few_rows(x, rows_of(x)) && x.size(-1) == weight.in &&
         gemv_kernel::width_fits(format_of(weight.type), weight.in) && vector_aligned(weight.values) && scales_aligned;
}

at::Tensor cuda_gemv(const at::Tensor& x, const at::Tensor& weight_OI, const GemvOptions& options) {
  return launch_gemv(x, weight_OI, options, {});
}

at::Tensor cuda_gemv(const at::Tensor& x, const QuantisedWeight& weight_OI, const GemvOptions& options) {
  return launch_gemv(x, weight_OI.values, options,
                     {.format = format_of(weight_OI.type), .scales = weight_OI.scales.const_data_ptr()});
}

bool cuda_skinny_gemm_applies(const at::Tensor& x, const at::Tensor& weight, bool gated) {
  if (weight.dim() != 2 || x.dim() == 0 || x.size(-1) != weight.size(1)) return false;
  if (!cuda::operand(x) || !cuda::operand(weight)) return false;
  return gemv_kernel::tiles_fit({.rows = rows_of(x), .inputs = x.size(-1), .outputs = weight.size(0), .gated = gated});
}

at::Tensor cuda_semaphores(const c10::Device& device) {
  return at::zeros({gemv_kernel::kMostTiles}, at::TensorOptions().device(device).dtype(at::kInt));
}

at::Tensor cuda_skinny_gemm(const at::Tensor& x, const at::Tensor& weight_OI, const GemvOptions& options) {
  const at::Tensor& residual = options.residual;
  const bool aligned = !residual.defined() || reinterpret_cast<uintptr_t>(residual.const_data_ptr()) % 8 == 0;
  if (!options.semaphores.defined() || !aligned || !cuda_skinny_gemm_applies(x, weight_OI, options.gated)) return {};
  return launch_gemv(x, weight_OI, options, {});
}

at::Tensor cuda_batched_gemv(const at::Tensor& x_BHI, const at::Tensor& matrices, bool transposed,
                             const at::Tensor& semaphores) {
  const int64_t B = x_BHI.size(0), H = x_BHI.size(1), I = x_BHI.size(2), O = matrices.size(transposed ? 2 : 1);
  Args args{.rows = B, .heads = H, .inputs = I, .outputs = O, .transposed = transposed};
  const bool one_pass = fits(x_BHI, matrices, B) && O % 8 == 0;
  const bool tiles = !one_pass && semaphores.defined() && cuda::operand(x_BHI) && cuda::operand(matrices) &&
                     gemv_kernel::tiles_fit(args);
  if (!one_pass && !tiles) return {};
  const at::Tensor out = at::empty({B, H, O}, x_BHI.options());
  const at::Tensor parts = tiles ? tile_parts(x_BHI, semaphores, args) : at::Tensor();
  launch(x_BHI, matrices, out, args);
  return out;
}

at::Tensor cuda_dequantise_int4(const QuantisedWeight& weight) {
  const cuda::Launch launch(weight.values);
  const at::Tensor out = at::empty({weight.out, weight.in}, weight.scales.options().dtype(at::kBFloat16));
  gemv_kernel::widen_int4(weight.values.const_data_ptr(), weight.scales.const_data_ptr(), out.mutable_data_ptr(),
                          weight.out * weight.in, launch.stream());
  return out;
}

}  // namespace cepe
