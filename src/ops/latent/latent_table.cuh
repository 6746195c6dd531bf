// Contexts of different lengths in one launch: the table in device memory that the latent kernel and the combine kernel
// read, and that the host writes. Included by latent_*.cu only.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "ops/cuda/equal_shares.h"
#include "ops/cuda/tensor_map.cuh"

namespace cepe::latent_kernel {

constexpr int kTile = 64;  // tokens between two synchronisations of the warpgroups
using hopper::kChunk;
using hopper::kRowBytes;

// One context, and the rows of the query that read it. Contexts are in the order of their rows; tiles are numbered
// context by context, within a context block of rows by block of rows.
struct alignas(128) TableEntry {
  CUtensorMap states;   // of this context alone, for the kernel of Hopper
  const void* data;     // (tokens, width): the same
  const bool* mask;     // (tokens), or null
  const float* scales;  // (tokens) of states in 8 bits
  int64_t first_pair;   // of a context and a block of rows
  int first_row, rows, tokens, tiles;
};
// What one sequence reads, for the combine kernel.
struct TableSequence {
  int64_t first_tile, first_pair;
  int tiles;  // of a pair; 0: the sequence has no context
  int row;    // its first row among the rows of its context
};
struct TableTotals {
  int contexts;
  int readers;  // as in Shares
  cuda::EqualShares of_reader;
};
struct Table {
  const TableEntry* entries;  // (contexts); null: there is no table, all contexts are of one length
  const TableSequence* sequences;
  const int64_t* first_tiles;  // (contexts)
  const TableTotals* totals;

  // The context of a tile.
  __device__ int context_of(int64_t tile) const {
    int low = 0, high = totals->contexts - 1;
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (first_tiles[middle] <= tile)
        low = middle;
      else
        high = middle - 1;
    }
    return low;
  }
};
// The layout of a table for so many sequences.
Table table_in(const void* memory, int64_t sequences);

constexpr int64_t tiles_of(int64_t tokens) { return (tokens + kTile - 1) / kTile; }

// The tensor map of states: boxes of a tile of tokens by 64 bfloat16 values or 128 bytes.
CUtensorMap map_of_states(const hopper::Array& a, bool eight_bits);

}  // namespace cepe::latent_kernel
