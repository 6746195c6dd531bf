// What many rows need beside the library's products: weights of a block of scores, and states in 8 bits as bfloat16.
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cmath>

#include "ops/cuda/bf16_vector.cuh"
#include "ops/cuda/refuse.h"
#include "ops/latent/latent_kernel.h"
#include "ops/latent/latent_merge.cuh"

namespace cepe::latent_kernel {
namespace {

using cuda::bf16;
using cuda::kWarp;

constexpr int kThreads = 256;

// A thread 16 values.
__global__ void __launch_bounds__(kThreads) widen_states(const WidenArgs a) {
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * 16;
  if (at >= a.tokens * a.width) return;
  const float scale = a.scales[at / a.width];
  const uint4 bytes = *reinterpret_cast<const uint4*>(static_cast<const char*>(a.states) + at);
  const uint32_t words[4] = {bytes.x, bytes.y, bytes.z, bytes.w};
  __align__(16) __nv_bfloat162 wide[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const uint32_t two = words[i / 2] >> i % 2 * 16;
    wide[i] = __floats2bfloat162_rn((static_cast<float>(two & 255) - 128) * scale,
                                    (static_cast<float>(two >> 8 & 255) - 128) * scale);
  }
  uint4* const to = reinterpret_cast<uint4*>(static_cast<bf16*>(a.out) + at);
  to[0] = reinterpret_cast<const uint4*>(wide)[0];
  to[1] = reinterpret_cast<const uint4*>(wide)[1];
}

// The weights of one row of one block of scores.
__global__ void __launch_bounds__(kThreads) weigh_block(const WeighArgs a) {
  __shared__ float scores[kMaxBlockTokens];
  __shared__ float parts[kThreads / kWarp];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int64_t block = blockIdx.x, row = blockIdx.y, first = block * a.block_tokens;
  const int tokens = static_cast<int>(a.block_tokens);
  const float* const from = a.scores + row * a.blocks * a.block_tokens + first;
  float highest = -INFINITY;
  for (int i = threadIdx.x; i < tokens; i += kThreads) {
    const float score = !a.mask || a.mask[first + i] ? from[i] * (a.scale * 1.44269504f) : -INFINITY;
    scores[i] = score;
    highest = fmaxf(highest, score);
  }
  highest = highest_in_warp(highest);
  if (lane == 0) parts[warp] = highest;
  __syncthreads();
  for (int w = 0; w < kThreads / kWarp; ++w) highest = fmaxf(highest, parts[w]);
  __syncthreads();
  const float shift = highest == -INFINITY ? 0 : highest;
  bf16* const to = static_cast<bf16*>(a.weights) + row * a.blocks * a.block_tokens + first;
  float total = 0;
  for (int i = threadIdx.x; i < tokens; i += kThreads) {
    const float weight = exp2f(scores[i] - shift);
    to[i] = __float2bfloat16_rn(weight);
    total += weight;
  }
  total = sum_in_warp(total);
  if (lane == 0) parts[warp] = total;
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (int w = 1; w < kThreads / kWarp; ++w) total += parts[w];
  a.statistics[block * 2 * a.rows + row] = highest;
  a.statistics[(block * 2 + 1) * a.rows + row] = total;
}

}  // namespace

void weigh(const WeighArgs& args, void* stream) {
  if (args.block_tokens > kMaxBlockTokens) cuda::refuse("latent attention", "a block of scores is too long");
  const dim3 grid(static_cast<unsigned>(args.blocks), static_cast<unsigned>(args.rows));
  weigh_block<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(args);
  check(cudaGetLastError());
}

void widen(const WidenArgs& args, void* stream) {
  if (args.width % 16 != 0) cuda::refuse("latents in 8 bits", "the width is not a multiple of 16");
  const int64_t threads = args.tokens * args.width / 16;
  if (threads == 0) return;
  widen_states<<<static_cast<unsigned>((threads + kThreads - 1) / kThreads), kThreads, 0,
                 static_cast<cudaStream_t>(stream)>>>(args);
  check(cudaGetLastError());
}

}  // namespace cepe::latent_kernel
