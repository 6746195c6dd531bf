#include "ops/cuda/device.h"

#include <ATen/cuda/CUDAContextLight.h>

#include "base/error.h"
#include "ops/cuda/refuse.h"

namespace cepe {

void cuda::refuse(const char* kernel, const char* reason) { fail("CUDA kernel {}: {}", kernel, reason); }

std::string cuda_device_name(const c10::Device& device) {
  return device.is_cuda() ? at::cuda::getDeviceProperties(device.index())->name : "";
}

}  // namespace cepe
