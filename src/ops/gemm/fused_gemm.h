// Products of many rows with what follows them, as encoding and reading have them: of gate and up, and of queries, keys
// and values with their rotary positions. On a CUDA device in bfloat16 without a gradient they are one kernel, so that
// the products' results never go through memory (docs/kernels/fused_gemm.md); elsewhere, for few rows, and for sizes
// that the kernel is not made for, operations of ops.h one after another.
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/gemm/fused_gemm_types.h"
#include "ops/types.h"

namespace cepe {

// swiglu(x gate^T, x up^T). x (..., D), gate and up (F, D) -> (..., F)
at::Tensor swiglu_gemm(const at::Tensor& x, const at::Tensor& gate_FD, const at::Tensor& up_FD);

// Positions first, first + 1, ... x (B, T, D); the table's width gives the head size. The three results may be views of
// one tensor.
RotaryGemm rotary_gemm(const at::Tensor& x_BTD, const RotaryGemmWeights& weights, const RotaryTable& table,
                       int64_t first);

}  // namespace cepe
