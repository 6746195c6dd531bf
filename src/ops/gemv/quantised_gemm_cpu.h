// Products of many rows with a matrix in 8 or 4 bits on a CPU (ops/cpu/gemm.h), dealt to LibTorch's threads.
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/gemv/gemv_types.h"

namespace cepe {

// x (rows, in), float32, contiguous; weight: int8, or int4 in tiles -> (rows, out), no gradients
at::Tensor quantised_gemm_cpu(const at::Tensor& x, const QuantisedWeight& weight);

}  // namespace cepe
