// What the second-level cache is told about an access. A decoding step reads all weights once, many times what the
// cache holds: told nothing, they push out what comes again within microseconds, such as a short context's states,
// which every layer reads, or the kernels' own instructions. PTX ISA: "createpolicy", "ld" with ".level::cache_hint".
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace cepe::cuda {

// For what is read once: it leaves the cache before anything else.
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
