// The CUDA backend of gemv.h and quantised_weight.h. In a build without CUDA it never applies (ops/cuda/no_cuda.cc).
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "ops/gemv/gemv_types.h"

namespace cepe {

// bfloat16 on a CUDA device, at most dispatch::kGemvRows rows, no gradient wanted, sizes in whole 16-byte vectors.
bool cuda_gemv_applies(const at::Tensor& x, const at::Tensor& weight);
bool cuda_gemv_applies(const at::Tensor& x, const QuantisedWeight& weight);
// gemv() where cuda_gemv_applies().
at::Tensor cuda_gemv(const at::Tensor& x, const at::Tensor& weight_OI, const GemvOptions& options);
at::Tensor cuda_gemv(const at::Tensor& x, const QuantisedWeight& weight_OI, const GemvOptions& options);

// skinny_gemm_applies() and make_semaphores() of gemv.h.
bool cuda_skinny_gemm_applies(const at::Tensor& x, const at::Tensor& weight, bool gated);
at::Tensor cuda_semaphores(const c10::Device& device);
// gemv() of more rows, without options.norm; undefined without semaphores or where skinny_gemm_applies() is false.
at::Tensor cuda_skinny_gemm(const at::Tensor& x, const at::Tensor& weight_OI, const GemvOptions& options);

// batched_gemv() of heads with a matrix each; undefined where no kernel applies.
at::Tensor cuda_batched_gemv(const at::Tensor& x_BHI, const at::Tensor& matrices, bool transposed,
                             const at::Tensor& semaphores);

// An int4 matrix on a CUDA device -> (out, in) bfloat16.
at::Tensor cuda_dequantise_int4(const QuantisedWeight& weight);

}  // namespace cepe
