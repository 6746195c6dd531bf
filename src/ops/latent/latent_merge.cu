// The merge of parts, which all ways of reading end with.
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

constexpr int kColumns = 256;              // of a row that a block merges
constexpr int kLanes = kColumns / 4;       // threads across them
constexpr int kTurns = kThreads / kLanes;  // threads that take the parts in turn
constexpr int kAhead = 8;                  // parts whose sums are on their way before their scale is known

// The parts of one row: the slot of the first, and the row in each.
struct PartsOfRow {
  int64_t slot;
  int count, row;
};
__device__ PartsOfRow parts_of(const Parts& p, int64_t context, int64_t row) {
  const int pair = static_cast<int>(context * p.row_blocks + row / p.block_rows),
            in_block = static_cast<int>(row % p.block_rows);
  return {Parts::slot(p.shares.first_reader(pair), pair), p.shares.parts_of(pair), in_block};
}
// The same by the table: without any parts where the sequence has no context.
__device__ PartsOfRow parts_by_table(const Parts& p, int64_t sequence, int64_t row) {
  const TableSequence of = p.table.sequences[sequence];
  const Shares shares = p.shares_now();
  if (of.tiles == 0) return {0, 0, 0};
  const int in_context = of.row + static_cast<int>(row), block = in_context / p.block_rows;
  const int first_tile = static_cast<int>(of.first_tile) + block * of.tiles;
  const int first = shares.reader_of(first_tile), last = shares.reader_of(first_tile + of.tiles - 1);
  return {Parts::slot(first, of.first_pair + block), last - first + 1, in_context - block * p.block_rows};
}

// The scale of a row over all parts.
struct Scale {
  float highest = -INFINITY, total = 0;
  __device__ __forceinline__ void add(float highest_of_part, float total_of_part) {
    const float higher = fmaxf(highest, highest_of_part);
    if (higher == -INFINITY)
      total += total_of_part;  // 0, or not a number
    else
      total = total * exp2f(highest - higher) + total_of_part * exp2f(highest_of_part - higher);
    highest = higher;
  }
  // From what each lane has to the same in all.
  __device__ __forceinline__ void join_warp() {
    const float all = highest_in_warp(highest);
    total = sum_in_warp(all == -INFINITY ? total : total * exp2f(highest - all));
    highest = all;
  }
};

__device__ __forceinline__ void add_scaled(float4& sum, float weight, const float4& x) {
  sum.x += weight * x.x, sum.y += weight * x.y, sum.z += weight * x.z, sum.w += weight * x.w;
}

// One row, 256 values of it, of parts row by row: their sums brought to one scale, over their totals. Without any real
// token the total is 0, or not a number where no score was one; so is the result.
__global__ void __launch_bounds__(kThreads) merge_rows(const Parts p) {
  __shared__ float4 partial[kTurns - 1][kLanes];
  const int lane = threadIdx.x % kLanes, turn = threadIdx.x / kLanes;
  const int64_t row = blockIdx.y, context = blockIdx.z, column = blockIdx.x * kColumns + lane * 4,
                first = context * p.parts;
  const bool inside = column < p.width;
  Scale scale;
  for (int s = threadIdx.x % kWarp; s < p.parts; s += kWarp)
    scale.add(p.highest_of(first + s)[row], p.total_of(first + s)[row]);
  scale.join_warp();
  float4 sum = {0, 0, 0, 0};
  if (inside && scale.highest != -INFINITY) {
#pragma unroll 4
    for (int s = turn; s < p.parts; s += kTurns) {
      const auto part = *reinterpret_cast<const float4*>(p.sums_of(first + s) + row * p.width + column);
      add_scaled(sum, exp2f(p.highest_of(first + s)[row] - scale.highest), part);
    }
  }
  if (turn > 0) partial[turn - 1][lane] = sum;
  __syncthreads();
  if (turn > 0 || !inside) return;
  for (int t = 0; t < kTurns - 1; ++t) add_scaled(sum, 1, partial[t][lane]);
  float total = scale.total;
  if (scale.highest == -INFINITY) sum = {total, total, total, total}, total = 1;
  const __nv_bfloat162 out[2] = {__floats2bfloat162_rn(sum.x / total, sum.y / total),
                                 __floats2bfloat162_rn(sum.z / total, sum.w / total)};
  bf16* const to = static_cast<bf16*>(p.out) + (context * p.rows + row) * p.width + column;
  *reinterpret_cast<uint2*>(to) = *reinterpret_cast<const uint2*>(out);
}

// ---- Parts as registers

// Eight rows of one context, of which a sequence's rows are some, and their parts.
struct EightRows {
  PartsOfRow parts;  // of the first one
  int first;         // among the sequence's rows; before them where the context's eights are not the sequence's
};
template <bool kTable>
__device__ __forceinline__ EightRows eight_rows(const Parts& p, int64_t sequence, int number) {
  const int begin = kTable ? p.table.sequences[sequence].row : 0;  // of the sequence in its context
  const int first = begin / 8 * 8 + number * 8 - begin;
  return {kTable ? parts_by_table(p, sequence, first) : parts_of(p, sequence, first), first};
}

// Columns that stand side by side in one row, from what lanes that are 4 and 8 apart hold (PartsForm): of row 2 (lane %
// 4)
// + q % 2 of the eight, q = lane / 4, the four from column 16 w + first_column() on.
__device__ __forceinline__ float4 four_columns(PartsForm form, const float4& x) {
  const int q = threadIdx.x % kWarp / 4;
  const bool odd = q & 1, late = q & 2;
  const float2 own = odd ? float2{x.y, x.w} : float2{x.x, x.z}, give = odd ? float2{x.x, x.z} : float2{x.y, x.w};
  const float2 came{__shfl_xor_sync(~0u, give.x, 4), __shfl_xor_sync(~0u, give.y, 4)};
  if (form == PartsForm::byte_registers)
    return odd ? float4{came.x, came.y, own.x, own.y} : float4{own.x, own.y, came.x, came.y};
  const float2 first = odd ? float2{came.x, own.x} : float2{own.x, came.x},
               second = odd ? float2{came.y, own.y} : float2{own.y, came.y};
  const float2 keep = late ? second : first, other = late ? first : second;
  const float2 far{__shfl_xor_sync(~0u, other.x, 8), __shfl_xor_sync(~0u, other.y, 8)};
  return late ? float4{far.x, far.y, keep.x, keep.y} : float4{keep.x, keep.y, far.x, far.y};
}
__device__ __forceinline__ int first_column(PartsForm form) {
  const int q = threadIdx.x % kWarp / 4;
  return form == PartsForm::byte_registers ? q / 2 * 4 : (q & 4) + (q & 2) * 4;
}

// A thread's four columns of the eight rows, where its row is the sequence's. nothing: see merge_registers().
__device__ __forceinline__ void write_eight(const Parts& p, int64_t sequence, int first, int place, const float4& sum,
                                            const float* nothing) {
  const int lane = place % kWarp, in_eight = 2 * (lane % 4) + lane / 4 % 2, row = first + in_eight;
  if (row < 0 || row >= p.rows) return;
  const int column = place / 128 * 64 + place % 128 / kWarp * 16 + first_column(p.form);
  const float of = nothing[in_eight];
  const float4 x = of == -1 ? sum : float4{of, of, of, of};
  const __nv_bfloat162 out[2] = {__floats2bfloat162_rn(x.x, x.y), __floats2bfloat162_rn(x.z, x.w)};
  *reinterpret_cast<uint2*>(static_cast<bf16*>(p.out) + (sequence * p.rows + row) * p.width + column) =
      *reinterpret_cast<const uint2*>(out);
}

// Eight rows, 1 / kTakers of 128 columns of them: so many threads take the parts of four values in turn. A warp knows
// one row's scale. Without any real token a row's total is 0, or not a number where no score was one; so is the result.
template <int kTakers, bool kTable>
__global__ void __maxnreg__(56) merge_registers(const Parts p) {
  constexpr int kFours = kThreads / kTakers, kSome = 32;  // parts whose weights are kept at a time
  __shared__ float weights[kSome][8], nothing[8];         // what a row without any real token is, else -1
  __shared__ float4 partial[kTakers > 1 ? kTakers - 1 : 1][kFours];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, four = threadIdx.x % kFours,
            taker = threadIdx.x / kFours;
  const int place = blockIdx.x * kFours + four;  // of the four values among those of eight rows of the whole width
  const bool inside = kTakers > 1 || place < p.width * 2;  // always where half of 128 are taken
  EightRows rows{};
  if constexpr (!kTable) rows = eight_rows<false>(p, blockIdx.z, blockIdx.y);
  cuda::trigger_dependents();
  cuda::grid_dependency_sync();
  if constexpr (kTable) rows = eight_rows<true>(p, blockIdx.z, blockIdx.y);
  if (rows.first >= p.rows) return;  // the whole block
  const int count = rows.parts.count, groups = p.block_rows / 8, row_here = rows.parts.row;
  const float* const statistics = p.highest_of(rows.parts.slot) + row_here + warp;
  const auto statistic = [&](int s) {
    const float* const highest = statistics + s * 2 * p.block_rows;
    return s < count ? float2{highest[0], highest[p.block_rows]} : float2{-INFINITY, 0};
  };
  const auto* const sums = reinterpret_cast<const float4*>(p.sums_of(rows.parts.slot)) +
                           (place / 128 * groups + row_here / 8) * 128 + place % 128;
  const int fours_of_part = p.block_rows * static_cast<int>(p.width) / 4;
  const auto part = [&](int s) { return sums[static_cast<int64_t>(s) * fours_of_part]; };
  float2 own = statistic(lane);
  float4 ahead[kAhead];
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    const int s = taker + i * kTakers;
    ahead[i] = inside && s < count ? part(s) : float4{0, 0, 0, 0};
  }
  Scale scale{own.x, own.y};
#pragma unroll 1
  for (int s = lane + kWarp; s < count; s += kWarp) {
    const float2 of = statistic(s);
    scale.add(of.x, of.y);
  }
  scale.join_warp();
  if (lane == 0) nothing[warp] = scale.highest == -INFINITY ? scale.total : -1;
  float4 sum = {0, 0, 0, 0};
  const int row = 2 * (lane % 4);
  const auto add = [&](int s, const float4& x) {
    const float2 weight = *reinterpret_cast<const float2*>(&weights[s % kSome][row]);
    sum.x += weight.x * x.x, sum.y += weight.y * x.y, sum.z += weight.x * x.z, sum.w += weight.y * x.w;
  };
#pragma unroll 1
  for (int first = 0; first < count || first == 0; first += kSome) {
    if (first > 0) __syncthreads(), own = statistic(first + lane);
    weights[lane][warp] = scale.highest == -INFINITY ? 0 : exp2f(own.x - scale.highest) / scale.total;
    __syncthreads();
    if (!inside) continue;
    const int end = min(count, first + kSome);
    if (first == 0) {
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (taker + i * kTakers < end) add(taker + i * kTakers, ahead[i]);
      }
    }
#pragma unroll 1
    for (int s = first == 0 ? taker + kAhead * kTakers : first + taker; s < end; s += kTakers) add(s, part(s));
  }
  if constexpr (kTakers > 1) {
    if (taker > 0) partial[taker - 1][four] = sum;
    __syncthreads();
    if (taker > 0) return;
    for (int t = 0; t < kTakers - 1; ++t) add_scaled(sum, 1, partial[t][four]);
  }
  if (inside) write_eight(p, blockIdx.z, rows.first, place, four_columns(p.form, sum), nothing);  // whole warps
}

// Parts of a row on average, and one more.
int64_t parts_of_row(const Parts& p) {
  const int64_t pairs = p.contexts * (p.table.entries ? 1 : p.row_blocks);
  return p.shares.readers / pairs + 1;
}

}  // namespace

void check(cudaError_t status) {
  if (status != cudaSuccess) cuda::refuse("latent attention", cudaGetErrorString(status));
}

void launch_merge(const Parts& parts, cudaStream_t stream) {
  cudaLaunchAttribute early{};
  cudaLaunchConfig_t config{};
  const bool table = parts.table.entries != nullptr, few = parts_of_row(parts) <= kAhead;
  const int fours = few ? kThreads : kThreads / kTurns;
  // With a table eights are a context's, and may begin before a sequence's.
  const int64_t across = (parts.width * 2 + fours - 1) / fours,
                down = (parts.rows + 7) / 8 + (table && parts.rows % 8 != 0);
  config.gridDim =
      dim3(static_cast<unsigned>(across), static_cast<unsigned>(down), static_cast<unsigned>(parts.contexts));
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  config.attrs = &early;
  config.numAttrs = cuda::dependent_attributes(early);
  if (table)
    check(cudaLaunchKernelEx(&config, few ? merge_registers<1, true> : merge_registers<kTurns, true>, parts));
  else
    check(cudaLaunchKernelEx(&config, few ? merge_registers<1, false> : merge_registers<kTurns, false>, parts));
}

void merge(const MergeArgs& args, void* stream) {
  Parts parts{};
  parts.sums = args.sums, parts.statistics = args.statistics, parts.out = args.out;
  parts.contexts = args.contexts, parts.rows = args.rows, parts.width = args.width;
  parts.block_rows = static_cast<int>(args.rows), parts.row_blocks = 1, parts.parts = static_cast<int>(args.parts);
  const dim3 grid(static_cast<unsigned>((args.width + kColumns - 1) / kColumns), static_cast<unsigned>(args.rows),
                  static_cast<unsigned>(args.contexts));
  merge_rows<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(parts);
  check(cudaGetLastError());
}

}  // namespace cepe::latent_kernel
