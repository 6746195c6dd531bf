#include "ops/fused_product.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "base/error.h"
#include "ops/row_product.h"
#ifdef CEPE_CUDA
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>

#include "ops/fused_product_kernel.h"
#endif

namespace cepe {
namespace {

#ifdef CEPE_CUDA
bool takes(const at::Tensor& x) {
  return x.is_cuda() && x.scalar_type() == at::kBFloat16 && x.is_contiguous() &&
         x.numel() > 0 && !(c10::GradMode::is_enabled() && x.requires_grad());
}

at::Tensor rows_for(const at::Tensor& x, int64_t outputs) {
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = outputs;
  return at::empty(sizes, x.options());
}

void* stream_of(const at::Tensor& x) { return at::cuda::getCurrentCUDAStream(x.device().index()).stream(); }

at::Tensor fused_swiglu_product(const at::Tensor& x, const at::Tensor& gate, const at::Tensor& up) {
  if (!takes(x) || !takes(gate) || !takes(up) || gate.sizes() != up.sizes()) return {};
  fused_product_kernel::SwigluArgs args{};
  args.x = x.const_data_ptr(), args.gate = gate.const_data_ptr(), args.up = up.const_data_ptr();
  args.rows = x.numel() / x.size(-1), args.inputs = x.size(-1), args.outputs = gate.size(0);
  if (!fused_product_kernel::fits(args) || !fused_product_kernel::pays(args)) return {};
  const at::Tensor out = rows_for(x, gate.size(0));
  args.out = out.mutable_data_ptr();
  const c10::cuda::CUDAGuard guard(x.device());
  fused_product_kernel::swiglu_product(args, stream_of(x));
  return out;
}

// (B, T, (H + 2 G) * K): queries, keys and values side by side.
at::Tensor fused_rotary_product(const at::Tensor& x, const RotaryProductWeights& weights, const RotaryTable& table,
                                int64_t first) {
  if (!takes(x) || !takes(weights.q) || !takes(weights.k) || !takes(weights.v)) return {};
  if (table.cos.scalar_type() != at::kFloat || !table.cos.is_contiguous() || !table.sin.is_contiguous()) return {};
  const int64_t q = weights.q.size(0), kv = weights.k.size(0);
  fused_product_kernel::RotaryArgs args{};
  args.x = x.const_data_ptr();
  args.q = weights.q.const_data_ptr(), args.k = weights.k.const_data_ptr(), args.v = weights.v.const_data_ptr();
  args.q_outputs = q, args.kv_outputs = kv;
  args.cos = table.cos.const_data_ptr<float>(), args.sin = table.sin.const_data_ptr<float>();
  args.rows = x.size(0) * x.size(1), args.inputs = x.size(2), args.head_size = 2 * table.cos.size(1);
  args.tokens = x.size(1), args.first = first;
  if (!fused_product_kernel::fits(args) || !fused_product_kernel::pays(args)) return {};
  const at::Tensor out = rows_for(x, q + 2 * kv);
  args.out = out.mutable_data_ptr();
  const c10::cuda::CUDAGuard guard(x.device());
  fused_product_kernel::rotary_product(args, stream_of(x));
  return out;
}
#endif

at::Tensor product(const at::Tensor& x, const at::Tensor& weight) {
  return row_product_applies(x, weight) ? row_product(x, weight) : at::linear(x, weight);
}

}  // namespace

at::Tensor swiglu_product(const at::Tensor& x, const at::Tensor& gate_FD, const at::Tensor& up_FD) {
#ifdef CEPE_CUDA
  const at::Tensor out = fused_swiglu_product(x, gate_FD, up_FD);
  if (out.defined()) return out;
#endif
  return swiglu(product(x, gate_FD), product(x, up_FD));
}

RotaryProduct rotary_product(const at::Tensor& x_BTD, const RotaryProductWeights& weights, const RotaryTable& table,
                             int64_t first) {
  const int64_t B = x_BTD.size(0), T = x_BTD.size(1), K = 2 * table.cos.size(1), positions = table.cos.size(0);
  require(weights.q.size(0) % K == 0 && weights.k.size(0) % K == 0 && weights.v.sizes() == weights.k.sizes(),
          "rotary product: weights of {}, {} and {} rows, expected heads of {}, as many of keys as of values",
          weights.q.size(0), weights.k.size(0), weights.v.size(0), K);
  require(first >= 0 && first + T <= positions, "rotary product: position {} lies beyond the table of {} positions",
          first + T - 1, positions);
  const auto heads = [&](const at::Tensor& x) { return x.view({B, T, -1, K}); };
#ifdef CEPE_CUDA
  const at::Tensor all = fused_rotary_product(x_BTD, weights, table, first);
  if (all.defined()) {
    const int64_t H = weights.q.size(0) / K, G = weights.k.size(0) / K;
    const std::vector<at::Tensor> parts = heads(all).split_with_sizes({H, G, G}, 2);
    return {parts[0], parts[1], parts[2]};
  }
#endif
  const at::Tensor q = heads(product(x_BTD, weights.q)), k = heads(product(x_BTD, weights.k));
  return {rotary(q, table, first), rotary(k, table, first), heads(product(x_BTD, weights.v))};
}

}  // namespace cepe
