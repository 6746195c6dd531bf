// The CUDA backend of fp8.h. In a build without CUDA it never applies (ops/cuda/no_cuda.cc).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "ops/gemm/fp8_types.h"

namespace cepe {

// What a CUDA device lacks for products in fp8, as the end of a sentence; empty where it lacks nothing.
std::string cuda_fp8_refusal(const at::Device& device);

// fp8_rows() of x (rows, width), or fp8_swiglu() with a gate of the same shape (else undefined), by one kernel. Nothing
// where the kernel does not apply.
std::optional<Fp8Rows> cuda_fp8_rows(const at::Tensor& x, const at::Tensor& gate);

}  // namespace cepe
