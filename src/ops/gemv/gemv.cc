#include "ops/gemv/gemv.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "base/error.h"
#include "ops/gemv/gemv_cpu.h"
#include "ops/gemv/quantised_weight.h"
#include "ops/ops.h"
#ifdef CEPE_CUDA
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>

#include "ops/gemv/gemv_kernel.h"
#endif

namespace cepe {
namespace {

#ifdef CEPE_CUDA
bool in_pieces(const at::Tensor& x) {
  return x.is_contiguous() && reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0;
}

bool few_rows(const at::Tensor& x, int64_t rows) {
  const bool trains = c10::GradMode::is_enabled() && x.requires_grad();
  return x.is_cuda() && x.scalar_type() == at::kBFloat16 && !trains && rows > 0 && rows <= kGemvRows && in_pieces(x);
}
#endif

bool fits(const at::Tensor& x, const at::Tensor& weight, int64_t rows) {
#ifdef CEPE_CUDA
  const bool trains = c10::GradMode::is_enabled() && weight.requires_grad();
  return few_rows(x, rows) && weight.scalar_type() == at::kBFloat16 && !trains && gemv_kernel::width_fits(x.size(-1)) &&
         in_pieces(weight);
#else
  (void)x, (void)weight, (void)rows;
  return false;
#endif
}

int64_t rows_of(const at::Tensor& x) { return x.numel() / std::max<int64_t>(1, x.size(-1)); }

#ifdef CEPE_CUDA
using gemv_kernel::Args;
using gemv_kernel::Format;

void launch(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& out, Args args) {
  const c10::cuda::CUDAGuard guard(x.device());
  args.x = x.const_data_ptr();
  args.weight = weight.const_data_ptr();
  args.out = out.mutable_data_ptr();
  void* const stream = at::cuda::getCurrentCUDAStream(x.device().index()).stream();
  if (args.semaphores != nullptr)
    gemv_kernel::skinny_gemm(args, stream);
  else
    gemv_kernel::gemv(args, stream);
}

// What a product of tiles writes besides, for as long as it lives.
at::Tensor tile_parts(const at::Tensor& x, const at::Tensor& semaphores, Args& args) {
  const at::Tensor parts = at::empty({gemv_kernel::tile_part_bytes(args)}, x.options().dtype(at::kByte));
  args.parts = parts.mutable_data_ptr(), args.semaphores = semaphores.mutable_data_ptr();
  return parts;
}

// Whether they are what products of tiles read, of any size.
bool tiled(const at::Tensor& x, const at::Tensor& weight) {
  const bool trains = c10::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad());
  return x.is_cuda() && x.scalar_type() == at::kBFloat16 && weight.scalar_type() == at::kBFloat16 && !trains &&
         in_pieces(x) && in_pieces(weight);
}

// matrix: of `outputs` rows; args: its format and scales.
at::Tensor joined_product(const at::Tensor& x, const at::Tensor& matrix, const GemvOptions& options, Args args) {
  require(!options.norm.defined() || in_pieces(options.norm), "GEMV: the norm does not lie in 16-byte pieces");
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
  if (args.rows > kGemvRows) parts = tile_parts(x, options.semaphores, args);
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
#endif

// Values that the CPU kernel reads one after another, or none.
bool lies(const at::Tensor& x) {
  return !x.defined() || (x.is_cpu() && x.scalar_type() == at::kBFloat16 && x.is_contiguous());
}

bool fits_cpu(const at::Tensor& x, const QuantisedWeight& weight) {
  const bool trains = c10::GradMode::is_enabled() && x.requires_grad();
  const bool format = weight.type == WeightType::int8 || (weight.type == WeightType::int4 && weight.tiled);
  return gemv_cpu::available() && x.dim() > 0 && lies(x) && !trains && rows_of(x) > 0 &&
         rows_of(x) <= gemv_cpu::kMostRows && x.size(-1) == weight.in && format && weight.values.is_cpu() &&
         gemv_cpu::sizes_fit(weight.out, weight.in) && weight.values.is_contiguous() && weight.scales.is_contiguous();
}

bool fits_cpu(const at::Tensor& x, const at::Tensor& weight) {
  const bool trains = c10::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad());
  return gemv_cpu::available() && !trains && x.dim() > 0 && weight.dim() == 2 && lies(x) && lies(weight) &&
         rows_of(x) > 0 && rows_of(x) <= gemv_cpu::kMostRows && x.size(-1) == weight.size(1) &&
         gemv_cpu::sizes_fit(weight.size(0), weight.size(1));
}

// args: the matrix, its format, scales and sizes.
at::Tensor cpu_product(const at::Tensor& x, const GemvOptions& options, gemv_cpu::Args args) {
  require(lies(options.norm) && lies(options.bias) && lies(options.residual),
          "GEMV: a norm, bias or residual is not contiguous, or not in bfloat16");
  const auto bits = [](const at::Tensor& t) {
    return t.defined() ? static_cast<const uint16_t*>(t.const_data_ptr()) : nullptr;
  };
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = args.outputs / (options.gated ? 2 : 1);
  const at::Tensor out = at::empty(sizes, x.options());
  args.x = bits(x), args.out = static_cast<uint16_t*>(out.mutable_data_ptr()), args.rows = rows_of(x);
  args.norm = bits(options.norm), args.eps = static_cast<float>(options.eps);
  args.bias = bits(options.bias), args.residual = bits(options.residual), args.gated = options.gated;
  gemv_cpu::gemv(args);
  return out;
}
gemv_cpu::Args packed_matrix(const QuantisedWeight& weight) {
  const bool int4 = weight.type == WeightType::int4;
  return {.format = int4 ? gemv_cpu::Format::int4 : gemv_cpu::Format::int8,
          .values = weight.values.const_data_ptr(),
          .scales = weight.scales.const_data_ptr(),
          .inputs = weight.in,
          .outputs = weight.out};
}

// A gated product computes a tile of gate together with one of up.
bool whole_tiles(int64_t outputs, const GemvOptions& options) {
  return !options.gated || outputs / 2 % gemv_cpu::kTileRows == 0;
}

// y = x weight^T of options.norm's x -> what the options make of it.
at::Tensor with_rest(at::Tensor y, const GemvOptions& options) {
  if (options.residual.defined()) y = y + options.residual;
  if (!options.gated) return y;
  const int64_t half = y.size(-1) / 2;
  return swiglu(y.narrow(-1, 0, half), y.narrow(-1, half, half));
}

at::Tensor normed(const at::Tensor& x, const GemvOptions& options) {
  require(!options.gated || !options.residual.defined(), "GEMV: a gated one has no residual");
  return options.norm.defined() ? rms_norm(x, options.norm, options.eps) : x;
}

}  // namespace

bool gemv_applies(const at::Tensor& x, const at::Tensor& weight) {
  return weight.dim() == 2 && x.dim() > 0 && (fits_cpu(x, weight) || fits(x, weight, rows_of(x)));
}

bool gemv_applies(const at::Tensor& x, const QuantisedWeight& weight) {
  if (fits_cpu(x, weight)) return true;
#ifdef CEPE_CUDA
  const bool scales_lie =
      weight.scales.is_contiguous() && reinterpret_cast<uintptr_t>(weight.scales.const_data_ptr()) % 4 == 0;
  return x.dim() > 0 && few_rows(x, rows_of(x)) && x.size(-1) == weight.in &&
         gemv_kernel::width_fits(format_of(weight.type), weight.in) && in_pieces(weight.values) && scales_lie;
#else
  return false;
#endif
}

bool skinny_gemm_applies(const at::Tensor& x, const at::Tensor& weight, bool gated) {
#ifdef CEPE_CUDA
  static_assert(kGemvRows == gemv_kernel::kMostRows && kSkinnyGemmRows == gemv_kernel::kMostTileRows);
  if (weight.dim() != 2 || x.dim() == 0 || x.size(-1) != weight.size(1) || !tiled(x, weight)) return false;
  return gemv_kernel::tiles_fit({.rows = rows_of(x), .inputs = x.size(-1), .outputs = weight.size(0), .gated = gated});
#else
  (void)x, (void)weight, (void)gated;
  return false;
#endif
}

at::Tensor make_semaphores(const c10::Device& device) {
#ifdef CEPE_CUDA
  return at::zeros({gemv_kernel::kMostTiles}, at::TensorOptions().device(device).dtype(at::kInt));
#else
  (void)device;
  return {};
#endif
}

at::Tensor gemv(const at::Tensor& x, const at::Tensor& weight_OI, const GemvOptions& options) {
  require(!options.gated || !options.residual.defined(), "GEMV: a gated one has no residual");
  if (fits_cpu(x, weight_OI) && whole_tiles(weight_OI.size(0), options)) {
    return cpu_product(x, options,
                       {.format = gemv_cpu::Format::bfloat16,
                        .values = weight_OI.const_data_ptr(),
                        .inputs = weight_OI.size(1),
                        .outputs = weight_OI.size(0)});
  }
#ifdef CEPE_CUDA
  if (gemv_applies(x, weight_OI)) return joined_product(x, weight_OI, options, {});
  const at::Tensor& residual = options.residual;
  const bool aligned = !residual.defined() || reinterpret_cast<uintptr_t>(residual.const_data_ptr()) % 8 == 0;
  if (options.semaphores.defined() && aligned && skinny_gemm_applies(x, weight_OI, options.gated)) {
    GemvOptions rest = options;
    rest.norm = at::Tensor();
    return joined_product(normed(x, options), weight_OI, rest, {});
  }
#endif
  return with_rest(at::linear(normed(x, options), weight_OI, options.bias), options);
}

at::Tensor gemv(const at::Tensor& x, const QuantisedWeight& weight_OI, const GemvOptions& options) {
  require(!options.gated || !options.residual.defined(), "GEMV: a gated one has no residual");
  if (fits_cpu(x, weight_OI) && whole_tiles(weight_OI.out, options))
    return cpu_product(x, options, packed_matrix(weight_OI));
#ifdef CEPE_CUDA
  if (gemv_applies(x, weight_OI)) {
    return joined_product(x, weight_OI.values, options,
                          {.format = format_of(weight_OI.type), .scales = weight_OI.scales.const_data_ptr()});
  }
#endif
  const at::Tensor y = quantised_linear(normed(x, options), weight_OI);
  return with_rest(options.bias.defined() ? y + options.bias : y, options);
}

at::Tensor batched_gemv(const at::Tensor& x_BHI, const at::Tensor& matrices, bool transposed,
                        const at::Tensor& semaphores) {
  const int64_t B = x_BHI.size(0), H = x_BHI.size(1), I = x_BHI.size(2), O = matrices.size(transposed ? 2 : 1);
  const int64_t G = matrices.size(0), R = H / G;
  if (R > 1) {  // rows of the heads that share a matrix stand together: (G, B R, I)
    const at::Tensor x_GNI = x_BHI.reshape({B, G, R, I}).transpose(0, 1).reshape({G, B * R, I});
    const at::Tensor out_GNO = at::bmm(x_GNI, transposed ? matrices : matrices.transpose(1, 2));
    return out_GNO.view({G, B, R, O}).transpose(0, 1).reshape({B, H, O});
  }
  const at::Tensor out = at::empty({B, H, O}, x_BHI.options());
#ifdef CEPE_CUDA
  if (fits(x_BHI, matrices, B) && O % 8 == 0) {
    launch(x_BHI, matrices, out, {.rows = B, .heads = H, .inputs = I, .outputs = O, .transposed = transposed});
    return out;
  }
  Args args{.rows = B, .heads = H, .inputs = I, .outputs = O, .transposed = transposed};
  if (semaphores.defined() && tiled(x_BHI, matrices) && gemv_kernel::tiles_fit(args)) {
    const at::Tensor parts = tile_parts(x_BHI, semaphores, args);
    launch(x_BHI, matrices, out, args);
    return out;
  }
#else
  (void)semaphores;
#endif
  at::Tensor heads_first = out.transpose(0, 1);
  at::bmm_out(heads_first, x_BHI.transpose(0, 1), transposed ? matrices : matrices.transpose(1, 2));
  return out;
}

}  // namespace cepe
