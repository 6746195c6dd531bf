// A matrix times a few rows: what a decoding step of one or a few sequences consists of.
//
// Up to kGemvRows rows are a GEMV: one pass over the matrix, bound by memory. Up to kSkinnyGemmRows rows are a skinny
// GEMM on tensor cores. Both have kernels here on a CUDA device in bfloat16. The matrix may be bfloat16, int8, int4
// or fp8 (a skinny GEMM: bfloat16). On a CPU with avx512_bf16 a GEMV has a kernel for bfloat16, int8 and int4.
// Elsewhere, and for more rows, LibTorch's products compute the same. No gradients.
//
// On a CUDA device the kernels are launched as programmatic dependents: the weights are read before earlier work on the
// stream has ended, so no work that may still run there may write them.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "ops/gemv/gemv_kernels.h"
#include "ops/gemv/gemv_types.h"

namespace cepe {

// Whether gemv() with GemvOptions::semaphores runs the skinny GEMM: bfloat16 on a CUDA device, more than kGemvRows and
// at most kSkinnyGemmRows rows, no gradient wanted, inputs a multiple of 64, outputs (half of the matrix's rows where
// gated) a multiple of 8.
bool skinny_gemm_applies(const at::Tensor& x, const at::Tensor& weight, bool gated = false);
// Memory for GemvOptions::semaphores on a CUDA device, zeroed; undefined in a build without CUDA. Each call leaves
// zeros.
at::Tensor make_semaphores(const c10::Device& device);

// x weight^T with the prologue and epilogue of `options`. x (..., I), weight (O, I) -> (..., O)
at::Tensor gemv(const at::Tensor& x, const at::Tensor& weight_OI, const GemvOptions& options = {});

// The same with a quantised matrix. Activations are not rounded to fp8: a GEMV gains by the narrow weights alone.
at::Tensor gemv(const at::Tensor& x, const QuantisedWeight& weight_OI, const GemvOptions& options = {});

// A GEMV for each head. x (B, H, I), matrices (G, O, I), transposed (G, I, O) -> (B, H, O): query head h takes matrix
// h / (H / G). semaphores: as in GemvOptions; read where H = G.
at::Tensor batched_gemv(const at::Tensor& x_BHI, const at::Tensor& matrices, bool transposed,
                        const at::Tensor& semaphores = {});

}  // namespace cepe
