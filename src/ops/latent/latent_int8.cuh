// Latents in 8 bits: their products and their queries. Included by latent_kernel.cu only. A byte u stands for (u - 128)
// times the token's scale. Scores are integer products of the bytes with queries of two bytes. Sums need the bytes
// transposed, which wgmma does not offer for 8-bit operands: they pass through registers as float16 numbers, 0x6400 | u
// being 1024 + u. docs/kernels/latent_int8.md derives the layouts.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "ops/cuda/hopper.cuh"
#include "ops/latent/latent_merge.cuh"

namespace cepe::latent_kernel {

constexpr int kSlotWidth8 = 128;  // values of the width in a slot of the ring: 64 tokens x 128 bytes, swizzled
// The fine byte's steps in one step of the coarse byte. 1024 x 128 x (127 x 128 + 64) is below 2^31: once the offset is
// taken off, the sum of both over the whole width is an integer of 32 bits, whatever overflowed on the way.
constexpr int kFineSteps = 128;
constexpr uint32_t kMagic = 0x64646464;

// The offset in a slot of the 16 bytes of token `row` from value `column` on, in TMA's 128-byte swizzle.
__device__ __forceinline__ int place_in_slot(int row, int column) {
  return row * kSlotWidth8 + (column / 16 ^ row % 8) * 16;
}

// Two bytes as float16 numbers 1024 + u, those of `bytes` that kSelect's nibbles 0 and 2 name, less 1152: their values.
template <uint32_t kSelect>
__device__ __forceinline__ uint32_t two_values(uint32_t bytes) {
  const uint32_t numbers = __byte_perm(bytes, kMagic, kSelect), offset = 0x64806480;
  uint32_t values;
  asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(values) : "r"(numbers), "r"(offset));
  return values;
}

// D (64 x 64, int32) += A (64 x 32, signed bytes, in registers) B (32 x 64, unsigned bytes, its columns along K in
// shared memory). D lies in registers as that of hopper::multiply(). Of A lane l of warp w holds, with g = l / 4 and
// t = l % 4,
//   a[0]: row 16w + g, columns 4t to 4t + 3   a[1]: row 16w + g + 8   a[2], a[3]: the same rows, columns 16 later
__device__ __forceinline__ void multiply_bytes(int (&d)[32], const uint32_t (&a)[4], uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k32.s32.s8.u8 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%"
      "30,%31}, "
      "{%32,%33,%34,%35}, %36, add;\n}"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]), "+r"(d[4]), "+r"(d[5]), "+r"(d[6]), "+r"(d[7]), "+r"(d[8]),
        "+r"(d[9]), "+r"(d[10]), "+r"(d[11]), "+r"(d[12]), "+r"(d[13]), "+r"(d[14]), "+r"(d[15]), "+r"(d[16]),
        "+r"(d[17]), "+r"(d[18]), "+r"(d[19]), "+r"(d[20]), "+r"(d[21]), "+r"(d[22]), "+r"(d[23]), "+r"(d[24]),
        "+r"(d[25]), "+r"(d[26]), "+r"(d[27]), "+r"(d[28]), "+r"(d[29]), "+r"(d[30]), "+r"(d[31])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)));
}

// D (64 x N) += A (64 x 16, float16, in registers) B (16 x N, float16). Lane l of warp w holds, with g = l / 4 and
// t = l % 4,
//   a[0]: row 16w + g, columns 2t, 2t + 1   a[1]: row 16w + g + 8   a[2], a[3]: the same rows, columns 2t + 8, 2t + 9
__device__ __forceinline__ void multiply_registers(float (&d)[8], const uint32_t (&a)[4], uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %13, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {%0,%1,%2,%3,%4,%5,%6,%7}, {%8,%9,%10,%11}, %12, add, 1, 1, "
      "0;\n}"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)));
}
__device__ __forceinline__ void multiply_registers(float (&d)[16], const uint32_t (&a)[4], uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %21, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, {%16,%17,%18,%19}, %20, add, 1, 1, 0;\n}"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)));
}

// words: of 32 tokens 16 bytes each, as load_tiles<true>() loads them, words[i] of lane l holding of tokens 8i + 2t and
// the next bytes 2g and 2g + 1 each, g = l / 4 and t = l % 4. As A of two products of 16 tokens, whose rows 16w + g and
// 16w + g + 8 are values 16w + 2g and 16w + 2g + 1.
__device__ __forceinline__ void values_of(const uint32_t (&words)[4], uint32_t (&a)[2][4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    a[i / 2][i % 2 * 2] = two_values<0x4240>(words[i]), a[i / 2][i % 2 * 2 + 1] = two_values<0x4341>(words[i]);
  }
}

// ---- Queries: x = scale (kFineSteps first + second) with two signed bytes, a scale a row.

struct QueryScale {
  float scale;
  uint32_t offset;  // 128 times the sum of what the scale multiplies
};
struct PrepareArgs {
  const __nv_bfloat16* query;  // (rows, width): rows of all contexts
  // (rows, width / 32, 4, 16 bytes), as multiply_bytes() wants them: of 32 values the first bytes of 4t to 4t + 3,
  // their second ones, and both of the values 16 later.
  int8_t* out;
  QueryScale* scales;  // (rows)
  int64_t rows, width;
};
constexpr int kPrepareThreads = 128;

__device__ __forceinline__ float in_all_threads(float x, bool highest, float* memory) {
#pragma unroll
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const float other = __shfl_xor_sync(~0u, x, lanes);
    x = highest ? fmaxf(x, other) : x + other;
  }
  if (threadIdx.x % 32 == 0) memory[threadIdx.x / 32] = x;
  __syncthreads();
  x = memory[0];
#pragma unroll
  for (int warp = 1; warp < kPrepareThreads / 32; ++warp) x = highest ? fmaxf(x, memory[warp]) : x + memory[warp];
  return x;
}

static __global__ void __launch_bounds__(kPrepareThreads) prepare_queries(const PrepareArgs a) {
  __shared__ float memory[2][kPrepareThreads / 32];
  constexpr int kMost = 1024 / 4 / kPrepareThreads;  // fours of values of a thread
  const int64_t row = blockIdx.x;
  const auto* const query = reinterpret_cast<const uint2*>(a.query + row * a.width);
  const int fours = static_cast<int>(a.width) / 4;
  float x[kMost][4], highest = 0;
  bool broken = false;
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
#pragma unroll
  for (int i = 0; i < kMost; ++i) {
    const int four = threadIdx.x + i * kPrepareThreads;
    const uint2 raw = four < fours ? query[four] : uint2{0, 0};
    const uint32_t bits[4] = {raw.x << 16, raw.x & 0xffff0000, raw.y << 16, raw.y & 0xffff0000};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      x[i][j] = __uint_as_float(bits[j]);
      highest = fmaxf(highest, fabsf(x[i][j]));
      broken |= !(fabsf(x[i][j]) < INFINITY);  // fmaxf passes over what is not a number
    }
  }
  highest = in_all_threads(broken ? INFINITY : highest, true, memory[0]);
  const float factor = highest > 0 ? 127 / highest : 0;
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kMost; ++i) {
    const int four = threadIdx.x + i * kPrepareThreads;
    uint32_t first = 0, second = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float scaled = fminf(fmaxf(x[i][j] * factor, -127), 127), coarse = rintf(scaled);
      const float fine = rintf((scaled - coarse) * kFineSteps);
      first |= (static_cast<uint32_t>(static_cast<int>(coarse)) & 255) << 8 * j;
      second |= (static_cast<uint32_t>(static_cast<int>(fine)) & 255) << 8 * j;
      sum += coarse * kFineSteps + fine;  // exact: an integer below 2^24
    }
    if (four >= fours) continue;
    // Of 32 values eight fours: t = 0 to 3, then those of the values 16 later.
    auto* const to = reinterpret_cast<uint2*>(a.out + row * 2 * a.width) + (four / 8 * 4 + four % 4) * 2 + four / 4 % 2;
    *to = uint2{first, second};
  }
  sum = in_all_threads(sum, false, memory[1]);
  if (threadIdx.x == 0) {
    const float scale = highest < INFINITY ? highest / (127 * kFineSteps) : NAN;
    a.scales[row] = {scale, static_cast<uint32_t>(static_cast<int>(sum) * 128)};
  }
}

inline void launch_prepare_queries(const PrepareArgs& args, cudaStream_t stream) {
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(args.rows));
  config.blockDim = dim3(kPrepareThreads);
  config.stream = stream;
  config.attrs = &early;
  config.numAttrs = 1;
  check(cudaLaunchKernelEx(&config, prepare_queries, args));
}

}  // namespace cepe::latent_kernel
