// The CUDA backend of latent_int8.h. In a build without CUDA it never applies (ops/cuda/no_cuda.cc).
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/latent/latent_states.h"

namespace cepe {

// dequantize_states() by one kernel; undefined where the kernel does not apply.
at::Tensor cuda_dequantize_states(const Int8States& states, at::ScalarType dtype);

}  // namespace cepe
