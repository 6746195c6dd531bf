// The cross-entropy of ops.h for a head that is trained.
#pragma once

#include <ATen/core/Tensor.h>

namespace cepe {

// As linear_cross_entropy_sum (ops.h): the sum of weight x -log softmax(hidden head^T + bias)[label], blockwise. Head
// and bias get gradients where they require them, worked out in the same pass and summed over all positions in float32
// or wider. hidden (N, D), head (V, D), labels (N) int64, negative = not scored, weight (N) float32, undefined: 1, bias
// (V), undefined: none -> scalar float32 (float64 for float64 input).
at::Tensor trained_head_cross_entropy_sum(const at::Tensor& hidden_ND, const at::Tensor& head_VD,
                                          const at::Tensor& labels_N, const at::Tensor& weight_N = {},
                                          const at::Tensor& bias_V = {});

}  // namespace cepe
