// What our CUDA kernels ask of tensors, and where they are launched. Only for files of a CUDA build (*_cuda.cc).
#pragma once

#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>

#include <cstdint>

namespace cepe::cuda {

inline bool wants_gradient(const at::Tensor& x) { return at::GradMode::is_enabled() && x.requires_grad(); }

// Whether vector loads of 16 bytes can read x from its first byte to its last.
inline bool vector_aligned(const at::Tensor& x) {
  return x.is_contiguous() && reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0;
}

// x where it is vector_aligned(), else a copy that is.
inline at::Tensor dense(const at::Tensor& x) {
  const at::Tensor y = x.contiguous();
  return vector_aligned(y) ? y : y.clone();
}

// Whether a kernel without a gradient can read x as it lies: bfloat16 on a CUDA device, vector_aligned().
inline bool kernel_operand(const at::Tensor& x) {
  return x.is_cuda() && x.scalar_type() == at::kBFloat16 && !wants_gradient(x) && vector_aligned(x);
}

// Makes x's device current while it lives. stream(): that device's current stream, as the kernels' headers take it.
class Launch {
 public:
  explicit Launch(const at::Tensor& x) : Launch(x.device()) {}
  explicit Launch(const c10::Device& device)
      : guard_(device), stream_(at::cuda::getCurrentCUDAStream(device.index())) {}
  void* stream() const { return stream_.stream(); }

 private:
  c10::cuda::CUDAGuard guard_;
  at::cuda::CUDAStream stream_;
};

}  // namespace cepe::cuda
