// States in 8 bits for latent_mma_kernel.cu: a byte u stands for (u - 128) times its token's scale. Bytes become
// bfloat16 numbers without the scale, which is exact, so that products are those of bfloat16 states; the scale is a
// factor of the token's scores and of its weights. docs/kernels/latent_mma.md
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "ops/latent/latent_mma_layout.h"

namespace cepe::latent_kernel::on_ampere {

// The two of four bytes that kSelect's nibbles 0 and 2 name, each less 128, in bfloat16.
template <uint32_t kSelect>
__device__ __forceinline__ uint32_t two_values(uint32_t bytes) {
  constexpr uint32_t kMinusOne = 0xbf80bf80;
  const uint32_t with_43 = __byte_perm(bytes, 0x43434343, kSelect);
  uint32_t values;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;"
      : "=r"(values)
      : "r"(latent_mma::wide_offsets(with_43)), "r"(kMinusOne), "r"(latent_mma::wide_numbers(with_43)));
  return values;
}

// Widens a warp's slot of bytes into one of bfloat16. All bytes are loaded first, also those of steps that the warp
// does not have, so that no load waits for a store; stores leave those steps as they are.
template <class L>
__device__ __forceinline__ void widen_block(const latent_mma::Slice& slice, const char* from, char* to) {
  constexpr int kParts = 2 * L::steps;  // of 8 values in a token's slice
  const int lane = threadIdx.x % 32;
  uint2 bytes[L::steps];
#pragma unroll
  for (int i = 0; i < L::steps; ++i) {
    const auto [token, part] = latent_mma::slot_part<kParts>(i, lane);
    bytes[i] = *reinterpret_cast<const uint2*>(from + token * L::ring_row_bytes + part * 8);
  }
#pragma unroll
  for (int i = 0; i < L::steps; ++i) {
    const auto [token, part] = latent_mma::slot_part<kParts>(i, lane);
    const auto [first, second] = bytes[i];
    if (part < 2 * slice.steps) {
      *reinterpret_cast<uint4*>(to + token * L::row_bytes + part * 16) = {
          two_values<0x4140>(first), two_values<0x4342>(first), two_values<0x4140>(second), two_values<0x4342>(second)};
    }
  }
}

}  // namespace cepe::latent_kernel::on_ampere
