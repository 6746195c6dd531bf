// The kernels behind gemv() and quantised_linear(), whatever the device: which applies, and its result.
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/gemv/gemv_types.h"

namespace cepe {

// Whether gemv() runs one of these GEMV kernels: bfloat16 x, at most dispatch::kGemvRows rows, no gradient wanted; on a
// CUDA device sizes in whole 16-byte vectors; on a CPU multiples of 16 rows and 32 columns (quantised: x float32 too).
bool gemv_applies(const at::Tensor& x, const at::Tensor& weight);
bool gemv_applies(const at::Tensor& x, const QuantisedWeight& weight);

// gemv() by our kernel; undefined where none applies.
at::Tensor try_gemv(const at::Tensor& x, const at::Tensor& weight_OI, const GemvOptions& options = {});
at::Tensor try_gemv(const at::Tensor& x, const QuantisedWeight& weight_OI, const GemvOptions& options = {});

}  // namespace cepe
