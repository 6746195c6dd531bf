#include "ops/cuda/capability.h"

#include <cuda_runtime.h>

#include <array>
#include <cstdio>
#include <mutex>

#include "ops/cuda/refuse.h"

namespace cepe::cuda {
namespace {

constexpr int kMostDevices = 64;

// Its attributes tell which of the architectures of the build the driver took.
__global__ void probe() {}

void check(cudaError_t status) {
  if (status != cudaSuccess) refuse("capability", cudaGetErrorString(status));
}

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device));
  return value;
}

Capability ask(int device) {
  Capability found;
  found.major = attribute(cudaDevAttrComputeCapabilityMajor, device);
  found.minor = attribute(cudaDevAttrComputeCapabilityMinor, device);
  found.shared_bytes = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  int before = 0;
  check(cudaGetDevice(&before));
  if (before != device) check(cudaSetDevice(device));
  cudaFuncAttributes attributes{};
  const cudaError_t status = cudaFuncGetAttributes(&attributes, probe);
  if (before != device) check(cudaSetDevice(before));
  if (status != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    char reason[200];
    std::snprintf(reason, sizeof reason,
                  "this build has no code for a GPU of compute capability %d.%d; configure it with "
                  "-DCEPE_CUDA_ARCHITECTURES=%d%d (%s)",
                  found.major, found.minor, found.major, found.minor, cudaGetErrorString(status));
    refuse("capability", reason);
  }
  found.compiled = attributes.ptxVersion;
  found.dependent_launch = found.compiled >= 90;
  found.hopper = found.major == 9 && found.minor == 0 && hopper_is_built();
  return found;
}

}  // namespace

const Capability& capability(int device) {
  static std::array<std::once_flag, kMostDevices> asked;
  static std::array<Capability, kMostDevices> known;
  if (device < 0 || device >= kMostDevices) refuse("capability", "there are more than 64 devices");
  const auto at = static_cast<size_t>(device);
  std::call_once(asked[at], [&] { known[at] = ask(device); });
  return known[at];
}

const Capability& capability() {
  int device = 0;
  check(cudaGetDevice(&device));
  return capability(device);
}

}  // namespace cepe::cuda
