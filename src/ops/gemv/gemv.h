// A matrix times a few rows: what a decoding step of one or a few sequences consists of.
//
// Up to dispatch::kGemvRows rows are a GEMV: one pass over the matrix, bound by memory. Up to dispatch::kSkinnyGemmRows
// rows are a skinny GEMM on tensor cores. Both have kernels here on a CUDA device in bfloat16. The matrix may be
// bfloat16, int8, int4 or fp8 (a skinny GEMM: bfloat16). On a CPU a GEMV has a kernel for bfloat16, int8 and int4, for
// the last two with x in float32 too. Else, for more rows, and for a gradient, LibTorch's products compute the same.
//
// On a CUDA device the kernels are launched as programmatic dependents: the weights are read before earlier work on the
// stream has ended, so no work that may still run there may write them.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "ops/gemv/gemv_kernels.h"
#include "ops/gemv/gemv_types.h"

namespace cepe {

// How gemv() will be called, for a caller that plans for many calls.
struct GemvPlan {
  at::ScalarType type = at::kBFloat16;  // of x
  int64_t rows = 0;
  bool gated = false;
  bool semaphores = false;  // GemvOptions has them
};
// Whether it is then one kernel of ours that takes in what the options put around the product (the skinny GEMM: all but
// the norm). False for a matrix that is undefined.
bool gemv_is_fused(const Matrix& matrix, const GemvPlan& plan);
// Memory for GemvOptions::semaphores on a CUDA device, zeroed; undefined in a build without CUDA. Each call leaves
// zeros.
at::Tensor make_semaphores(const c10::Device& device);

// x weight^T with the prologue and epilogue of `options`. x (..., I), weight (O, I) -> (..., O)
at::Tensor gemv(const at::Tensor& x, const at::Tensor& weight_OI, const GemvOptions& options = {});

// The same with a quantised matrix. Activations are not rounded to fp8: a GEMV gains by the narrow weights alone.
at::Tensor gemv(const at::Tensor& x, const QuantisedWeight& weight_OI, const GemvOptions& options = {});
at::Tensor gemv(const at::Tensor& x, const Matrix& weight_OI, const GemvOptions& options = {});

// residual + x weight^T + bias (undefined: none). Where cuBLAS computes the product, without gradients, it adds as it
// writes: the residual's memory is then the result's.
at::Tensor add_gemv(at::Tensor residual, const at::Tensor& x, const Matrix& weight_OI, const at::Tensor& bias);

// A GEMV for each head. x (B, H, I), matrices (G, O, I), transposed (G, I, O) -> (B, H, O): query head h takes matrix
// h / (H / G). semaphores: as in GemvOptions; read where H = G.
at::Tensor batched_gemv(const at::Tensor& x_BHI, const at::Tensor& matrices, bool transposed,
                        const at::Tensor& semaphores = {});

}  // namespace cepe
