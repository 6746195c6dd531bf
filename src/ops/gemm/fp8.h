// Products in fp8 (e4m3: 4 bits of exponent, 3 of mantissa, up to 448) with one float32 scale for each row of either
// factor: twice bfloat16's arithmetic on Hopper. Weights are rounded once, activations as they come, each token with a
// scale of its own, so that no calibration is needed. No gradients.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "ops/gemm/fp8_types.h"

namespace cepe {

// Why products in fp8 cannot be had on this device, as the end of a sentence; empty where they can.
std::string fp8_refusal(const at::Device& device);

// Whether a product with a matrix (out, in) can be in fp8: multiples of 16, as cuBLASLt asks. The number of rows that
// it is multiplied with is free.
constexpr bool fp8_fits(int64_t out, int64_t in) { return out > 0 && in > 0 && out % 16 == 0 && in % 16 == 0; }

// x (..., in) rounded to the nearest, ties to even: scale = max |row| / 448, value = e4m3(x * (448 / max |row|)), both
// quotients and the product in float32. One kernel for bfloat16 on CUDA (fp8_kernel.h); LibTorch's operations
// elsewhere, with the same bits.
Fp8Rows fp8_rows(const at::Tensor& x);

// The same of silu(gate) * up, which is nowhere rounded to bfloat16. gate, up (..., F)
Fp8Rows fp8_swiglu(const at::Tensor& gate, const at::Tensor& up);

// x w^T in bfloat16. x of n rows, w of `out` -> (n, out). Error where fp8_refusal() or fp8_fits() speaks against it.
// Accumulated by the tensor cores alone ("fast accumulation"), whose sums keep fewer bits than float32 does.
at::Tensor fp8_product(const Fp8Rows& x, const Fp8Rows& weight);

}  // namespace cepe
