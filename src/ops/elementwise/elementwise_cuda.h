// LibTorch's view of the CUDA kernels in elementwise_kernel.h: differentiable functions on tensors. Built only with
// CEPE_CUDA.
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

// The norms' kernels also ask that a row fits: where a gradient is wanted of any of these, in one warp's registers.
// addend: what is added to x before, or undefined.
bool fused_norm_applies(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& addend = {});
at::Tensor fused_rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);
NormedSum fused_add_rms_norm(const at::Tensor& x, const at::Tensor& y, const at::Tensor& weight, double eps);

// The flash kernel, called directly where LibTorch's choice would build a mask of T x S values: head sizes that are
// multiples of 8 up to 256.
bool flash_applies(const at::Tensor& q_BTHK);
// Causal attention of the last T of S positions.
at::Tensor flash_causal_attention(const at::Tensor& q_BTHK, const at::Tensor& k_BSGK, const at::Tensor& v_BSGK);
// Attention to the keys that keys_BS marks. They are packed together first, so that padding costs nothing.
at::Tensor flash_masked_attention(const at::Tensor& q_BTHK, const at::Tensor& k_BSGK, const at::Tensor& v_BSGK,
                                  const at::Tensor& keys_BS);
// Sequences one after another (ops.h), each to itself.
at::Tensor flash_packed_attention(const at::Tensor& q_1THK, const at::Tensor& k_1TGK, const at::Tensor& v_1TGK,
                                  const PackedSequences& sequences);

// One more part of an attention over a context, in one pass over it. `sum` takes out's layout, float32; both are
// undefined before the first part.
bool fused_merge_applies(const at::Tensor& out_CGNK);
void fused_merge_attention(const at::Tensor& out_CGNK, const at::Tensor& log_sum_exp_CGN, at::Tensor& sum_CGNK,
                           at::Tensor& total_CGN);

}  // namespace cepe
