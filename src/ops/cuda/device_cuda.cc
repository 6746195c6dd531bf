#include "ops/cuda/device.h"

#include <ATen/cuda/CUDAContextLight.h>
#include <c10/cuda/CUDAFunctions.h>
#include <cuda_runtime_api.h>

#include "base/error.h"
#include "ops/cuda/capability.h"
#include "ops/cuda/refuse.h"

namespace cepe {

void cuda::refuse(const char* kernel, const char* reason) { fail("CUDA kernel {}: {}", kernel, reason); }

bool device_is_exclusive(const c10::Device& device) {
  if (!device.is_cuda()) return false;
  const int index = device.has_index() ? device.index() : c10::cuda::current_device();
  int mode = cudaComputeModeDefault, shared = 1;
  const bool known = cudaDeviceGetAttribute(&mode, cudaDevAttrComputeMode, index) == cudaSuccess &&
                     cudaDeviceGetAttribute(&shared, cudaDevAttrMpsEnabled, index) == cudaSuccess;
  if (!known) static_cast<void>(cudaGetLastError());
  return known && mode == cudaComputeModeExclusiveProcess && shared == 0;
}

std::string hopper_refusal(const c10::Device& device) {
  constexpr const char* kNeeded = "a Hopper GPU (compute capability 9.0) is needed";
  if (!device.is_cuda()) return fmt::format("{}, found the device {}", kNeeded, device.str());
  const cuda::Capability& found = cuda::capability(device.has_index() ? device.index() : c10::cuda::current_device());
  if (found.hopper) return "";
  if (found.major == 9 && found.minor == 0)
    return fmt::format("code for sm_90a is needed, and this build has none (-DCEPE_CUDA_ARCHITECTURES)");
  return fmt::format("{}, found {} of {}.{}", kNeeded, cuda_device_name(device), found.major, found.minor);
}

std::string cuda_device_name(const c10::Device& device) {
  return device.is_cuda() ? at::cuda::getDeviceProperties(device.index())->name : "";
}

}  // namespace cepe
