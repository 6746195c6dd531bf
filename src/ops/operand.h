// What our kernels ask of the tensors that they read and write through pointers.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/GradMode.h>

#include <cstdint>

namespace cepe {

// Whether autograd records what is done with x: kernels without a gradient leave it to LibTorch.
inline bool wants_gradient(const at::Tensor& x) { return c10::GradMode::is_enabled() && x.requires_grad(); }

// Whether vector loads of 16 bytes can read x from its first byte to its last.
inline bool vector_aligned(const at::Tensor& x) {
  return x.is_contiguous() && reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0;
}

// Whether a kernel without a gradient can read x as it lies: of this type, on a device of this kind, contiguous, and on
// a CUDA device vector_aligned().
inline bool kernel_operand(const at::Tensor& x, c10::DeviceType device, at::ScalarType type = at::kBFloat16) {
  return x.defined() && x.device().type() == device && x.scalar_type() == type && !wants_gradient(x) &&
         (device == at::kCUDA ? vector_aligned(x) : x.is_contiguous());
}

}  // namespace cepe
