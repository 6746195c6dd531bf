#include "ops/step/step_ops_cuda.h"

#include "ops/cuda/launch.h"
#include "ops/step/step_kernel.h"

namespace cepe {

bool cuda_step_attention_applies(const at::Device& device, at::ScalarType type, int64_t head_dim) {
  return device.is_cuda() && type == at::kBFloat16 && step_kernel::head_size_fits(head_dim);
}

at::Tensor cuda_step_attention(const at::Tensor& qkv_in, const StepAttention& input, int64_t heads) {
  const at::Tensor qkv = qkv_in.contiguous();
  const at::Tensor out = at::empty({qkv.size(0), heads * input.k_BSGK.size(3)}, qkv.options());
  const cuda::Launch launch(qkv);
  step_kernel::AttentionArgs args{};
  args.qkv = qkv.const_data_ptr();
  args.cos = input.rotary.cos.const_data_ptr<float>();
  args.sin = input.rotary.sin.const_data_ptr<float>();
  args.positions = input.positions_B.const_data_ptr<int64_t>();
  args.q_norm = input.q_norm.defined() ? input.q_norm.const_data_ptr() : nullptr;
  args.k_norm = input.k_norm.defined() ? input.k_norm.const_data_ptr() : nullptr;
  args.k_cache = input.k_BSGK.mutable_data_ptr();
  args.v_cache = input.v_BSGK.mutable_data_ptr();
  args.out = out.mutable_data_ptr();
  args.batch = qkv.size(0), args.capacity = input.k_BSGK.size(1);
  args.heads = heads, args.kv_heads = input.k_BSGK.size(2), args.head_size = input.k_BSGK.size(3);
  args.eps = static_cast<float>(input.eps);
  step_kernel::attention(args, launch.stream());
  return out;
}

at::Tensor cuda_step_swiglu(const at::Tensor& gate_up_BN) {
  const int64_t F = gate_up_BN.size(1) / 2;
  if (!cuda::operand(gate_up_BN) || F % 8 != 0) return {};
  const at::Tensor out = at::empty({gate_up_BN.size(0), F}, gate_up_BN.options());
  const cuda::Launch launch(out);
  step_kernel::swiglu({gate_up_BN.const_data_ptr(), out.mutable_data_ptr(), gate_up_BN.size(0), F}, launch.stream());
  return out;
}

}  // namespace cepe
