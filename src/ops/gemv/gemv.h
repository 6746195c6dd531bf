// Products of a few rows with a matrix: what a decoding step of one or a few sequences consists of. On a CUDA device in
// bfloat16 a product is a pass over the matrix (wide, or held as int8, int4 or fp8), bound by memory, where a library's
// kernel for many rows reads it more slowly, and its first bytes come while the operation before still runs (so weights
// must not be that one's result). So it is on a CPU with avx512_bf16 for matrices held in bfloat16, int8 or
// int4 (gemv_cpu.h). Elsewhere, and for more rows, LibTorch's products compute the same. No gradients.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "ops/gemv/gemv_kernels.h"
#include "ops/gemv/gemv_types.h"

namespace cepe {

// Whether gemv() with `semaphores` is our kernel for more rows: bfloat16 on a CUDA device, more than kGemvRows and
// at most kSkinnyGemmRows rows, no gradient wanted, inputs in multiples of 64, outputs (half of the matrix's rows where
// gated) of 8.
bool skinny_gemm_applies(const at::Tensor& x, const at::Tensor& weight, bool gated = false);
// Zeros for `semaphores`, on a CUDA device; each product leaves zeros there.
at::Tensor make_semaphores(const c10::Device& device);

// x (..., I), weight (O, I) -> (..., O) = x weight^T
at::Tensor gemv(const at::Tensor& x, const at::Tensor& weight_OI, const GemvOptions& options = {});

// The same with a quantised matrix. The activations are never rounded to fp8 here: its products of few rows gain by the
// narrow weights alone.
at::Tensor gemv(const at::Tensor& x, const QuantisedWeight& weight_OI, const GemvOptions& options = {});

// A product for each head. x (B, H, I), matrices (G, O, I), transposed (G, I, O) -> (B, H, O): each H / G heads that
// follow each other take one matrix. semaphores: as in GemvOptions, where each head has a matrix of its own.
at::Tensor batched_gemv(const at::Tensor& x_BHI, const at::Tensor& matrices, bool transposed,
                        const at::Tensor& semaphores = {});

}  // namespace cepe
