// The small operations of a decoding step on a CPU, each one pass over memory: at one token a step LibTorch's
// composites of four to ten operations cost more in their starts than in their work. ops.h has the formulas. No
// gradients.
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/types.h"

namespace cepe {

// Whether the functions below take a tensor: contiguous float32 or bfloat16 on a CPU, and no gradient is wanted.
bool fused_cpu_applies(const at::Tensor& x);

// x and y (..., D) of one type and shape, weight (D) of the same type.
NormedSum fused_cpu_add_rms_norm(const at::Tensor& x, const at::Tensor& y, const at::Tensor& weight, double eps);
at::Tensor fused_cpu_rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

// x (B, T, H, K), K even; the table in float32.
at::Tensor fused_cpu_rotary(const at::Tensor& x_BTHK, const RotaryTable& table, int64_t first);

}  // namespace cepe
