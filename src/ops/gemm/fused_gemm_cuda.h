// The CUDA backend of fused_gemm.h: undefined where its kernel does not apply or does not pay. In a build without CUDA
// it never applies (ops/cuda/no_cuda.cc).
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/gemm/fused_gemm_types.h"
#include "ops/types.h"

namespace cepe {

// swiglu_gemm(), after its checks.
at::Tensor cuda_swiglu_gemm(const at::Tensor& x, const at::Tensor& gate, const at::Tensor& up);

// rotary_gemm(), after its checks: queries, keys and values side by side, (B, T, (H + 2 G) * K).
at::Tensor cuda_rotary_gemm(const at::Tensor& x, const RotaryGemmWeights& weights, const RotaryTable& table,
                            int64_t first);

}  // namespace cepe
