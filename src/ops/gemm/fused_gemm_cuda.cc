#include "ops/gemm/fused_gemm_cuda.h"

#include <vector>

#include "ops/cuda/launch.h"
#include "ops/gemm/fused_gemm_kernel.h"

namespace cepe {
namespace {

bool takes_both(const at::Tensor& x, const at::Tensor& weight) {
  return cuda::operand(x) && x.numel() > 0 && cuda::operand(weight) && weight.numel() > 0 &&
         x.device() == weight.device();
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

}  // namespace

at::Tensor cuda_swiglu_gemm(const at::Tensor& x, const at::Tensor& gate, const at::Tensor& up) {
  if (!takes_both(x, gate) || !takes_both(x, up)) return {};
  fused_gemm_kernel::SwigluArgs args{};
  args.x = x.const_data_ptr(), args.gate = gate.const_data_ptr(), args.up = up.const_data_ptr();
  args.rows = x.numel() / x.size(-1), args.inputs = x.size(-1), args.outputs = gate.size(0);
  if (!fused_gemm_kernel::fits(args) || !fused_gemm_kernel::pays(args)) return {};
  const at::Tensor out = rows_for(x, gate.size(0));
  args.out = out.mutable_data_ptr();
  const cuda::Launch launch(x);
  fused_gemm_kernel::swiglu_gemm(args, launch.stream());
  return out;
}

at::Tensor cuda_rotary_gemm(const at::Tensor& x, const RotaryGemmWeights& weights, const RotaryTable& table,
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
  const cuda::Launch launch(x);
  fused_gemm_kernel::rotary_gemm(args, launch.stream());
  return out;
}

}  // namespace cepe
