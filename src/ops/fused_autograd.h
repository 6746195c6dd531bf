// LibTorch's view of the CUDA kernels in fused.h: differentiable functions on tensors. Built only with CEPE_CUDA.
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/ops.h"

namespace cepe {

// True where the fused kernels apply: a bfloat16 tensor on a CUDA device.
bool fused_applies(const at::Tensor& x);

at::Tensor fused_rotary(const at::Tensor& x_BTHK, const RotaryTable& table, int64_t first);
at::Tensor fused_swiglu(const at::Tensor& gate, const at::Tensor& up);
// Losses of one block of rows, (rows) float32; with `gradient` the logits are overwritten by d loss / d logits.
at::Tensor fused_cross_entropy(at::Tensor& logits_NV, const at::Tensor& labels_N, bool gradient);

}  // namespace cepe
