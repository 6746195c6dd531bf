// What many rows need beside the library's products (weights of a block of scores), and what all ways of reading end
// with: the merge of parts.
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cmath>

#include "ops/fused.h"
#include "ops/latent_kernel.h"
#include "ops/latent_merge.cuh"

namespace cepe::latent_kernel {
namespace {

using bf16 = __nv_bfloat16;

constexpr int kWarp = 32;
constexpr int kWarps = 8;
constexpr int kThreads = kWarp * kWarps;

__device__ __forceinline__ float highest_in_warp(float x) {
#pragma unroll
  for (int lanes = 1; lanes < kWarp; lanes *= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, lanes));
  return x;
}
__device__ __forceinline__ float sum_in_warp(float x) {
#pragma unroll
  for (int lanes = 1; lanes < kWarp; lanes *= 2) x += __shfl_xor_sync(~0u, x, lanes);
  return x;
}

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
    wide[i] = __floats2bfloat162_rn((static_cast<float>(two & 255) - 128) * scale, (static_cast<float>(two >> 8 & 255) - 128) * scale);
  }
  uint4* const to = reinterpret_cast<uint4*>(static_cast<bf16*>(a.out) + at);
  to[0] = reinterpret_cast<const uint4*>(wide)[0];
  to[1] = reinterpret_cast<const uint4*>(wide)[1];
}

constexpr int kColumns = 256;                      // of a row that a block merges
constexpr int kLanes = kColumns / 4;               // threads across them
constexpr int kTurns = kThreads / kLanes;          // threads that take the parts in turn
constexpr int kMaxWeights = 160;                   // parts whose scale is worked out once for a block
constexpr int kAhead = 8;                          // parts whose sums are on their way before their scale is known

// The parts of one row: the slot of the first, and the row in each.
struct PartsOfRow {
  int64_t slot;
  int count, row;
};
__device__ PartsOfRow parts_of(const Parts& p, int64_t context, int64_t row) {
  const int64_t pair = context * p.row_blocks + row / p.block_rows;
  const int in_block = static_cast<int>(row % p.block_rows);
  if (p.shares.tiles == 0) return {pair * p.parts, p.parts, in_block};
  return {Parts::slot(p.shares.first_reader(pair), pair), p.shares.parts_of(pair), in_block};
}
// The same by the table: without any parts where the sequence has no context.
__device__ PartsOfRow parts_by_table(const Parts& p, int64_t sequence, int64_t row) {
  const TableSequence of = p.table.sequences[sequence];
  const Shares shares = p.shares_now();
  if (of.tiles == 0) return {0, 0, 0};
  const int in_context = of.row + static_cast<int>(row), block = in_context / p.block_rows;
  const int64_t first_tile = of.first_tile + static_cast<int64_t>(block) * of.tiles;
  const int first = shares.reader_of(first_tile), last = shares.reader_of(first_tile + of.tiles - 1);
  return {Parts::slot(first, of.first_pair + block), last - first + 1, in_context - block * p.block_rows};
}

// The scale of a row over all parts, the same in all lanes.
struct Scale {
  float highest = -INFINITY, total = 0;
};
__device__ Scale scale_of(const Parts& p, const PartsOfRow& parts) {
  Scale own;
  for (int s = threadIdx.x % kWarp; s < parts.count; s += kWarp) {
    const float highest = p.highest_of(parts.slot + s)[parts.row], total = p.total_of(parts.slot + s)[parts.row];
    const float higher = fmaxf(own.highest, highest);
    if (higher == -INFINITY) own.total += total;  // 0, or not a number
    else own.total = own.total * exp2f(own.highest - higher) + total * exp2f(highest - higher);
    own.highest = higher;
  }
  Scale all;
  all.highest = highest_in_warp(own.highest);
  all.total = sum_in_warp(all.highest == -INFINITY ? own.total : own.total * exp2f(own.highest - all.highest));
  return all;
}

__device__ __forceinline__ void add_scaled(float4& sum, float weight, const float4& x) {
  sum.x += weight * x.x, sum.y += weight * x.y, sum.z += weight * x.z, sum.w += weight * x.w;
}

// Four values of a row: the parts' sums at one scale, over their total. Without any real token the total is 0, or not a
// number where no score was one; so is the result.
__device__ __forceinline__ void write_merged(const Parts& p, int64_t context, int64_t row, int64_t column, float4 sum,
                                             const Scale& scale) {
  float total = scale.total;
  if (scale.highest == -INFINITY) sum = {total, total, total, total}, total = 1;
  const __nv_bfloat162 out[2] = {__floats2bfloat162_rn(sum.x / total, sum.y / total),
                                 __floats2bfloat162_rn(sum.z / total, sum.w / total)};
  bf16* const to = static_cast<bf16*>(p.out) + (context * p.rows + row) * p.width + column;
  *reinterpret_cast<uint2*>(to) = *reinterpret_cast<const uint2*>(out);
}

// Four rows, 256 values of each, of contexts with few parts: a thread adds up all parts of four values.
__global__ void __maxnreg__(56) merge_few_parts(const Parts p) {
  const int lane = threadIdx.x % kLanes;
  const int64_t row = blockIdx.y * kTurns + threadIdx.x / kLanes, column = blockIdx.x * kColumns + lane * 4;
  const int64_t context = blockIdx.z;
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  if (row >= p.rows) return;  // whole warps
  const PartsOfRow parts = p.table.entries ? parts_by_table(p, context, row) : parts_of(p, context, row);
  const bool inside = column < p.width;
  const auto part = [&](int s) {
    return *reinterpret_cast<const float4*>(p.sums_of(parts.slot + s) + parts.row * p.width + column);
  };
  float4 ahead[kAhead];
#pragma unroll
  for (int s = 0; s < kAhead; ++s) ahead[s] = inside && s < parts.count ? part(s) : float4{0, 0, 0, 0};
  const Scale scale = scale_of(p, parts);
  const auto weight = [&](int s) { return exp2f(p.highest_of(parts.slot + s)[parts.row] - scale.highest); };
  float4 sum = {0, 0, 0, 0};
  if (!inside) return;
  if (scale.highest != -INFINITY) {
#pragma unroll
    for (int s = 0; s < kAhead; ++s) {
      if (s < parts.count) add_scaled(sum, weight(s), ahead[s]);
    }
    for (int s = kAhead; s < parts.count; ++s) add_scaled(sum, weight(s), part(s));
  }
  write_merged(p, context, row, column, sum, scale);
}

// One row, 256 values of it: the parts' sums brought to one scale, over their totals.
// Registers that leave a block of the product chain its place beside two of these (docs/kernels/decode_step.md).
__global__ void __maxnreg__(56) merge_parts(const Parts p) {
  __shared__ float4 partial[kTurns - 1][kLanes];
  __shared__ float weights[kMaxWeights];
  const int lane = threadIdx.x % kLanes, turn = threadIdx.x / kLanes;
  const int64_t row = blockIdx.y, context = blockIdx.z, column = blockIdx.x * kColumns + lane * 4;
  PartsOfRow parts{};
  if (!p.table.entries) parts = parts_of(p, context, row);
  const bool inside = column < p.width;
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  if (p.table.entries) parts = parts_by_table(p, context, row);
  const int count = parts.count;
  const auto part = [&](int s) { return *reinterpret_cast<const float4*>(p.sums_of(parts.slot + s) + parts.row * p.width + column); };
  float4 ahead[kAhead];
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    const int s = turn + i * kTurns;
    ahead[i] = inside && s < count ? part(s) : float4{0, 0, 0, 0};
  }
  const Scale scale = scale_of(p, parts);
  const bool none = scale.highest == -INFINITY;
  const int first = min(count, kMaxWeights);
  for (int s = threadIdx.x; s < first; s += kThreads) weights[s] = exp2f(p.highest_of(parts.slot + s)[parts.row] - scale.highest);
  __syncthreads();
  float4 sum = {0, 0, 0, 0};
  if (inside && !none) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int s = turn + i * kTurns;
      if (s < first) add_scaled(sum, weights[s], ahead[i]);
    }
#pragma unroll 8
    for (int s = turn + kAhead * kTurns; s < first; s += kTurns) add_scaled(sum, weights[s], part(s));
    for (int s = first + turn; s < count; s += kTurns) add_scaled(sum, exp2f(p.highest_of(parts.slot + s)[parts.row] - scale.highest), part(s));
  }
  if (turn > 0) partial[turn - 1][lane] = sum;
  __syncthreads();
  if (turn > 0 || !inside) return;
  for (int t = 0; t < kTurns - 1; ++t) add_scaled(sum, 1, partial[t][lane]);
  write_merged(p, context, row, column, sum, scale);
}

// Parts of a row on average, and one more.
int64_t parts_of_row(const Parts& p) {
  if (p.shares.tiles == 0 && !p.table.entries) return p.parts;
  const int64_t pairs = p.contexts * (p.table.entries ? 1 : p.row_blocks);
  return p.shares.readers / pairs + 1;
}

// The weights of one row of one block of scores.
__global__ void __launch_bounds__(kThreads) weigh_block(const WeighArgs a) {
  __shared__ float scores[kMaxBlockTokens];
  __shared__ float parts[kWarps];
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
  for (int w = 0; w < kWarps; ++w) highest = fmaxf(highest, parts[w]);
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
  for (int w = 1; w < kWarps; ++w) total += parts[w];
  a.statistics[block * 2 * a.rows + row] = highest;
  a.statistics[(block * 2 + 1) * a.rows + row] = total;
}

}  // namespace

void check(cudaError_t status) {
  if (status != cudaSuccess) fused::refuse("latent attention", cudaGetErrorString(status));
}

void launch_merge(const Parts& parts, bool early, cudaStream_t stream) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  const bool few = parts_of_row(parts) <= kAhead;
  const int64_t row_blocks = few ? (parts.rows + kTurns - 1) / kTurns : parts.rows;
  config.gridDim = dim3(static_cast<unsigned>((parts.width + kColumns - 1) / kColumns),
                        static_cast<unsigned>(row_blocks), static_cast<unsigned>(parts.contexts));
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = early ? 1 : 0;
  check(cudaLaunchKernelEx(&config, few ? merge_few_parts : merge_parts, parts));
}

void weigh(const WeighArgs& args, void* stream) {
  if (args.block_tokens > kMaxBlockTokens) fused::refuse("latent attention", "a block of scores is too long");
  const dim3 grid(static_cast<unsigned>(args.blocks), static_cast<unsigned>(args.rows));
  weigh_block<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(args);
  check(cudaGetLastError());
}

void widen(const WidenArgs& args, void* stream) {
  if (args.width % 16 != 0) fused::refuse("latents in 8 bits", "the width is not a multiple of 16");
  const int64_t threads = args.tokens * args.width / 16;
  if (threads == 0) return;
  widen_states<<<static_cast<unsigned>((threads + kThreads - 1) / kThreads), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(args);
  check(cudaGetLastError());
}

void merge(const MergeArgs& args, void* stream) {
  Parts parts{};
  parts.sums = args.sums, parts.statistics = args.statistics, parts.out = args.out;
  parts.contexts = args.contexts, parts.rows = args.rows, parts.width = args.width;
  parts.block_rows = static_cast<int>(args.rows), parts.row_blocks = 1, parts.parts = static_cast<int>(args.parts);
  launch_merge(parts, false, static_cast<cudaStream_t>(stream));
}

}  // namespace cepe::latent_kernel
