// How the parts of a context's attention lie in scratch memory, and the kernel that merges them. Included by
// latent_kernel.cu and latent_products.cu only.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace cepe::latent_kernel {

// Tiles of all (context, block of rows) pairs in one row, cut into equal shares, one for each reader. A reader leaves one
// part for each pair that its share touches.
struct Shares {
  int tiles = 0;     // of one pair; 0: all pairs have `parts` parts
  int readers = 0;
  int64_t total = 0;

  __host__ __device__ int64_t begin(int64_t reader) const { return total * reader / readers; }
  // The reader whose share holds this tile.
  __host__ __device__ int reader_of(int64_t tile) const { return static_cast<int>(((tile + 1) * readers - 1) / total); }
  __host__ __device__ int first_reader(int64_t pair) const { return reader_of(pair * tiles); }
  __host__ __device__ int parts_of(int64_t pair) const { return reader_of((pair + 1) * tiles - 1) - first_reader(pair) + 1; }
};

// sums (contexts * row_blocks, parts, block_rows, width): sum of exp2(score - highest) state; statistics (contexts * row_blocks,
// parts, 2, block_rows): the highest score in powers of two, and the sum of exp2(score - highest).
struct Parts {
  float *sums, *statistics;
  void* out;  // (contexts, rows, width) bfloat16
  int64_t contexts, rows, width;
  int block_rows, row_blocks;
  int parts;  // places for them; with `shares` some may be unused
  Shares shares;

  __device__ float* sums_of(int64_t pair, int part) const { return sums + (pair * parts + part) * block_rows * width; }
  __device__ float* highest_of(int64_t pair, int part) const { return statistics + (pair * parts + part) * 2 * block_rows; }
  __device__ float* total_of(int64_t pair, int part) const { return highest_of(pair, part) + block_rows; }
};

// early: the kernel may be set up while the one before it on the stream still runs; it waits for it itself.
void launch_merge(const Parts& parts, bool early, cudaStream_t stream);
void check(cudaError_t status);

}  // namespace cepe::latent_kernel
