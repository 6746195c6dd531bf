// Scores of a tile of tokens are products of a warpgroup (wgmma) that stay in its registers: a warp reduces its 16
// tokens to the highest score and the sum of exponentials of each row. Tiles lie within chunks, so a second kernel
// makes them into masses in a fixed order.
#include "ops/attention_mass/attention_mass_kernel.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>

#include "ops/cuda/hopper.cuh"
#include "ops/cuda/refuse.h"
#include "ops/latent/latent_merge.cuh"
#include "ops/latent/latent_table.cuh"

namespace cepe::mass_kernel {
namespace {

using namespace hopper;
using latent_kernel::check;
using latent_kernel::kTile;

constexpr int kGroup = 128;  // threads of a warpgroup
constexpr int kWarps = kGroup / 32;
constexpr int kSlots = 18;  // of the ring: 64 tokens x 64 values each
constexpr int kSlotBytes = kTile * kRowBytes;
constexpr int kThreads = kGroup + 32;  // those that score, and a warp whose first thread copies
constexpr float kLn2 = 0.693147181f;

struct Maps {
  CUtensorMap states, query;
};
struct Problem {
  const bool* mask;
  const int2* tiles;
  float* statistics;  // (row blocks, all tiles, warps, 2, rows of a block)
  int row_blocks, chunks, first_token, first_tile, count, all_tiles;
  float scale;  // of scores in powers of two
};
// Rows of the query that one block scores at a time.
int rows_of_block(int64_t rows) { return rows <= 8 ? 8 : rows <= 16 ? 16 : 32; }

// Blocks of the grid take equal shares of the tiles of all blocks of rows.
struct Share {
  int64_t begin, end;
  __device__ explicit Share(const Problem& p) {
    const int64_t all = static_cast<int64_t>(p.row_blocks) * p.count;
    begin = all * blockIdx.x / gridDim.x, end = all * (blockIdx.x + 1) / gridDim.x;
  }
};

struct Shared {
  char *ring, *query;
  uint64_t *full, *empty, *query_there;
  __device__ explicit Shared(char* memory) {
    ring = memory;
    full = reinterpret_cast<uint64_t*>(ring + kSlots * kSlotBytes);
    empty = full + kSlots;
    query_there = empty + kSlots;
    query = ring + kSlots * kSlotBytes + 1024;
  }
  static int bytes(int64_t width, int rows) { return kSlots * kSlotBytes + 1024 + static_cast<int>(width) * 2 * rows; }
};

__device__ void copy_tiles(const Maps& maps, const Problem& p, const Shared& shared) {
  RingPlace<kSlots> at;
  const Share share(p);
  for (int64_t unit = share.begin; unit < share.end; ++unit) {
    const int token = p.tiles[p.first_tile + static_cast<int>(unit % p.count)].x - p.first_token;
    for (int i = 0; i < p.chunks; ++i) {
      wait(shared.empty + at.slot, at.parity ^ 1);
      arrive_expecting(shared.full + at.slot, kSlotBytes);
      copy_box(shared.ring + at.slot * kSlotBytes, maps.states, {0, token, i, 0}, shared.full + at.slot);
      at.advance();
    }
  }
}

// (64 tokens x width) (width x rows). A place of the ring is free when the products after its own have begun and its
// own are done.
template <int kRows>
__device__ __forceinline__ void multiply_tile(const Problem& p, const Shared& shared, RingPlace<kSlots>& at,
                                              float (&score)[kRows / 2]) {
  int previous = 0;
  for (int i = 0; i < p.chunks; ++i) {
    wait(shared.full + at.slot, at.parity);
    begin_products();
    const uint64_t states = operand(shared_address(shared.ring + at.slot * kSlotBytes));
    const uint64_t query = operand(shared_address(shared.query + i * kRows * kRowBytes));
#pragma unroll
    for (int k = 0; k < kChunk / 16; ++k) multiply<0>(score, states + k * 2, query + k * 2, i + k > 0);
    commit_products();
    if (i > 0) {
      wait_products<1>();
      if (threadIdx.x % 32 == 0) arrive(shared.empty + previous);
    }
    previous = at.slot;
    at.advance();
  }
  wait_products<0>();
  if (threadIdx.x % 32 == 0) arrive(shared.empty + previous);
}

// A warp's 16 tokens of the tile: highest score of each row in powers of two, and the sum of exponentials.
template <int kRows>
__device__ __forceinline__ void write_statistics(const Problem& p, const int2& tile, float* to,
                                                 float (&score)[kRows / 2]) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, first = warp * 16 + lane / 4;
  bool real[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int token = first + i * 8;
    real[i] = token < tile.y && (!p.mask || p.mask[tile.x + token]);
  }
#pragma unroll
  for (int c = 0; c < kRows / 4; ++c) {  // row c / 2 * 8 + 2 (lane % 4) + c % 2
    const int i = c / 2 * 4 + c % 2;
    const float x = real[0] ? score[i] * p.scale : -INFINITY, y = real[1] ? score[i + 2] * p.scale : -INFINITY;
    float highest = fmaxf(x, y);
#pragma unroll
    for (int lanes = 4; lanes < 32; lanes *= 2) highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, lanes));
    const float shift = highest == -INFINITY ? 0 : highest;
    float total = exp2f(x - shift) + exp2f(y - shift);
#pragma unroll
    for (int lanes = 4; lanes < 32; lanes *= 2) total += __shfl_xor_sync(~0u, total, lanes);
    if (lane < 4) {
      const int row = c / 2 * 8 + 2 * lane + c % 2;
      to[row] = highest;
      to[kRows + row] = total;
    }
  }
}

template <int kRows>
__device__ void score_share(const Maps& maps, const Problem& p, const Shared& shared) {
  RingPlace<kSlots> at;
  const Share share(p);
  int loaded = -1;
  uint32_t parity = 0;
  for (int64_t unit = share.begin; unit < share.end; ++unit) {
    const int block = static_cast<int>(unit / p.count), number = p.first_tile + static_cast<int>(unit % p.count);
    if (block != loaded) {
      synchronise_group<kGroup>(1);  // nobody reads the last query any more
      if (threadIdx.x == 0) {
        arrive_expecting(shared.query_there, static_cast<uint32_t>(p.chunks * kRows * kRowBytes));
        copy_box(shared.query, maps.query, {0, block * kRows, 0, 0}, shared.query_there);
      }
      wait(shared.query_there, parity);
      parity ^= 1;
      loaded = block;
    }
    float score[kRows / 2];
    multiply_tile<kRows>(p, shared, at, score);
    const int64_t place = (static_cast<int64_t>(block) * p.all_tiles + number) * kWarps + threadIdx.x / 32;
    write_statistics<kRows>(p, p.tiles[number], p.statistics + place * 2 * kRows, score);
  }
}

template <int kRows>
__global__ void __launch_bounds__(kThreads, 1)
    score_states(const __grid_constant__ Maps maps, const __grid_constant__ Problem p) {
  extern __shared__ __align__(1024) char memory[];
  const Shared shared(memory);
  if (threadIdx.x == 0) {
    prefetch_map(maps.states);
    prefetch_map(maps.query);
    for (int i = 0; i < kSlots; ++i) init_barrier(shared.full + i, 1), init_barrier(shared.empty + i, kWarps);
    init_barrier(shared.query_there, 1);
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x < kGroup)
    score_share<kRows>(maps, p, shared);
  else if (threadIdx.x == kGroup)
    copy_tiles(maps, p, shared);
}

// The log-sum-exp of each chunk, natural; minus infinity where it has no real token. A thread one chunk of one row.
__global__ void __launch_bounds__(256) merge_tiles(const SumArgs a, int block_rows) {
  const int row = threadIdx.x % block_rows, chunks_here = 256 / block_rows;
  const int64_t chunk = static_cast<int64_t>(blockIdx.x) * chunks_here + threadIdx.x / block_rows;
  const int64_t in_query = static_cast<int64_t>(blockIdx.y) * block_rows + row;
  if (chunk >= a.chunks || in_query >= a.rows) return;
  const float* const from = a.statistics + static_cast<int64_t>(blockIdx.y) * a.tiles * kWarps * 2 * block_rows + row;
  const int begin = a.first_tiles[chunk] * kWarps, end = a.first_tiles[chunk + 1] * kWarps;
  float highest = -INFINITY, total = 0;
#pragma unroll 8
  for (int i = begin; i < end; ++i) highest = fmaxf(highest, from[static_cast<int64_t>(i) * 2 * block_rows]);
  const float shift = highest == -INFINITY ? 0 : highest;
#pragma unroll 8
  for (int i = begin; i < end; ++i) {
    const float* const part = from + static_cast<int64_t>(i) * 2 * block_rows;
    total += part[block_rows] * exp2f(part[0] - shift);
  }
  a.mass[in_query * a.chunks + chunk] = total == 0 ? -INFINITY : shift * kLn2 + logf(total);
}

template <bool kHighest>
__device__ float over_block(float x, float* shared) {
#pragma unroll
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const float other = __shfl_xor_sync(~0u, x, lanes);
    x = kHighest ? fmaxf(x, other) : x + other;
  }
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
  __syncthreads();
  x = shared[0];
  for (int w = 1; w < 8; ++w) x = kHighest ? fmaxf(x, shared[w]) : x + shared[w];
  __syncthreads();
  return x;
}

// A row's log-sum-exps to masses, in place. A block a row.
__global__ void __launch_bounds__(256) share_out(const SumArgs a) {
  __shared__ float shared[8];
  float* const row = a.mass + static_cast<int64_t>(blockIdx.x) * a.chunks;
  float highest = -INFINITY, total = 0;
  for (int64_t i = threadIdx.x; i < a.chunks; i += 256) highest = fmaxf(highest, row[i]);
  highest = over_block<true>(highest, shared);
  const float shift = highest == -INFINITY ? 0 : highest;
  for (int64_t i = threadIdx.x; i < a.chunks; i += 256) total += expf(row[i] - shift);
  total = over_block<false>(total, shared);
  for (int64_t i = threadIdx.x; i < a.chunks; i += 256) row[i] = total == 0 ? 0 : expf(row[i] - shift) / total;
}

template <int kRows>
void launch(const ScoreArgs& a, cudaStream_t stream) {
  const int chunks = static_cast<int>(a.width / kChunk);
  Maps maps{};
  maps.states = map_of_chunks({a.states, 1, a.tokens, a.width}, kTile, 1);
  maps.query = map_of_chunks({a.query, 1, a.rows, a.width}, kRows, chunks);
  Problem p{};
  p.mask = a.mask, p.tiles = reinterpret_cast<const int2*>(a.tiles), p.statistics = a.statistics;
  p.row_blocks = static_cast<int>((a.rows + kRows - 1) / kRows), p.chunks = chunks;
  p.first_token = static_cast<int>(a.first_token), p.first_tile = static_cast<int>(a.first_tile);
  p.count = static_cast<int>(a.count), p.all_tiles = static_cast<int>(a.all_tiles);
  p.scale = a.scale * 1.44269504f;
  const int bytes = Shared::bytes(a.width, kRows);
  int device = 0, processors = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
  check(cudaFuncSetAttribute(score_states<kRows>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  const int64_t blocks = std::min<int64_t>(processors, static_cast<int64_t>(p.row_blocks) * p.count);
  score_states<kRows><<<static_cast<unsigned>(blocks), kThreads, bytes, stream>>>(maps, p);
  check(cudaGetLastError());
}

}  // namespace

int64_t statistics_floats(int64_t rows, int64_t tiles) {
  const int64_t block = rows_of_block(rows);
  return (rows + block - 1) / block * block * tiles * kWarps * 2;
}

void score_tiles(const ScoreArgs& args, void* stream) {
  if (args.width % kChunk != 0 || args.width > 1024)
    cuda::refuse("attention mass", "the width is not a multiple of 64 up to 1024");
  if (args.rows == 0 || args.count == 0) return;
  const auto on = static_cast<cudaStream_t>(stream);
  switch (rows_of_block(args.rows)) {
    case 8: return launch<8>(args, on);
    case 16: return launch<16>(args, on);
    default: return launch<32>(args, on);
  }
}

void sum_by_chunk(const SumArgs& args, void* stream) {
  if (args.rows == 0 || args.chunks == 0) return;
  const auto on = static_cast<cudaStream_t>(stream);
  const int block_rows = rows_of_block(args.rows);
  const int64_t chunks_here = 256 / block_rows;
  const dim3 grid(static_cast<unsigned>((args.chunks + chunks_here - 1) / chunks_here),
                  static_cast<unsigned>((args.rows + block_rows - 1) / block_rows));
  merge_tiles<<<grid, 256, 0, on>>>(args, block_rows);
  check(cudaGetLastError());
  share_out<<<static_cast<unsigned>(args.rows), 256, 0, on>>>(args);
  check(cudaGetLastError());
}

}  // namespace cepe::mass_kernel
