// L2 cache policies. A decoding step reads all weights once, many times the size of the cache. Without a policy the
// weights evict data that is read again within microseconds: a short context's states, which every layer reads, and the
// kernels' own instructions. PTX ISA: "createpolicy", "ld" with ".level::cache_hint".
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace cepe::cuda {

// evict_first, for data that is read once.
__device__ __forceinline__ uint64_t read_once() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

// 16 bytes, read once, by this thread alone.
__device__ __forceinline__ uint4 load_once(const void* p) {
  uint4 raw;
  asm volatile("ld.global.nc.L1::no_allocate.L2::cache_hint.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4], %5;"
               : "=r"(raw.x), "=r"(raw.y), "=r"(raw.z), "=r"(raw.w)
               : "l"(p), "l"(read_once()));
  return raw;
}

}  // namespace cepe::cuda
