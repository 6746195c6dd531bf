// States in 8 bits for latent_mma_kernel.cu: a byte u stands for (u - 128) times its token's scale. Bytes become
// bfloat16 numbers without the scale, which is exact, so that products are those of bfloat16 states; the scale is a
// factor of the token's scores and of its weights. docs/kernels/latent_mma.md
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "ops/latent/latent_mma_layout.h"

namespace cepe::latent_kernel::on_ampere {

// The two of four bytes that kSelect's nibbles 0 and 2 name, each less 128, in bfloat16. With 0x43 before it a byte u
// is the number 128 + u below 128, whose exponent it leaves as it is, and 2 u from 128 on, whose exponent it raises.
// Less 256 that is u - 128 or twice as much, and negative or not: half of what is positive is taken off again. All is
// exact. Multiply-adds for this because they have a pipe of their own: logic operations would queue behind the
// permutation.
template <uint32_t kSelect>
__device__ __forceinline__ uint32_t two_values(uint32_t bytes) {
  constexpr uint32_t kOne = 0x3f803f80, kMinusHalf = 0xbf00bf00, kMinus256 = 0xc380c380;
  const uint32_t numbers = __byte_perm(bytes, 0x43434343, kSelect);
  uint32_t less, positive, values;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(less) : "r"(numbers), "r"(kOne), "r"(kMinus256));
  asm("fma.rn.relu.bf16x2 %0, %1, %2, %3;" : "=r"(positive) : "r"(numbers), "r"(kOne), "r"(kMinus256));
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(values) : "r"(positive), "r"(kMinusHalf), "r"(less));
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
