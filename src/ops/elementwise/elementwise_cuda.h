// LibTorch's view of the CUDA kernels in elementwise_kernel.h: differentiable functions on tensors. In a build without
// CUDA none applies (ops/cuda/no_cuda.cc).
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/types.h"

namespace cepe {

// True where the fused kernels apply: a bfloat16 tensor on a CUDA device.
bool fused_applies(const at::Tensor& x);

at::Tensor fused_rotary(const at::Tensor& x_BTHK, const RotaryTable& table, int64_t first);
at::Tensor fused_swiglu(const at::Tensor& gate, const at::Tensor& up);
// How far rotary() turns: positions first, first + 1, ... of the table, or back by as much.
struct RotaryTurn {
  const RotaryTable& table;
  int64_t first = 0;
  bool back = false;
};

// Parts of operations that keep their own gradients (gemm/trained_products.h): without autograd.
// y = x turned by its positions, or turned back; y may be x. Last dimensions contiguous.
void fused_turn(const at::Tensor& x_BTHK, const at::Tensor& y_BTHK, const RotaryTurn& turn);
// Contiguous rows of gate and up side by side, (N, 2 F) -> (N, F); and the gradient of these from that of the result.
at::Tensor fused_swiglu_halves(const at::Tensor& gate_up);
at::Tensor fused_swiglu_halves_backward(const at::Tensor& grad, const at::Tensor& gate_up);
// Losses of one block of rows, (rows) float32; with `gradient` the logits are overwritten by d loss / d logits.
at::Tensor fused_cross_entropy(at::Tensor& logits_NV, const at::Tensor& labels_N, bool gradient);

// The norms' kernels also ask that a row fits: where a gradient is wanted of any of these, in one warp's registers.
// addend: what is added to x before, or undefined.
bool fused_norm_applies(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& addend = {});
at::Tensor fused_rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);
NormedSum fused_add_rms_norm(const at::Tensor& x, const at::Tensor& y, const at::Tensor& weight, double eps);

}  // namespace cepe
