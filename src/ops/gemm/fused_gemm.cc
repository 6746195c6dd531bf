#include "ops/gemm/fused_gemm.h"

#include <ATen/ATen.h>

#include <vector>

#include "base/error.h"
#include "ops/gemm/fused_gemm_cuda.h"
#include "ops/gemm/trained_products.h"
#include "ops/gemv/gemv_kernels.h"
#include "ops/ops.h"

namespace cepe {
namespace {

at::Tensor product(const at::Tensor& x, const at::Tensor& weight) {
  const at::Tensor y = try_gemv(x, weight);
  return y.defined() ? y : at::linear(x, weight);
}

}  // namespace

at::Tensor swiglu_gemm(const at::Tensor& x, const at::Tensor& gate_FD, const at::Tensor& up_FD) {
  require(gate_FD.dim() == 2 && gate_FD.size(1) == x.size(-1) && up_FD.sizes() == gate_FD.sizes(),
          "fused GEMM with SwiGLU: rows of {} for matrices of {} x {} and {} x {}", x.size(-1), gate_FD.size(0),
          gate_FD.size(-1), up_FD.size(0), up_FD.size(-1));
  if (const at::Tensor out = cuda_swiglu_gemm(x, gate_FD, up_FD); out.defined()) return out;
  if (trained_product_applies(x, {gate_FD, up_FD})) return trained_swiglu(x, gate_FD, up_FD);
  return swiglu(product(x, gate_FD), product(x, up_FD));
}

RotaryGemm rotary_gemm(const at::Tensor& x_BTD, const RotaryGemmWeights& weights, const RotaryTable& table,
                       int64_t first) {
  const int64_t B = x_BTD.size(0), T = x_BTD.size(1), K = 2 * table.cos.size(1), positions = table.cos.size(0);
  require(weights.q.size(0) % K == 0 && weights.k.size(0) % K == 0 && weights.v.sizes() == weights.k.sizes() &&
              table.sin.sizes() == table.cos.sizes(),
          "fused GEMM with rotary positions: weights of {}, {} and {} rows, expected heads of {}, as many of keys as "
          "of values",
          weights.q.size(0), weights.k.size(0), weights.v.size(0), K);
  require(weights.q.size(1) == x_BTD.size(2) && weights.k.size(1) == x_BTD.size(2),
          "fused GEMM with rotary positions: rows of {} for matrices with {} and {} columns", x_BTD.size(2),
          weights.q.size(1), weights.k.size(1));
  require(first >= 0 && first + T <= positions,
          "fused GEMM with rotary positions: position {} lies beyond the table of {} positions", first + T - 1,
          positions);
  const int64_t H = weights.q.size(0) / K, G = weights.k.size(0) / K;
  if (const at::Tensor all = cuda_rotary_gemm(x_BTD, weights, table, first); all.defined()) {
    const std::vector<at::Tensor> parts = all.view({B, T, H + 2 * G, K}).split_with_sizes({H, G, G}, 2);
    return {parts[0], parts[1], parts[2]};
  }
  if (trained_rotary_applies(x_BTD, weights, table)) return trained_rotary(x_BTD, weights, table, first);
  const auto heads = [&](const at::Tensor& weight, int64_t count) {
    return product(x_BTD, weight).view({B, T, count, K});
  };
  return {rotary(heads(weights.q, H), table, first), rotary(heads(weights.k, G), table, first), heads(weights.v, G)};
}

}  // namespace cepe
