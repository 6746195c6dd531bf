// What the CUDA kernels of this folder share: eight bfloat16 values as one 16-byte access, sums of a warp, and checks
// of launches.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "ops/cuda/capability.h"
#include "ops/cuda/refuse.h"

namespace cepe::cuda {

using bf16 = __nv_bfloat16;

constexpr int kWarp = 32;
constexpr int kVector = 8;  // bfloat16 values in one 16-byte access

// Eight bfloat16 values, moved as one 16-byte access.
struct alignas(16) Vector {
  __nv_bfloat162 pair[kVector / 2];
};

__device__ __forceinline__ Vector load(const bf16* p) {
  const uint4 raw = *reinterpret_cast<const uint4*>(p);
  return reinterpret_cast<const Vector&>(raw);
}

__device__ __forceinline__ void store(bf16* p, const Vector& v) {
  *reinterpret_cast<uint4*>(p) = reinterpret_cast<const uint4&>(v);
}

__device__ __forceinline__ void unpack(const Vector& v, float (&f)[kVector]) {
#pragma unroll
  for (int i = 0; i < kVector / 2; ++i) {
    const float2 two = __bfloat1622float2(v.pair[i]);
    f[2 * i] = two.x;
    f[2 * i + 1] = two.y;
  }
}

__device__ __forceinline__ Vector pack(const float (&f)[kVector]) {
  Vector v;
#pragma unroll
  for (int i = 0; i < kVector / 2; ++i) v.pair[i] = __floats2bfloat162_rn(f[2 * i], f[2 * i + 1]);
  return v;
}

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.f, 1.f + __expf(-x)); }

inline bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

template <typename... Pointers>
bool all_aligned(Pointers... p) {
  return (aligned(p) && ...);
}

inline void check_launch(const char* kernel) {
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess) cuda::refuse(kernel, cudaGetErrorString(status));
}

// Programmatic dependent launch: the CTAs of a kernel may start while the preceding kernel on the stream still runs.
// Each kernel of a decoding step calls trigger_dependents() first, which lets the next kernel start, and
// grid_dependency_sync() before it touches memory that others write. That sync returns when all earlier kernels have
// ended, so any kernel may be launched this way after any other. Code for GPUs before 9.0 has neither, and is launched
// plainly (dependent_attributes()).
__device__ __forceinline__ void trigger_dependents() {
#if __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}
__device__ __forceinline__ void grid_dependency_sync() {
#if __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
#endif
}

// Makes `attribute` that of a programmatic dependent launch -> how many attributes a launch on the current device has.
inline unsigned dependent_attributes(cudaLaunchAttribute& attribute) {
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  return capability().dependent_launch ? 1 : 0;
}

// The grid, threads, shared memory and stream of a launch.
struct LaunchShape {
  dim3 grid;
  unsigned threads;
  size_t shared_bytes;
  cudaStream_t stream;
};
template <typename Args>
void launch_dependent(const char* name, void (*kernel)(const Args), const LaunchShape& how, const Args& args) {
  cudaLaunchAttribute attribute{};
  cudaLaunchConfig_t config{};
  config.gridDim = how.grid;
  config.blockDim = dim3(how.threads);
  config.dynamicSmemBytes = how.shared_bytes;
  config.stream = how.stream;
  config.attrs = &attribute;
  config.numAttrs = dependent_attributes(attribute);
  const cudaError_t status = cudaLaunchKernelEx(&config, kernel, args);
  if (status != cudaSuccess) cuda::refuse(name, cudaGetErrorString(status));
}

inline int multiprocessors() {
  static const int count = [] {
    int device = 0, n = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&n, cudaDevAttrMultiProcessorCount, device);
    return std::max(n, 1);
  }();
  return count;
}

// Blocks for `items` items of work, one a thread; beyond 32 blocks a multiprocessor the kernels' loops take over.
inline int blocks_for(int64_t items, int threads) {
  return static_cast<int>(std::clamp<int64_t>((items + threads - 1) / threads, 1, int64_t{32} * multiprocessors()));
}

inline cudaStream_t as_stream(void* stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace cepe::cuda
