// Tensors as our CUDA kernels want them (operand.h), and where the kernels are launched. Only for files of a CUDA build
// (*_cuda.cc).
#pragma once

#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>

#include "ops/operand.h"

namespace cepe::cuda {

// x where it is vector_aligned(), else a copy that is.
inline at::Tensor dense(const at::Tensor& x) {
  const at::Tensor y = x.contiguous();
  return vector_aligned(y) ? y : y.clone();
}

// kernel_operand() of a CUDA device.
inline bool operand(const at::Tensor& x) { return kernel_operand(x, at::kCUDA); }

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
