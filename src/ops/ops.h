// The operations every model is made of: signature, shapes and reference formula of each. All of them are
// differentiable, run on CPU and CUDA, in float64 (references), float32 and bfloat16; the arithmetic inside
// norms, rotations and softmax is float32 or wider. A CUDA build replaces some by one fused kernel
// (elementwise/elementwise_kernel.h). Distillation losses: distillation.h.
//
// Shape suffixes: B batch, T query tokens, S key tokens, D width, H query heads, G key-value heads (H % G == 0),
// K head size, F feed-forward width, V vocabulary.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "ops/types.h"

namespace cepe {

// y = x / sqrt(mean(x^2) + eps) * weight over the last dimension. Zhang & Sennrich 2019, arXiv 1910.07467.
// x (..., D), weight (D) -> (..., D)
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

// sum = x + y, normed = rms_norm(sum, weight, eps). One pass over memory on CUDA, and one for both gradients.
// x, y (..., D), weight (D) -> (..., D) each
NormedSum add_rms_norm(const at::Tensor& x, const at::Tensor& y, const at::Tensor& weight, double eps);

// Rotates each head's two halves, (a, b) -> (a cos - b sin, b cos + a sin), at positions
// first, first + 1, ... Su et al. 2021, arXiv 2104.09864, in the half-split layout of Hugging Face's Llama.
// x (B, T, H, K) -> (B, T, H, K)
at::Tensor rotary(const at::Tensor& x_BTHK, const RotaryTable& table, int64_t first);

// silu(gate) * up, elementwise. gate, up (..., F)
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);

// softmax(q k^T / sqrt(K)) v for each head; query head h reads key-value head h / (H / G).
// q (B, T, H, K), k and v (B, S, G, K) -> (B, T, H, K)
at::Tensor attention(const at::Tensor& q_BTHK, const at::Tensor& k_BSGK, const at::Tensor& v_BSGK,
                     const AttentionMask& mask);

// A description of the kernels that attention() prefers on a device, for `cepe info`.
const char* attention_backend(const at::Device& device);
// Sets the order in which LibTorch tries its attention kernels (cuDNN first on Hopper). Call once at start-up.
void configure_attention_backends();

// The sum over all positions with label >= 0 of -log softmax(hidden head^T)[label], without ever holding the logits
// of more than a few thousand positions. When hidden requires a gradient, the gradient is computed in the
// same pass. hidden (N, D), head_weight (V, D), labels (N) int64, negative = not scored -> scalar float32 (float64 for
// float64 input). head_weight gets no gradient: it belongs to the frozen decoder; use `logits` for a trained head.
// weight (N) float32, undefined: 1: each position's loss is multiplied by it. Positions of weight 0 cost as much as
// others: leave them out.
at::Tensor linear_cross_entropy_sum(const at::Tensor& hidden_ND, const at::Tensor& head_weight_VD,
                                    const at::Tensor& labels_N, const at::Tensor& weight_N = {});

// -log softmax(hidden head^T)[label] for each position, no gradient; 0 where the label is negative.
// -> (N) float32 (float64 for float64 input)
at::Tensor linear_cross_entropy(const at::Tensor& hidden_ND, const at::Tensor& head_weight_VD,
                                const at::Tensor& labels_N);

}  // namespace cepe
