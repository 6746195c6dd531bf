// How the parts of a context's attention lie in scratch memory, and the kernel that merges them. Included by
// latent_kernel.cu and latent_products.cu only.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "ops/latent_table.cuh"

namespace cepe::latent_kernel {

// Tiles of all (context, block of rows) pairs in one row, cut into equal shares, one for each reader. A reader leaves one
// part for each pair that its share touches.
struct Shares {
  int tiles = 0;     // of one pair; 0: there are none, or a table says it
  int readers = 0;
  int64_t total = 0;

  __host__ __device__ int64_t begin(int64_t reader) const { return total * reader / readers; }
  // The reader whose share holds this tile.
  __host__ __device__ int reader_of(int64_t tile) const { return static_cast<int>(((tile + 1) * readers - 1) / total); }
  __host__ __device__ int first_reader(int64_t pair) const { return reader_of(pair * tiles); }
  __host__ __device__ int parts_of(int64_t pair) const { return reader_of((pair + 1) * tiles - 1) - first_reader(pair) + 1; }
};

// sums (slots, block_rows, width): sum of exp2(score - highest) state; statistics (slots, 2, block_rows): the highest score in
// powers of two, and the sum of exp2(score - highest). A pair's parts lie in slots that follow each other.
struct Parts {
  float *sums, *statistics;
  void* out;  // (contexts, rows, width) bfloat16
  int64_t contexts, rows, width;
  int block_rows, row_blocks;
  int parts;  // of every pair, where they are not `shares`
  Shares shares;
  Table table;  // where contexts differ in length; `contexts` are then sequences

  __device__ Shares shares_now() const { return table.entries ? Shares{0, table.totals->readers, table.totals->tiles} : shares; }

  // Of the part that a reader leaves for a pair: from one piece to the next the reader, the pair or both move on by one.
  __host__ __device__ static int64_t slot(int reader, int64_t pair) { return reader + pair; }
  __host__ __device__ static int64_t slots(int readers, int64_t pairs) { return readers + pairs - 1; }
  __device__ float* sums_of(int64_t slot) const { return sums + slot * block_rows * width; }
  __device__ float* highest_of(int64_t slot) const { return statistics + slot * 2 * block_rows; }
  __device__ float* total_of(int64_t slot) const { return highest_of(slot) + block_rows; }
};

// early: the kernel may be set up while the one before it on the stream still runs; it waits for it itself.
void launch_merge(const Parts& parts, bool early, cudaStream_t stream);
void check(cudaError_t status);

}  // namespace cepe::latent_kernel
