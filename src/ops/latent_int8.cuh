// Latents in 8 bits: products of them, and their queries. Included by latent_kernel.cu only. A byte u stands for (u - 128) times
// the token's scale. For scores the tensor cores multiply bytes as they lie, with queries of two bytes. For sums, where they would
// have to lie the other way round, they pass through registers as float16 numbers: 0x6400 | u is 1024 + u.
// docs/kernels/latent_attention.md derives the layouts.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "ops/hopper.cuh"
#include "ops/latent_merge.cuh"

namespace cepe::latent_kernel {

constexpr int kSlotWidth8 = 128;        // values of the width in a slot of the ring: 64 tokens x 128 bytes, swizzled
// Steps of a query's second byte in one of its first. 1024 x 128 x (127 x 128 + 64) is below 2^31: once the offset is taken off,
// the sum of both over the whole width is an integer of 32 bits, whatever overflowed on the way.
constexpr int kFineSteps = 128;
constexpr uint32_t kMagic = 0x64646464;

// Where the copy engine's swizzle put the four bytes of token `row` from value `column` (a multiple of 4) of a slot.
__device__ __forceinline__ int place_in_slot(int row, int column) {
  return row * kSlotWidth8 + ((column / 16 ^ row % 8) * 16 | column % 16);
}

// Two bytes as float16 numbers 1024 + u, those of `bytes` that kSelect's nibbles 0 and 2 name, less 1152: their values.
template <uint32_t kSelect>
__device__ __forceinline__ uint32_t two_values(uint32_t bytes) {
  const uint32_t numbers = __byte_perm(bytes, kMagic, kSelect), offset = 0x64806480;
  uint32_t values;
  asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(values) : "r"(numbers), "r"(offset));
  return values;
}

// D (64 x N, int32) += A (64 x 32, unsigned bytes) B (32 x N, signed bytes), both in shared memory, rows of A and columns of B
// along K. D lies in registers as that of hopper::multiply().
__device__ __forceinline__ void multiply_bytes(int (&d)[8], uint64_t a, uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %10, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n16k32.s32.u8.s8 {%0,%1,%2,%3,%4,%5,%6,%7}, %8, %9, add;\n}"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]), "+r"(d[4]), "+r"(d[5]), "+r"(d[6]), "+r"(d[7])
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}
__device__ __forceinline__ void multiply_bytes(int (&d)[16], uint64_t a, uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %18, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k32.s32.u8.s8 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, %16, %17, add;\n}"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]), "+r"(d[4]), "+r"(d[5]), "+r"(d[6]), "+r"(d[7]), "+r"(d[8]), "+r"(d[9]),
        "+r"(d[10]), "+r"(d[11]), "+r"(d[12]), "+r"(d[13]), "+r"(d[14]), "+r"(d[15])
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}
__device__ __forceinline__ void multiply_bytes(int (&d)[32], uint64_t a, uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k32.s32.u8.s8 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, "
      "%32, %33, add;\n}"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]), "+r"(d[4]), "+r"(d[5]), "+r"(d[6]), "+r"(d[7]), "+r"(d[8]), "+r"(d[9]),
        "+r"(d[10]), "+r"(d[11]), "+r"(d[12]), "+r"(d[13]), "+r"(d[14]), "+r"(d[15]), "+r"(d[16]), "+r"(d[17]), "+r"(d[18]),
        "+r"(d[19]), "+r"(d[20]), "+r"(d[21]), "+r"(d[22]), "+r"(d[23]), "+r"(d[24]), "+r"(d[25]), "+r"(d[26]), "+r"(d[27]),
        "+r"(d[28]), "+r"(d[29]), "+r"(d[30]), "+r"(d[31])
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}

// D (64 x N) += A (64 x 16, float16, in registers) B (16 x N, float16). Lane l of warp w holds, g = l / 4 and t = l % 4,
//   a[0]: row 16w + g, columns 2t, 2t + 1   a[1]: row 16w + g + 8   a[2], a[3]: the same rows, columns 2t + 8, 2t + 9
__device__ __forceinline__ void multiply_registers(float (&d)[4], const uint32_t (&a)[4], uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %9, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%0,%1,%2,%3}, {%4,%5,%6,%7}, %8, add, 1, 1, 0;\n}"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)));
}
__device__ __forceinline__ void multiply_registers(float (&d)[8], const uint32_t (&a)[4], uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %13, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {%0,%1,%2,%3,%4,%5,%6,%7}, {%8,%9,%10,%11}, %12, add, 1, 1, 0;\n}"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)));
}
__device__ __forceinline__ void multiply_registers(float (&d)[16], const uint32_t (&a)[4], uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %21, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, {%16,%17,%18,%19}, %20, add, 1, 1, 0;\n}"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), "+f"(d[9]),
        "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)));
}

// Where a token's weight stands in a row of weights, so that tokens x and x + 8 of 16, which one thread weighs, are neighbours,
// and that load_words() meets no bank twice: of a product's columns 2t, 2t + 1 and 2t + 8, 2t + 9 the first two are tokens x and
// x + 8 with x = t for even t and t + 4 for odd t, the others those with x ^ 4.
__device__ __forceinline__ int place_of_token(int token) {
  const int x = token % 8, t = x % 4, late = (x / 4 ^ t) & 1;
  return token / 16 * 16 + late * 8 + 2 * t + token / 8 % 2;
}

// Of 16 tokens four values of the width each: what a thread adds of them, as it lies in a slot and as the rows of two products.
struct Words {
  uint32_t of[4];  // the tokens of columns 2t, 2t + 1, 2t + 8, 2t + 9 with t = lane % 4
};
// early, late: where the words of tokens x and x ^ 4 of a tile lie.
__device__ __forceinline__ Words load_words(const char* early, const char* late, int first_token) {
  const auto word = [&](const char* at, int later) {
    return *reinterpret_cast<const uint32_t*>(at + (first_token + later) * kSlotWidth8);
  };
  return {{word(early, 0), word(early, 8), word(late, 0), word(late, 8)}};
}
__device__ __forceinline__ void values_of(const Words& words, uint32_t (&a)[2][4]) {
  const uint32_t early[2] = {__byte_perm(words.of[0], words.of[1], 0x5140), __byte_perm(words.of[0], words.of[1], 0x7362)};
  const uint32_t late[2] = {__byte_perm(words.of[2], words.of[3], 0x5140), __byte_perm(words.of[2], words.of[3], 0x7362)};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    a[half][0] = two_values<0x4140>(early[half]), a[half][1] = two_values<0x4342>(early[half]);
    a[half][2] = two_values<0x4140>(late[half]), a[half][3] = two_values<0x4342>(late[half]);
  }
}

// ---- Queries: x = scale (kFineSteps first + second) with two signed bytes, a scale a row.

struct QueryScale {
  float scale;
  uint32_t offset;  // 128 times the sum of what the scale multiplies
};
struct PrepareArgs {
  const __nv_bfloat16* query;  // (contexts, rows, width)
  int8_t* out;                 // (contexts, 2, rows, width): all first bytes of a context's rows, then the second ones
  QueryScale* scales;          // (contexts, rows)
  int64_t contexts, rows, width;
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
  const int64_t row = blockIdx.x, context = row / a.rows;
  const __nv_bfloat16* const query = a.query + row * a.width;
  int8_t* const first = a.out + (row + context * a.rows) * a.width;
  int8_t* const second = first + a.rows * a.width;
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  float highest = 0;
  bool broken = false;
  for (int64_t i = threadIdx.x; i < a.width; i += kPrepareThreads) {
    const float magnitude = fabsf(__bfloat162float(query[i]));
    highest = fmaxf(highest, magnitude);
    broken |= !(magnitude < INFINITY);  // fmaxf passes over what is not a number
  }
  highest = in_all_threads(broken ? INFINITY : highest, true, memory[0]);
  const float factor = highest > 0 ? 127 / highest : 0;
  float sum = 0;
  for (int64_t i = threadIdx.x; i < a.width; i += kPrepareThreads) {
    const float x = fminf(fmaxf(__bfloat162float(query[i]) * factor, -127), 127), coarse = rintf(x);
    const float fine = rintf((x - coarse) * kFineSteps);
    first[i] = static_cast<int8_t>(coarse), second[i] = static_cast<int8_t>(fine);
    sum += coarse * kFineSteps + fine;  // exact: an integer below 2^24
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
  config.gridDim = dim3(static_cast<unsigned>(args.contexts * args.rows));
  config.blockDim = dim3(kPrepareThreads);
  config.stream = stream;
  config.attrs = &early;
  config.numAttrs = 1;
  check(cudaLaunchKernelEx(&config, prepare_queries, args));
}

}  // namespace cepe::latent_kernel
