#include "ops/gemv/gemv.h"

#include <ATen/ATen.h>

#include "base/error.h"
#include "ops/gemm/trained_products.h"
#include "ops/gemv/gemv_cuda.h"
#include "ops/gemv/quantised_weight.h"
#include "ops/ops.h"

namespace cepe {
namespace {

// y = x weight^T of options.norm's x -> what the options make of it.
at::Tensor with_rest(at::Tensor y, const GemvOptions& options) {
  if (options.residual.defined()) y = y + options.residual;
  if (!options.gated) return y;
  const int64_t half = y.size(-1) / 2;
  return swiglu(y.narrow(-1, 0, half), y.narrow(-1, half, half));
}

bool plain(const GemvOptions& options) {
  return !options.norm.defined() && !options.bias.defined() && !options.residual.defined() && !options.gated;
}

at::Tensor normed(const at::Tensor& x, const GemvOptions& options) {
  require(!options.gated || !options.residual.defined(), "GEMV: a gated one has no residual");
  return options.norm.defined() ? rms_norm(x, options.norm, options.eps) : x;
}

}  // namespace

bool gemv_is_fused(const Matrix& matrix, const GemvPlan& plan) {
  if (!matrix.defined()) return false;
  const at::Tensor& values = matrix.quantised ? matrix.quantised->values : matrix.weight;
  const at::Tensor x = at::empty({plan.rows, matrix.in()}, values.options().dtype(plan.type));
  if (matrix.quantised) return gemv_applies(x, *matrix.quantised);
  return gemv_applies(x, matrix.weight) || (plan.semaphores && cuda_skinny_gemm_applies(x, matrix.weight, plan.gated));
}

at::Tensor make_semaphores(const c10::Device& device) { return cuda_semaphores(device); }

at::Tensor gemv(const at::Tensor& x, const at::Tensor& weight_OI, const GemvOptions& options) {
  require(!options.gated || !options.residual.defined(), "GEMV: a gated one has no residual");
  if (plain(options) && trained_product_applies(x, {weight_OI})) return trained_product(x, weight_OI);
  if (const at::Tensor y = try_gemv(x, weight_OI, options); y.defined()) return y;
  const at::Tensor rows = normed(x, options);
  GemvOptions rest = options;
  rest.norm = at::Tensor();
  if (const at::Tensor y = cuda_skinny_gemm(rows, weight_OI, rest); y.defined()) return y;
  return with_rest(at::linear(rows, weight_OI, options.bias), options);
}

at::Tensor gemv(const at::Tensor& x, const QuantisedWeight& weight_OI, const GemvOptions& options) {
  require(!options.gated || !options.residual.defined(), "GEMV: a gated one has no residual");
  if (const at::Tensor y = try_gemv(x, weight_OI, options); y.defined()) return y;
  const at::Tensor y = quantised_linear(normed(x, options), weight_OI);
  return with_rest(options.bias.defined() ? y + options.bias : y, options);
}

at::Tensor gemv(const at::Tensor& x, const Matrix& weight_OI, const GemvOptions& options) {
  return weight_OI.quantised ? gemv(x, *weight_OI.quantised, options) : gemv(x, weight_OI.weight, options);
}

at::Tensor add_gemv(at::Tensor residual, const at::Tensor& x, const Matrix& weight_OI, const at::Tensor& bias) {
  const at::Tensor& weight = weight_OI.weight;
  const bool in_place = x.is_cuda() && weight_OI.dense() && !bias.defined() && !c10::GradMode::is_enabled() &&
                        residual.is_contiguous() && residual.scalar_type() == weight.scalar_type();
  if (!in_place) return residual + gemv(x, weight_OI, {.bias = bias});
  if (const at::Tensor y = try_gemv(x, weight); y.defined()) return residual + y;
  residual.view({-1, residual.size(-1)}).addmm_(x.reshape({-1, x.size(-1)}), weight.t());
  return residual;
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
  if (const at::Tensor out = cuda_batched_gemv(x_BHI, matrices, transposed, semaphores); out.defined()) return out;
  const at::Tensor out = at::empty({B, H, O}, x_BHI.options());
  at::Tensor heads_first = out.transpose(0, 1);
  at::bmm_out(heads_first, x_BHI.transpose(0, 1), transposed ? matrices : matrices.transpose(1, 2));
  return out;
}

}  // namespace cepe
