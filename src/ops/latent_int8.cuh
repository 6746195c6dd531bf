// Latents in 8 bits: how a warpgroup scores and adds a tile of them. Included by latent_kernel.cu only. A byte u stands for
// (u - 128) times the token's scale; the tensor cores get it as the float16 number 1024 + u, which is a byte permutation
// away: 0x6400 | u. Registers feed them, so that a byte is read from shared memory once for scores and once for sums.
// docs/kernels/latent_attention.md derives the layouts.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "ops/hopper.cuh"
#include "ops/latent_merge.cuh"

namespace cepe::latent_kernel {

constexpr float kByteOffset = 1152;     // 1024 + 128: what a byte's float16 number exceeds its value by
constexpr int kSlotWidth8 = 128;        // values of the width in a slot of the ring: 64 tokens x 128 bytes, swizzled
constexpr uint32_t kMagic = 0x64646464;

// Where the copy engine's swizzle put the four bytes of token `row` from value `column` (a multiple of 4) of a slot.
__device__ __forceinline__ int place_in_slot(int row, int column) {
  return row * kSlotWidth8 + ((column / 16 ^ row % 8) * 16 | column % 16);
}

// The position in a query's row of the value that stands at `column` of the width: the order in which score_bytes() meets
// them. A slot of 128 values makes two chunks of 64.
__host__ __device__ constexpr int query_place(int column) {
  const int in_slot = column % kSlotWidth8, part = in_slot / 16, in_part = in_slot % 16;
  return column - in_slot + part % 2 * 64 + in_part / 4 * 16 + in_part % 4 / 2 * 8 + part / 2 * 2 + in_part % 2;
}

// Two bytes as float16 numbers 1024 + u: those of `bytes` that kSelect's nibbles 0 and 2 name.
template <uint32_t kSelect>
__device__ __forceinline__ uint32_t two_numbers(uint32_t bytes) {
  return __byte_perm(bytes, kMagic, kSelect);
}
// The same less 1152: their values.
template <uint32_t kSelect>
__device__ __forceinline__ uint32_t two_values(uint32_t bytes) {
  const uint32_t numbers = two_numbers<kSelect>(bytes), offset = 0x64806480;
  uint32_t values;
  asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(values) : "r"(numbers), "r"(offset));
  return values;
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

// Scores of the 64 tokens of a slot: score += numbers (64 x 128) query (128 x rows). query: the operand of the first of the
// slot's two chunks, whose second lies `chunk_step` of the operand's units of 16 bytes further. One batch of products stays
// on its way.
template <int kValues>
__device__ __forceinline__ void score_bytes(const char* slot, uint64_t query, uint32_t chunk_step, bool first, float (&score)[kValues]) {
  const int lane = threadIdx.x % 32, row = threadIdx.x % 128 / 32 * 16 + lane / 4;
#pragma unroll
  for (int s = 0; s < 2; ++s) {
    const int column = (lane % 4 * 2 + s) * 16;
    const uint4 low = *reinterpret_cast<const uint4*>(slot + place_in_slot(row, column));
    const uint4 high = *reinterpret_cast<const uint4*>(slot + place_in_slot(row + 8, column));
    const uint32_t of_low[4] = {low.x, low.y, low.z, low.w}, of_high[4] = {high.x, high.y, high.z, high.w};
    uint32_t a[4][4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      a[j][0] = two_numbers<0x4140>(of_low[j]), a[j][1] = two_numbers<0x4140>(of_high[j]);
      a[j][2] = two_numbers<0x4342>(of_low[j]), a[j][3] = two_numbers<0x4342>(of_high[j]);
    }
    hopper::begin_products();
#pragma unroll
    for (int j = 0; j < 4; ++j) multiply_registers(score, a[j], query + s * chunk_step + j * 2, !(first && s + j == 0));
    hopper::commit_products();
    hopper::wait_products<1>();
  }
}

// What a thread adds of 16 tokens from one word (four values of the width) of each of four: the rows of two products.
struct Added {
  uint32_t a[2][4];
};
__device__ __forceinline__ Added load_added(const char* slot, int first_token, int column) {
  const int row = first_token + threadIdx.x % 4 * 2;
  const auto word = [&](int r) { return *reinterpret_cast<const uint32_t*>(slot + place_in_slot(r, column)); };
  const uint32_t w0 = word(row), w1 = word(row + 1), w2 = word(row + 8), w3 = word(row + 9);
  const uint32_t early[2] = {__byte_perm(w0, w1, 0x5140), __byte_perm(w0, w1, 0x7362)};
  const uint32_t late[2] = {__byte_perm(w2, w3, 0x5140), __byte_perm(w2, w3, 0x7362)};
  Added added;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    added.a[half][0] = two_values<0x4140>(early[half]), added.a[half][1] = two_values<0x4342>(early[half]);
    added.a[half][2] = two_values<0x4140>(late[half]), added.a[half][3] = two_values<0x4342>(late[half]);
  }
  return added;
}

// ---- Queries for it: float16 between -1 and 1 with a scale a row, in the order of query_place(), zeros behind the width.

constexpr int64_t padded_width(int64_t width) { return (width + kSlotWidth8 - 1) / kSlotWidth8 * kSlotWidth8; }

struct PrepareArgs {
  const __nv_bfloat16* query;  // (rows, width)
  __half* out;                 // (rows, padded_width)
  float2* scales;              // (rows): the scale, and 1152 times the sum of the row's numbers
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
  const __nv_bfloat16* const query = a.query + blockIdx.x * a.width;
  const int64_t padded = padded_width(a.width);
  __half* const out = a.out + blockIdx.x * padded;
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
  const float factor = highest > 0 ? 1 / highest : 0;
  float sum = 0;
  for (int64_t i = threadIdx.x; i < padded; i += kPrepareThreads) {
    const __half value = __float2half_rn(i < a.width ? __bfloat162float(query[i]) * factor : 0);
    out[query_place(static_cast<int>(i))] = value;
    sum += __half2float(value);
  }
  sum = in_all_threads(sum, false, memory[1]);
  if (threadIdx.x == 0) a.scales[blockIdx.x] = {highest < INFINITY ? highest : NAN, sum * kByteOffset};
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
