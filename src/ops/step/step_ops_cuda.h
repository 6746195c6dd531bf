// The CUDA backend of step_ops.h. In a build without CUDA it never applies (ops/cuda/no_cuda.cc).
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "ops/step/step_attention.h"

namespace cepe {

bool cuda_step_attention_applies(const at::Device& device, at::ScalarType type, int64_t head_dim);
// step_attention(), after its checks.
at::Tensor cuda_step_attention(const at::Tensor& qkv_BN, const StepAttention& input, int64_t heads);
// step_swiglu(); undefined where the kernel does not apply.
at::Tensor cuda_step_swiglu(const at::Tensor& gate_up_BN);

}  // namespace cepe
