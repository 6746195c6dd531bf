#include "ops/gemv/shared_input.h"

#include <ATen/ATen.h>

#include <utility>

#include "ops/gemm/fp8.h"
#include "ops/gemv/gemv.h"
#include "ops/ops.h"

namespace cepe {
namespace {

bool may_round(const Matrix& matrix, const at::Tensor& x) {
  return matrix.quantised && matrix.quantised->type == WeightType::fp8 && x.scalar_type() == at::kBFloat16;
}

}  // namespace

SharedInput::SharedInput(const at::Tensor& x) : x_(x), sizes_(x.sizes().vec()) {}

SharedInput SharedInput::swiglu(const at::Tensor& gate, const at::Tensor& up, const Matrix& next) {
  // A GEMV takes its rows as they are, and asks no more of the product than of its factors.
  if (!may_round(next, up) || gemv_applies(up, *next.quantised)) return SharedInput(cepe::swiglu(gate, up));
  SharedInput made;
  made.rounded_ = fp8_swiglu(gate, up);
  made.sizes_ = up.sizes().vec();
  return made;
}

at::Tensor SharedInput::rounded_product(const Matrix& weight_OI, const at::Tensor& bias) const {
  const QuantisedWeight& weight = *weight_OI.quantised;
  std::vector<int64_t> sizes = sizes_;
  sizes.back() = weight.out;
  const at::Tensor y = fp8_product(*rounded_, {weight.values, weight.scales}).view(sizes);
  return bias.defined() ? y + bias : y;
}

at::Tensor SharedInput::product(const Matrix& weight_OI, const at::Tensor& bias) {
  if (x_.defined() && !may_round(weight_OI, x_)) return gemv(x_, weight_OI, {.bias = bias});
  if (!rounded_) {
    if (const at::Tensor y = try_gemv(x_, *weight_OI.quantised, {.bias = bias}); y.defined()) return y;
    rounded_ = fp8_rows(x_);
  }
  return rounded_product(weight_OI, bias);
}

at::Tensor SharedInput::add_product(at::Tensor residual, const Matrix& weight_OI, const at::Tensor& bias) {
  if (x_.defined() && !may_round(weight_OI, x_)) return add_gemv(std::move(residual), x_, weight_OI, bias);
  return residual + product(weight_OI, bias);
}

}  // namespace cepe
