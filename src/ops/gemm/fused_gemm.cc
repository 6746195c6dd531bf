#include "ops/gemm/fused_gemm.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <vector>

#include "base/error.h"
#include "ops/gemv/gemv.h"
#ifdef CEPE_CUDA
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>

#include "ops/gemm/fused_gemm_kernel.h"
#endif

namespace cepe {
namespace {

#ifdef CEPE_CUDA
bool takes(const at::Tensor& x) {
  return x.is_cuda() && x.scalar_type() == at::kBFloat16 && x.is_contiguous() && x.numel() > 0 &&
         !(c10::GradMode::is_enabled() && x.requires_grad());
}

bool takes_both(const at::Tensor& x, const at::Tensor& weight) {
  return takes(x) && takes(weight) && x.device() == weight.device();
}

bool takes_table(const at::Tensor& x, const RotaryTable& table) {
  const auto fits = [&](const at::Tensor& t) {
    return t.scalar_type() == at::kFloat && t.is_contiguous() && t.device() == x.device();
  };
  return fits(table.cos) && fits(table.sin);
}

at::Tensor rows_for(const at::Tensor& x, int64_t outputs) {
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = outputs;
  return at::empty(sizes, x.options());
}

void* stream_of(const at::Tensor& x) { return at::cuda::getCurrentCUDAStream(x.device().index()).stream(); }

at::Tensor fused_swiglu_gemm(const at::Tensor& x, const at::Tensor& gate, const at::Tensor& up) {
  if (!takes_both(x, gate) || !takes_both(x, up)) return {};
  fused_gemm_kernel::SwigluArgs args{};
  args.x = x.const_data_ptr(), args.gate = gate.const_data_ptr(), args.up = up.const_data_ptr();
  args.rows = x.numel() / x.size(-1), args.inputs = x.size(-1), args.outputs = gate.size(0);
  if (!fused_gemm_kernel::fits(args) || !fused_gemm_kernel::pays(args)) return {};
  const at::Tensor out = rows_for(x, gate.size(0));
  args.out = out.mutable_data_ptr();
  const c10::cuda::CUDAGuard guard(x.device());
  fused_gemm_kernel::swiglu_gemm(args, stream_of(x));
  return out;
}

// (B, T, (H + 2 G) * K): queries, keys and values side by side.
at::Tensor fused_rotary_gemm(const at::Tensor& x, const RotaryGemmWeights& weights, const RotaryTable& table,
                             int64_t first) {
  if (!takes_both(x, weights.q) || !takes_both(x, weights.k) || !takes_both(x, weights.v)) return {};
  if (!takes_table(x, table)) return {};
  const int64_t q = weights.q.size(0), kv = weights.k.size(0);
  fused_gemm_kernel::RotaryArgs args{};
  args.x = x.const_data_ptr();
  args.q = weights.q.const_data_ptr(), args.k = weights.k.const_data_ptr(), args.v = weights.v.const_data_ptr();
  args.q_outputs = q, args.kv_outputs = kv;
  args.cos = table.cos.const_data_ptr<float>(), args.sin = table.sin.const_data_ptr<float>();
  args.rows = x.size(0) * x.size(1), args.inputs = x.size(2), args.head_size = 2 * table.cos.size(1);
  args.tokens = x.size(1), args.first = first;
  if (!fused_gemm_kernel::fits(args) || !fused_gemm_kernel::pays(args)) return {};
  const at::Tensor out = rows_for(x, q + 2 * kv);
  args.out = out.mutable_data_ptr();
  const c10::cuda::CUDAGuard guard(x.device());
  fused_gemm_kernel::rotary_gemm(args, stream_of(x));
  return out;
}
#endif

at::Tensor product(const at::Tensor& x, const at::Tensor& weight) {
  return gemv_applies(x, weight) ? gemv(x, weight) : at::linear(x, weight);
}

}  // namespace

at::Tensor swiglu_gemm(const at::Tensor& x, const at::Tensor& gate_FD, const at::Tensor& up_FD) {
  require(gate_FD.dim() == 2 && gate_FD.size(1) == x.size(-1) && up_FD.sizes() == gate_FD.sizes(),
          "SwiGLU product: rows of {} for matrices of {} x {} and {} x {}", x.size(-1), gate_FD.size(0),
          gate_FD.size(-1), up_FD.size(0), up_FD.size(-1));
#ifdef CEPE_CUDA
  const at::Tensor out = fused_swiglu_gemm(x, gate_FD, up_FD);
  if (out.defined()) return out;
#endif
  return swiglu(product(x, gate_FD), product(x, up_FD));
}

RotaryGemm rotary_gemm(const at::Tensor& x_BTD, const RotaryGemmWeights& weights, const RotaryTable& table,
                       int64_t first) {
  const int64_t B = x_BTD.size(0), T = x_BTD.size(1), K = 2 * table.cos.size(1), positions = table.cos.size(0);
  require(weights.q.size(0) % K == 0 && weights.k.size(0) % K == 0 && weights.v.sizes() == weights.k.sizes() &&
              table.sin.sizes() == table.cos.sizes(),
          "rotary product: weights of {}, {} and {} rows, expected heads of {}, as many of keys as of values",
          weights.q.size(0), weights.k.size(0), weights.v.size(0), K);
  require(weights.q.size(1) == x_BTD.size(2) && weights.k.size(1) == x_BTD.size(2),
          "rotary product: rows of {} for matrices with {} and {} columns", x_BTD.size(2), weights.q.size(1),
          weights.k.size(1));
  require(first >= 0 && first + T <= positions, "rotary product: position {} lies beyond the table of {} positions",
          first + T - 1, positions);
  const int64_t H = weights.q.size(0) / K, G = weights.k.size(0) / K;
#ifdef CEPE_CUDA
  const at::Tensor all = fused_rotary_gemm(x_BTD, weights, table, first);
  if (all.defined()) {
    const std::vector<at::Tensor> parts = all.view({B, T, H + 2 * G, K}).split_with_sizes({H, G, G}, 2);
    return {parts[0], parts[1], parts[2]};
  }
#endif
  const auto heads = [&](const at::Tensor& weight, int64_t count) {
    return product(x_BTD, weight).view({B, T, count, K});
  };
  return {rotary(heads(weights.q, H), table, first), rotary(heads(weights.k, G), table, first), heads(weights.v, G)};
}

}  // namespace cepe
