// What the kernel's parts share: the sizes of an instance, its shared memory, barriers, and the pieces of contexts that a reader
// takes. Included by latent_kernel.cu only. docs/kernels/latent_attention.md has the derivation.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "ops/hopper.cuh"
#include "ops/latent_int8.cuh"
#include "ops/latent_merge.cuh"
#include "ops/latent_table.cuh"

namespace cepe::latent_kernel {

using namespace hopper;

constexpr int kGroup = 128;                  // threads of a warpgroup
constexpr int kSlotBytes = kTile * kChunk * 2;
constexpr int kSharedBytes = 222 * 1024;     // of a block: sm_90 has 228 KB, of which a block of the merge takes 5
constexpr int kMaxSlots = 24;
// With 8 bits, of a thread of four warpgroups that start with 128 each.
constexpr int kScorerRegisters = 168, kAdderRegisters = 152, kCopierRegisters = 32;
constexpr float kLazy = 8.0f;                // the scale of a row's sum is renewed when its highest score grew by 2^8

// Sizes of one instance: kChunks chunks of the width in a block, kRows rows (tokens x heads), states in 8 bits or bfloat16, and
// with 8 bits the blocks of a reader.
template <int kChunks, int kRows, bool kEightBits, int kBlocks>
struct Layout {
  static constexpr int chunks = kChunks, rows = kRows, blocks = kBlocks;
  static constexpr bool eight_bits = kEightBits;
  // Bytes that are added pass through registers, which takes one warpgroup too long: two share the width. A fourth, whose first
  // thread copies, gives its registers to those.
  static constexpr int adders = kEightBits ? 2 : 1;
  static constexpr int threads = kEightBits ? 4 * kGroup : 2 * kGroup + 32;
  static constexpr int tile_slots = kEightBits ? kChunks / 2 : kChunks;  // of the ring, in a tile
  static constexpr int values = kRows / 2;                // scores or sums of a tile that a thread holds
  static constexpr int columns = kRows / 4;               // rows of the problem that a thread sums
  // Bytes come twice as fast, so two blocks share the rows whose weights they compute; 8 rows are too few for that.
  static constexpr bool split = kEightBits && kBlocks == 2 && kRows >= 16;
  static constexpr int own_rows = split ? kRows / 2 : kRows;
  static constexpr int own_values = own_rows / 2, own_columns = own_rows / 4;
  static constexpr int writers = split ? 2 : 1;           // blocks that write a block's weights, and that read what one writes
  static constexpr int own_words = (kChunks / 2 + adders - 1) / adders;   // of 8 bits: see add_bytes()
  static constexpr int sum_tiles = kEightBits ? 2 * own_words : kChunks;  // of 64 values of the width, in a thread
  static constexpr int query_chunk_bytes = kRows * kRowBytes;
  static constexpr int query_bytes = kChunks * query_chunk_bytes;
  static constexpr int places = 2;                        // tiles whose scores may be on their way between two blocks
  static constexpr int weight_places = kEightBits ? 3 : 2;  // tiles whose weights are kept
  static constexpr int weight_bytes = kRows * kTile * 2;  // of one tile
  // Of one tile's scores from the other block, where there is one.
  static constexpr int part_bytes = kEightBits && kBlocks == 1 ? 0 : own_rows * kTile * 4;
  static constexpr int small_bytes = (weight_places + 4) * kRows * 4 + (2 * kMaxSlots + 2 * weight_places + places + 1) * 8;
  static constexpr int fixed_bytes = query_bytes + weight_places * weight_bytes + places * part_bytes + small_bytes;
  static constexpr int slots = std::min(kMaxSlots, (kSharedBytes - fixed_bytes) / kSlotBytes);
  static constexpr int bytes = fixed_bytes + slots * kSlotBytes;
  static_assert(slots > 2 * tile_slots);
};

// What a block keeps in shared memory. Weights and factors are kept for some tiles, in turn.
template <class L>
struct Shared {
  char* ring;       // (slots): 64 tokens x 128 bytes each, swizzled
  char* query;      // (chunks): rows x 64 values each, swizzled; of 8 bits (tile_slots): 2 rows x 128 values
  char* weights;    // (weight_places): rows x 64 tokens each, swizzled
  float* parts;     // (places): the other block's part of the scores, in the order of the threads
  float* factors;   // (weight_places, rows): what the sums so far are to be multiplied by
  float* highest;   // (4, rows): of a tile, by warp
  uint64_t *full, *empty;                       // (slots)
  uint64_t *weights_there, *weights_free;       // (weight_places)
  uint64_t *part_there, *query_there;           // (places), (1)

  __device__ explicit Shared(char* memory) {
    ring = memory;
    query = ring + L::slots * kSlotBytes;
    weights = query + L::query_bytes;
    parts = reinterpret_cast<float*>(weights + L::weight_places * L::weight_bytes);
    factors = parts + L::places * (L::part_bytes / 4);
    highest = factors + L::weight_places * L::rows;
    full = reinterpret_cast<uint64_t*>(highest + 4 * L::rows);
    empty = full + kMaxSlots;
    weights_there = empty + kMaxSlots;
    weights_free = weights_there + L::weight_places;
    part_there = weights_free + L::weight_places;
    query_there = part_there + L::places;
  }
};

struct Problem {
  const bool* mask;
  const float* scales;             // (contexts, tokens) of states in 8 bits
  const QueryScale* query_scales;  // (contexts * rows)
  Parts parts;
  int64_t tokens;
  float scale;       // of scores in powers of two
  int blocks;        // of a reader
  bool settled;      // states may be read before earlier work ends
};
struct Maps {
  CUtensorMap states;  // (64, tokens, chunks, contexts), boxes of 64 x 64 tokens; of 8 bits (width, tokens, contexts, 1), 128 x 64
  CUtensorMap query;   // (64, rows, chunks, contexts), boxes of 64 x kRows x kChunks; with a table as if of one context
};

// The tiles of one pair of a context and a block of rows that a reader takes, and where that context and those rows lie.
struct Piece {
  int64_t slot;              // of the piece's part
  int first, tiles;          // of the context
  int tokens;                // of the context
  const bool* mask;          // (tokens), or null
  const float* scales;       // (tokens) of states in 8 bits
  const CUtensorMap* states;
  int in_states;             // which context of that map
  int query_row, in_query;   // where the block of rows begins in the map of the query
  int64_t row;               // the same among the rows of all contexts
  int rows;                  // from there to the end of the context's own
};
// The one that begins at this tile: to its pair's end.
__device__ __forceinline__ Piece piece_at(const Maps& maps, const Problem& p, int reader, int64_t tile) {
  const Shares& shares = p.parts.shares;
  const int64_t pair = tile / shares.tiles;
  const int context = static_cast<int>(pair / p.parts.row_blocks), row_block = static_cast<int>(pair % p.parts.row_blocks);
  Piece piece;
  piece.slot = Parts::slot(reader, pair);
  piece.first = static_cast<int>(tile - pair * shares.tiles);
  piece.tiles = shares.tiles - piece.first;
  piece.tokens = static_cast<int>(p.tokens);
  piece.mask = p.mask ? p.mask + context * p.tokens : nullptr;
  piece.scales = p.scales ? p.scales + context * p.tokens : nullptr;
  piece.states = &maps.states, piece.in_states = context;
  piece.query_row = row_block * p.parts.block_rows, piece.in_query = context;
  piece.row = context * p.parts.rows + piece.query_row;
  piece.rows = static_cast<int>(p.parts.rows) - piece.query_row;
  return piece;
}
// The same of one context of the table.
__device__ __forceinline__ Piece piece_of(const Problem& p, int context, int reader, int64_t tile) {
  const Table& table = p.parts.table;
  const TableEntry& entry = table.entries[context];
  const int in_context = static_cast<int>(tile - table.first_tiles[context]), row_block = in_context / entry.tiles;
  Piece piece;
  piece.slot = Parts::slot(reader, entry.first_pair + row_block);
  piece.first = in_context - row_block * entry.tiles;
  piece.tiles = entry.tiles - piece.first;
  piece.tokens = entry.tokens;
  piece.mask = entry.mask, piece.scales = entry.scales;
  piece.states = &entry.states, piece.in_states = 0;
  piece.query_row = entry.first_row + row_block * p.parts.block_rows, piece.in_query = 0;
  piece.row = piece.query_row;
  piece.rows = entry.rows - row_block * p.parts.block_rows;
  return piece;
}
// Calls work(piece) for all pieces of this block's reader.
template <class Work>
__device__ __forceinline__ void for_each_piece(const Maps& maps, const Problem& p, Work work) {
  const Table& table = p.parts.table;
  const Shares shares = p.parts.shares_now();
  const int reader = static_cast<int>(blockIdx.x) / p.blocks;
  if (reader >= shares.readers) return;
  const int64_t end = shares.begin(reader + 1);
  int64_t tile = shares.begin(reader);
  int context = table.entries ? table.context_of(tile) : 0;
  while (tile < end) {
    Piece piece = table.entries ? piece_of(p, context, reader, tile) : piece_at(maps, p, reader, tile);
    piece.tiles = static_cast<int>(min(end - tile, static_cast<int64_t>(piece.tiles)));
    work(piece);
    tile += piece.tiles;
    if (table.entries && tile < end && context + 1 < table.totals->contexts && tile >= table.first_tiles[context + 1]) ++context;
  }
}

// One thread: copies of the reader's tiles, chunk by chunk, as places in the ring become free.
template <class L>
__device__ __forceinline__ void copy_tiles(const Maps& maps, const Problem& p, const Shared<L>& shared, int rank) {
  RingPlace<L::slots> at;
  for_each_piece(maps, p, [&](const Piece& piece) {
    if (p.parts.table.entries) acquire_map(*piece.states);
    for (int tile = 0; tile < piece.tiles; ++tile) {
      for (int i = 0; i < L::tile_slots; ++i) {
        const int token = (piece.first + tile) * kTile, slot = rank * L::tile_slots + i;
        const Box4 box = L::eight_bits ? Box4{slot * kSlotWidth8, token, piece.in_states, 0} : Box4{0, token, slot, piece.in_states};
        wait(shared.empty + at.slot, at.parity ^ 1);
        arrive_expecting(shared.full + at.slot, kSlotBytes);
        copy_box(shared.ring + at.slot * kSlotBytes, *piece.states, box, shared.full + at.slot);
        at.advance();
      }
    }
  });
}

// Of a thread of the scoring group.
__device__ __forceinline__ int warp_here() { return static_cast<int>(threadIdx.x) / 32; }
__device__ __forceinline__ int lane_here() { return static_cast<int>(threadIdx.x) % 32; }
__device__ __forceinline__ int row_of(int column) { return column / 2 * 8 + 2 * (lane_here() % 4) + column % 2; }

// The highest of a thread's scores of each column, of all tokens of its warp, for the whole scoring group to read: (4, rows).
template <class L, int kColumns>
__device__ __forceinline__ void share_highest(const Shared<L>& shared, const float (&score)[2 * kColumns]) {
#pragma unroll
  for (int i = 0; i < kColumns; ++i) {
    float highest = fmaxf(score[i / 2 * 4 + i % 2], score[i / 2 * 4 + i % 2 + 2]);
#pragma unroll
    for (int lanes = 4; lanes < 32; lanes *= 2) highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, lanes));
    if (lane_here() < 4) shared.highest[warp_here() * L::rows + row_of(i)] = highest;
  }
  synchronise_group<kGroup>(1);
}

// 2^x to 2 units in the last place; 0 below 2^-126.
__device__ __forceinline__ float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace cepe::latent_kernel
