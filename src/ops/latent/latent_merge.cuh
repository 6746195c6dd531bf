// The layout of split-KV partials in the workspace, and the combine kernel, here called the merge. Included by
// latent_*.cu only.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "ops/cuda/equal_shares.h"
#include "ops/latent/latent_table.cuh"

namespace cepe::latent_kernel {

// Stream-K: the tiles of all (context, block of rows) pairs are one sequence that is cut into equal shares, one for
// each reader (cluster). A reader leaves one partial for each pair that its share touches.
struct Shares {
  int tiles = 0;  // of one pair; 0: no tiles, or the table has them
  int readers = 0;
  cuda::EqualShares of_reader;

  // tiles_of_pair and all: numbers of tiles; most: readers that the device runs at the same time.
  static Shares of(int tiles_of_pair, int64_t all, int most);
  __host__ __device__ int begin(int reader) const { return of_reader.begin(reader); }
  // The reader whose share holds this tile.
  __host__ __device__ int reader_of(int tile) const { return of_reader.taker_of(tile); }
  __host__ __device__ int first_reader(int pair) const { return reader_of(pair * tiles); }
  __host__ __device__ int parts_of(int pair) const {
    return reader_of((pair + 1) * tiles - 1) - first_reader(pair) + 1;
  }
};

// The layout of the sums of a partial.
enum class PartsForm {
  rows,  // (slots, block_rows, width)
  // The register layout of wgmma, (slots, width / 64, block_rows / 8, 128 threads, 4), so that one 16-byte store writes
  // four values. Lane 4 q + r of warp w holds rows 2 r and 2 r + 1 of the 8 and columns a = 16 w + q and b = a + 8 of
  // the 64 in the order (row, a), (row + 1, a), (row, b), (row + 1, b).
  registers,
  byte_registers,  // the same with columns a = 16 w + 2 q and b = a + 1
};

// sums (slots, block_rows, width): sum of exp2(score - highest) state; statistics (slots, 2, block_rows): the highest
// score in powers of two, and the sum of exp2(score - highest). The partials of a pair are in consecutive slots.
struct Parts {
  float *sums, *statistics;
  PartsForm form;
  void* out;  // (contexts, rows, width) bfloat16
  int64_t contexts, rows, width;
  int block_rows, row_blocks;
  int parts;  // partials of every context, in the form `rows`
  Shares shares;
  Table table;  // of contexts that differ in length; `contexts` then counts sequences

  __device__ Shares shares_now() const {
    return table.entries ? Shares{0, table.totals->readers, table.totals->of_reader} : shares;
  }

  // The slot of the partial that a reader leaves for a pair. From one work tile to the next the reader, the pair or
  // both advance by one, so the sum is unique.
  __host__ __device__ static int64_t slot(int reader, int64_t pair) { return reader + pair; }
  __host__ __device__ static int64_t slots(int readers, int64_t pairs) { return readers + pairs - 1; }
  __device__ float* sums_of(int64_t slot) const { return sums + slot * block_rows * width; }
  __device__ float* highest_of(int64_t slot) const { return statistics + slot * 2 * block_rows; }
  __device__ float* total_of(int64_t slot) const { return highest_of(slot) + block_rows; }
};

__device__ __forceinline__ float highest_in_warp(float x) {
#pragma unroll
  for (int lanes = 1; lanes < 32; lanes *= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, lanes));
  return x;
}
__device__ __forceinline__ float sum_in_warp(float x) {
#pragma unroll
  for (int lanes = 1; lanes < 32; lanes *= 2) x += __shfl_xor_sync(~0u, x, lanes);
  return x;
}

// Combines partials in the form `registers` or `byte_registers`. The kernel is a programmatic dependent launch: its
// CTAs may start while the preceding kernel runs, and call the grid dependency sync themselves.
void launch_merge(const Parts& parts, cudaStream_t stream);
void check(cudaError_t status);

}  // namespace cepe::latent_kernel
