#include "ops/row_product.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "base/error.h"
#include "ops/ops.h"
#ifdef CEPE_CUDA
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>

#include "ops/row_product_kernel.h"
#endif

namespace cepe {
namespace {

bool in_pieces(const at::Tensor& x) {
  return x.is_contiguous() && reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0;
}

bool fits(const at::Tensor& x, const at::Tensor& weight, int64_t rows) {
#ifdef CEPE_CUDA
  const bool trains = c10::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad());
  return x.is_cuda() && x.scalar_type() == at::kBFloat16 && weight.scalar_type() == at::kBFloat16 && !trains && rows > 0 &&
         rows <= kFewRows && row_product_kernel::width_fits(x.size(-1)) && in_pieces(x) && in_pieces(weight);
#else
  (void)x, (void)weight, (void)rows;
  return false;
#endif
}

#ifdef CEPE_CUDA
void launch(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& out, row_product_kernel::Args args) {
  const c10::cuda::CUDAGuard guard(x.device());
  args.x = x.const_data_ptr();
  args.weight = weight.const_data_ptr();
  args.out = out.mutable_data_ptr();
  row_product_kernel::row_product(args, at::cuda::getCurrentCUDAStream(x.device().index()).stream());
}
#endif

}  // namespace

bool row_product_applies(const at::Tensor& x, const at::Tensor& weight) {
  return weight.dim() == 2 && x.dim() > 0 && fits(x, weight, x.numel() / std::max<int64_t>(1, x.size(-1)));
}

at::Tensor row_product(const at::Tensor& x, const at::Tensor& weight_OI, const RowProductOptions& options) {
  require(!options.gated || !options.residual.defined(), "row product: a gated one has no residual");
#ifdef CEPE_CUDA
  if (row_product_applies(x, weight_OI)) {
    require(!options.norm.defined() || in_pieces(options.norm), "row product: the norm does not lie in 16-byte pieces");
    const auto pointer = [](const at::Tensor& t) -> const void* {
      require(!t.defined() || t.is_contiguous(), "row product: a norm, bias or residual is not contiguous");
      return t.defined() ? t.const_data_ptr() : nullptr;
    };
    std::vector<int64_t> sizes = x.sizes().vec();
    sizes.back() = weight_OI.size(0) / (options.gated ? 2 : 1);
    const at::Tensor out = at::empty(sizes, x.options());
    const int64_t rows = x.numel() / x.size(-1);
    launch(x, weight_OI, out, {.rows = rows, .inputs = weight_OI.size(1), .outputs = weight_OI.size(0),
                               .norm = pointer(options.norm), .eps = static_cast<float>(options.eps),
                               .bias = pointer(options.bias), .residual = pointer(options.residual),
                               .gated = options.gated});
    return out;
  }
#endif
  at::Tensor y = at::linear(options.norm.defined() ? rms_norm(x, options.norm, options.eps) : x, weight_OI, options.bias);
  if (options.residual.defined()) y = y + options.residual;
  if (!options.gated) return y;
  const int64_t half = weight_OI.size(0) / 2;
  return swiglu(y.narrow(-1, 0, half), y.narrow(-1, half, half));
}

at::Tensor head_products(const at::Tensor& x_BHI, const at::Tensor& matrices, bool transposed) {
  const int64_t B = x_BHI.size(0), H = x_BHI.size(1), I = x_BHI.size(2), O = matrices.size(transposed ? 2 : 1);
  const at::Tensor out = at::empty({B, H, O}, x_BHI.options());
#ifdef CEPE_CUDA
  if (fits(x_BHI, matrices, B) && O % 8 == 0) {
    launch(x_BHI, matrices, out, {.rows = B, .heads = H, .inputs = I, .outputs = O, .transposed = transposed});
    return out;
  }
#endif
  at::Tensor heads_first = out.transpose(0, 1);
  at::bmm_out(heads_first, x_BHI.transpose(0, 1), transposed ? matrices : matrices.transpose(1, 2));
  return out;
}

}  // namespace cepe
