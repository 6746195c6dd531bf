// Rows that several matrices are multiplied with: rounded to fp8 (gemm/fp8.h) once for all that are held so.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "ops/gemm/fp8_types.h"
#include "ops/gemv/gemv_types.h"

namespace cepe {

class SharedInput {
 public:
  explicit SharedInput(const at::Tensor& x);  // (..., in)
  // silu(gate) * up, (..., F) each, to be multiplied with `next` alone: where that rounds its input to fp8, the result
  // is rounded once, from float32.
  static SharedInput swiglu(const at::Tensor& gate, const at::Tensor& up, const Matrix& next);

  // x weight^T + bias (undefined: none), (..., out). Up to dispatch::kGemvRows rows are multiplied as they are
  // (gemv.h); of more, a matrix in fp8 takes them in fp8 too.
  at::Tensor product(const Matrix& weight_OI, const at::Tensor& bias);
  // residual + product(): add_gemv() of gemv.h, where the rows are not in fp8.
  at::Tensor add_product(at::Tensor residual, const Matrix& weight_OI, const at::Tensor& bias);

 private:
  SharedInput() = default;
  at::Tensor rounded_product(const Matrix& weight_OI, const at::Tensor& bias) const;

  at::Tensor x_;  // undefined where only the rounded rows are there
  std::optional<Fp8Rows> rounded_;
  std::vector<int64_t> sizes_;  // of x
};

}  // namespace cepe
