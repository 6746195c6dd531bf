// Attention on shared latents as CUDA kernels: absorbed cross-attention (model/cross_attention.h). Raw pointers and
// plain structs, no torch. bfloat16 in and out, float32 inside. Launches are asynchronous on the given stream (a
// cudaStream_t) of the current device; a launch that CUDA refuses throws Error. Built only with CEPE_CUDA. There are
// two kernels (latent_backends.h): docs/kernels/latent_attention.md derives that of Hopper and counts bytes,
// docs/kernels/latent_mma.md that of every GPU from compute capability 8.0 on.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/dispatch.h"

namespace cepe::latent_kernel {

// Contexts of different lengths, and sequences without one. A table in device memory says what each sequence reads, so
// that a recorded launch reads the contexts that the table holds when it runs. It is written on the host and copied.
struct TableShape {
  int64_t sequences, rows, width;  // rows of one sequence
  int block_rows;                  // 16 to 64, rows of a work tile: each reads its context once (block_rows_for)
  bool eight_bits;                 // of all contexts
  int reader_blocks;               // CTAs of a cluster, which share the width (reader_blocks_for)
};
struct TableContext {    // in the order of their sequences
  const void* states;    // (tokens, width), as in Args
  const float* scales;   // (tokens) where they are in 8 bits
  const bool* mask;      // (tokens), or null
  int64_t tokens;        // at least one
  int64_t first, count;  // the sequences that read it
};
int block_rows_for(int64_t rows, bool eight_bits);  // rows: that read one context
// The CTAs of a cluster. tokens: of all contexts
int reader_blocks_for(int64_t width, bool eight_bits, int block_rows, int64_t tokens);
int64_t table_bytes(int64_t sequences);
// memory: table_bytes() on the host; it and its copy must be aligned to 128 bytes. Throws Error where sequences
// overlap.
void write_table(const TableShape& shape, const std::vector<TableContext>& contexts, void* memory);

// out = softmax(scale query states^T) states for each context; every state is read from memory once for all rows that
// run at the same time.
struct Args {
  const void* query;   // (contexts, rows, width) bfloat16, contiguous, aligned to 16 bytes
  const void* states;  // (contexts, tokens, width) bfloat16, or bytes, contiguous, aligned to 16 bytes
  // (contexts, tokens), above 0: a byte u is (u - 128) times its token's scale. Null: states are bfloat16.
  const float* scales;
  const bool* mask;  // (contexts, tokens), true = a real token; null: all are. A row without any gives zeros.
  void* out;         // (contexts, rows, width) bfloat16, contiguous
  float* scratch;    // scratch_floats(args) floats, aligned to 16 bytes
  int64_t contexts, rows, tokens, width;  // at least one token
  float scale;
  // States are read before the grid dependency sync: nothing that still runs on the stream writes them.
  bool inputs_ready = false;
  // Contexts of different lengths, in place of states, scales, mask and tokens; `contexts` counts sequences then, and
  // those without a context get zeros.
  const void* table = nullptr;
  const TableShape* shape = nullptr;  // of the table
  bool any_gpu = false;  // the kernel that every GPU runs, although the device may have one of its own; without a table
};

// The widths that the kernels are compiled for.
constexpr bool width_fits(int64_t width) { return width > 0 && width % 64 == 0 && width <= dispatch::kLatentWidth; }

// The workspace of a call on the current device, in floats. Pointers in args are ignored.
int64_t scratch_floats(const Args& args);

void latent_attention(const Args& args, void* stream);

// The same for many rows, by the library's GEMMs: the caller computes scores of some blocks of one context, weigh()
// takes their softmax, the caller multiplies the weights with the states, merge() combines the partials by log-sum-exp.
struct WeighArgs {
  const float* scores;  // (rows, blocks * block_tokens), unscaled
  const bool* mask;     // (blocks * block_tokens), or null
  void* weights;        // (rows, blocks * block_tokens) bfloat16: exponentials against the block's highest
  float* statistics;    // (blocks, 2, rows): highest score in powers of two, and the sum of the exponentials
  int64_t rows, blocks, block_tokens;
  float scale;
};
constexpr int64_t kMaxBlockTokens = 8192;  // of a block of scores: a row of it lies in shared memory
void weigh(const WeighArgs& args, void* stream);

// out = (bytes - 128) times their token's scale, bfloat16: what the products of many rows read.
struct WidenArgs {
  const void* states;     // (tokens, width), contiguous, aligned to 16 bytes
  const float* scales;    // (tokens)
  void* out;              // (tokens, width), aligned to 16 bytes
  int64_t tokens, width;  // a multiple of 16
};
void widen(const WidenArgs& args, void* stream);

// Combines the split-KV partials of each context by log-sum-exp.
struct MergeArgs {
  float* sums;                           // (contexts, parts, rows, width): weights times states
  float* statistics;                     // (contexts, parts, 2, rows), as weigh() leaves them
  void* out;                             // (contexts, rows, width) bfloat16
  int64_t contexts, parts, rows, width;  // parts: partials of a context
};
void merge(const MergeArgs& args, void* stream);

}  // namespace cepe::latent_kernel
