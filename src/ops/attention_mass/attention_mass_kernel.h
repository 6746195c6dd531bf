// Attention mass by chunk as CUDA kernels (ops/attention_mass/attention_mass.h). Raw pointers and plain structs, no
// torch. Launches are asynchronous on the given stream (a cudaStream_t); a launch that CUDA refuses throws Error. Built
// only with CEPE_CUDA, for Hopper. docs/kernels/attention_mass.md describes them.
#pragma once

#include <cstdint>

namespace cepe::mass_kernel {

// Scores rows of a query against some tiles of one context. Each state is read once for 32 rows.
struct ScoreArgs {
  const void* query;   // (rows, width) bfloat16, contiguous, aligned to 16 bytes
  const void* states;  // (tokens, width) bfloat16, the same: tokens first_token .. first_token + tokens of the context
  const bool* mask;    // of the whole context, or null
  const int* tiles;    // (all_tiles, 2): first token of the context, and how many, up to 64
  float* statistics;   // statistics_floats(rows, all_tiles)
  int64_t rows, width, tokens, first_token;
  int64_t first_tile, count, all_tiles;  // this call's tiles, of all_tiles
  float scale;
};
int64_t statistics_floats(int64_t rows, int64_t tiles);
void score_tiles(const ScoreArgs& args, void* stream);

// mass (rows, chunks) from the statistics of all tiles.
struct SumArgs {
  const float* statistics;
  const int* first_tiles;  // (chunks + 1): of each chunk
  float* mass;
  int64_t rows, chunks, tiles;
};
void sum_by_chunk(const SumArgs& args, void* stream);

}  // namespace cepe::mass_kernel
