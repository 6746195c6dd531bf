#include <cuda_fp8.h>

#include <algorithm>
#include <cstdint>

#include "ops/cuda/bf16_vector.cuh"
#include "ops/gemm/fp8_kernel.h"

namespace cepe::fused {
namespace {

using namespace cuda;

constexpr int kBlock = 256;  // threads of a block in which each warp has a row of its own
constexpr int kWide = 512;   // threads that share a row which is too wide for a warp
constexpr float kGreatest = 448.f, kLeast = 1e-12f;

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
  return x;
}

// Eight values as one 8-byte access.
__device__ __forceinline__ void store_fp8(uint8_t* to, const float (&f)[kVector], float inverse) {
  uint32_t word[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float2 low = {__fmul_rn(f[4 * i], inverse), __fmul_rn(f[4 * i + 1], inverse)};
    const float2 high = {__fmul_rn(f[4 * i + 2], inverse), __fmul_rn(f[4 * i + 3], inverse)};
    word[i] = static_cast<uint32_t>(__nv_cvt_float2_to_fp8x2(low, __NV_SATFINITE, __NV_E4M3)) |
              static_cast<uint32_t>(__nv_cvt_float2_to_fp8x2(high, __NV_SATFINITE, __NV_E4M3)) << 16;
  }
  *reinterpret_cast<uint2*>(to) = make_uint2(word[0], word[1]);
}

// THREADS threads a row, a warp or the whole block, each with every THREADS-th vector of it.
template <int THREADS, int VECTORS, bool GATED>
__global__ void __launch_bounds__(THREADS == kWarp ? kBlock : THREADS) fp8_rows_kernel(const Fp8RowsArgs a) {
  constexpr int kRows = THREADS == kWarp ? kBlock / kWarp : 1;  // of a block
  __shared__ float shared[2][kWide / kWarp];                    // of this row and the next: one barrier a row is enough
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, thread = threadIdx.x % THREADS;
  const int vectors = static_cast<int>(a.width) / kVector;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kRows;
  int turn = 0;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * kRows + threadIdx.x / THREADS; row < a.rows;
       row += step, turn ^= 1) {
    const int64_t start = row * a.width;
    float f[VECTORS][kVector], greatest = 0.f;
#pragma unroll
    for (int j = 0; j < VECTORS; ++j) {
      const int v = j * THREADS + thread;
      if (v >= vectors) continue;
      unpack(load(static_cast<const bf16*>(a.x) + start + v * kVector), f[j]);
      if constexpr (GATED) {
        float gate[kVector];
        unpack(load(static_cast<const bf16*>(a.gate) + start + v * kVector), gate);
#pragma unroll
        for (int i = 0; i < kVector; ++i) f[j][i] *= gate[i] * sigmoid(gate[i]);
      }
#pragma unroll
      for (int i = 0; i < kVector; ++i) greatest = fmaxf(greatest, fabsf(f[j][i]));
    }
    greatest = warp_max(greatest);
    if constexpr (THREADS > kWarp) {
      if (lane == 0) shared[turn][warp] = greatest;
      __syncthreads();
#pragma unroll
      for (int w = 0; w < THREADS / kWarp; ++w) greatest = fmaxf(greatest, shared[turn][w]);
    }
    greatest = fmaxf(greatest, kLeast);
    if (thread == 0) a.scales[row] = __fdiv_rn(greatest, kGreatest);
    const float inverse = __fdiv_rn(kGreatest, greatest);
#pragma unroll
    for (int j = 0; j < VECTORS; ++j) {
      const int v = j * THREADS + thread;
      if (v < vectors) store_fp8(static_cast<uint8_t*>(a.values) + start + v * kVector, f[j], inverse);
    }
  }
}

template <int THREADS, int VECTORS>
void launch(const Fp8RowsArgs& args, cudaStream_t stream) {
  constexpr int threads = THREADS == kWarp ? kBlock : THREADS;
  const int blocks = blocks_for(args.rows * THREADS, threads);
  if (args.gate != nullptr) {
    fp8_rows_kernel<THREADS, VECTORS, true><<<blocks, threads, 0, stream>>>(args);
  } else {
    fp8_rows_kernel<THREADS, VECTORS, false><<<blocks, threads, 0, stream>>>(args);
  }
}

}  // namespace

void fp8_rows(const Fp8RowsArgs& args, void* stream) {
  if (args.rows == 0) return;
  if (!fp8_width_fits(args.width))
    cuda::refuse("fp8_rows", "the width is not a multiple of 8 up to dispatch::kFp8Width");
  const int64_t vectors = args.width / kVector;
  if (vectors <= 2 * kWarp) {
    launch<kWarp, 2>(args, as_stream(stream));
  } else if (vectors <= 4 * kWarp) {
    launch<kWarp, 4>(args, as_stream(stream));
  } else if (vectors <= kWide) {
    launch<kWide, 1>(args, as_stream(stream));
  } else if (vectors <= 2 * kWide) {
    launch<kWide, 2>(args, as_stream(stream));
  } else if (vectors <= 3 * kWide) {
    launch<kWide, 3>(args, as_stream(stream));
  } else if (vectors <= 4 * kWide) {
    launch<kWide, 4>(args, as_stream(stream));
  } else {
    launch<kWide, 6>(args, as_stream(stream));
  }
  check_launch("fp8_rows");
}

}  // namespace cepe::fused
