// Instructions of GPUs from compute capability 8.0 on that have no name in CUDA C++: copies from global to shared
// memory that do not pass through registers, loads of tiles of a product, the product of a warp, and operands of it
// from bytes. PTX ISA 7.0 and later; the sections are named at each.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace cepe::ampere {

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// ---- Asynchronous copies ("cp.async"). A thread's copies are waited for in groups.

// 16 bytes; zeros where not `there`, and nothing is read then. Without an L2 policy: beside a size in a register, ptxas
// 13.0 gives it an odd register for its descriptor, and the instruction is illegal.
__device__ __forceinline__ void copy_16(uint32_t to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most kPending of this thread's groups are under way.
template <int kPending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}
// The same for a number that is not known at compile time, and the same in a warp: 0 to 7.
__device__ __forceinline__ void wait_copies(int pending) {
  switch (pending) {
    case 1: return wait_copies<1>();
    case 2: return wait_copies<2>();
    case 3: return wait_copies<3>();
    case 4: return wait_copies<4>();
    case 5: return wait_copies<5>();
    case 6: return wait_copies<6>();
    case 7: return wait_copies<7>();
    default: return wait_copies<0>();
  }
}

// ---- Products of a warp. With g = lane / 4 and t = lane % 4 a lane holds
//   of A (16 x 16)  a[0]: row g, columns 2t and the next    a[1]: row g + 8    a[2], a[3]: the same 8 columns later
//   of B (16 x 8)   b[0]: rows 2t and the next, column g    b[1]: the same 8 rows later
//   of D (16 x 8)   d[0], d[1]: row g, columns 2t and the next    d[2], d[3]: row g + 8

// Four 8 x 8 tiles of 16-bit values ("ldmatrix"): lane l gives the address of row l % 8 of tile l / 8. x[i] of lane l
// holds of tile i row l / 4, columns 2 (l % 4) and the next, or where kTransposed rows 2 (l % 4) and the next of column
// l / 4.
template <bool kTransposed>
__device__ __forceinline__ void load_tiles(uint32_t (&x)[4], uint32_t from) {
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(from));
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(from));
  }
}

// D += A B, A and B in bfloat16 ("mma.m16n8k16").
__device__ __forceinline__ void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// ---- Bytes as numbers

// The two of four bytes that kSelect's nibbles 0 and 2 name, each less 128, in bfloat16. With 0x43 before it a byte u
// is the number 128 + u below 128, whose exponent it leaves as it is, and 2 u from 128 on, whose exponent it raises.
// Less 256 that is u - 128 or twice as much, and negative or not: half of what is positive is taken off again. All is
// exact. Multiply-adds for this because they have a pipe of their own: logic operations would queue behind the
// permutation.
template <uint32_t kSelect>
__device__ __forceinline__ uint32_t two_of_bytes(uint32_t bytes) {
  constexpr uint32_t kOne = 0x3f803f80, kMinusHalf = 0xbf00bf00, kMinus256 = 0xc380c380;
  const uint32_t numbers = __byte_perm(bytes, 0x43434343, kSelect);
  uint32_t less, positive, values;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(less) : "r"(numbers), "r"(kOne), "r"(kMinus256));
  asm("fma.rn.relu.bf16x2 %0, %1, %2, %3;" : "=r"(positive) : "r"(numbers), "r"(kOne), "r"(kMinus256));
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(values) : "r"(positive), "r"(kMinusHalf), "r"(less));
  return values;
}

}  // namespace cepe::ampere
