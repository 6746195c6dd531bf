// The last step of losses whose gradient is worked out in their forward pass.
#pragma once

#include <ATen/ATen.h>

namespace cepe {

// gradient (a matrix) x factor (a scalar) in the gradient's type. LibTorch would round a factor without dimensions to
// that type first: in bfloat16 to 8 bits, an error that all elements share. A factor with dimensions is multiplied in
// the wider type, and the product rounded once.
inline at::Tensor scaled_gradient(const at::Tensor& gradient, const at::Tensor& factor) {
  at::Tensor out = at::empty_like(gradient);
  at::mul_out(out, gradient, factor.reshape({1, 1}));
  return out;
}

}  // namespace cepe
