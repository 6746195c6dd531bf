// What the kernel's parts share: the sizes of an instance, its shared memory, barriers, and the pieces of contexts that
// a reader takes. Included by latent_kernel.cu only. docs/kernels/latent_attention.md has the derivation.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "ops/cache_policy.cuh"
#include "ops/hopper.cuh"
#include "ops/latent_int8.cuh"
#include "ops/latent_merge.cuh"
#include "ops/latent_table.cuh"

namespace cepe::latent_kernel {

using namespace hopper;

constexpr int kGroup = 128;  // threads of a warpgroup
constexpr int kSlotBytes = kTile * kChunk * 2;
constexpr int kSharedBytes = 222 * 1024;  // of a block: sm_90 has 228 KB, of which a block of the merge takes 5
constexpr int kMaxSlots = 24;
// Of a thread, where four warpgroups start with 128 each: with 8 bits, and with many rows of bfloat16.
constexpr int kByteScorerRegisters = 168, kByteAdderRegisters = 152, kCopierRegisters = 32;
constexpr int kScorerRegisters = 104, kWeigherRegisters = 136, kAdderRegisters = 208;
constexpr float kLazy = 8.0f;  // the scale of a row's sum is renewed when its highest score grew by 2^8

// Sizes of one instance: up to kChunks chunks of the width in a block, kRows rows (tokens x heads), states in 8 bits or
// bfloat16, and the blocks of a reader.
template <int kChunks, int kRows, bool kEightBits, int kBlocks>
struct Layout {
  static constexpr int chunks = kChunks, rows = kRows, blocks = kBlocks;
  static constexpr bool eight_bits = kEightBits;
  // Warpgroups that add. Of bfloat16 one scores, one weighs and one adds; of bytes one scores and weighs, and what is
  // added passes through registers, which takes one group too long: two share the width.
  static constexpr int adders = kEightBits ? 2 : 1;
  // Where they are not alike in need of registers a whole fourth group copies, and gives up its own.
  static constexpr bool moves_registers = kEightBits || kRows * kChunks > 128;
  static constexpr int threads = 3 * kGroup + (moves_registers ? kGroup : 32);
  static constexpr int values = kRows / 2;   // scores or sums of a tile that a thread holds
  static constexpr int columns = kRows / 4;  // rows of the problem that a thread sums
  // Blocks share the rows whose weights they compute. 8 rows are too few for that.
  static constexpr int sharers = kRows >= 8 * kBlocks ? kBlocks : 1;
  static constexpr bool split = sharers > 1;
  static constexpr int own_rows = kRows / sharers;
  static constexpr int own_values = own_rows / 2, own_columns = own_rows / 4;
  static constexpr int writers = kEightBits ? sharers : 1;  // blocks that are told which weights a block has read
  static constexpr int own_words = (kChunks / 2 + adders - 1) / adders;   // of 8 bits: see add_bytes()
  static constexpr int sum_tiles = kEightBits ? 2 * own_words : kChunks;  // of 64 values of the width, in a thread
  static constexpr int query_chunk_bytes = kRows * kRowBytes;
  static constexpr int query_bytes = kChunks * query_chunk_bytes;
  static constexpr int weight_places = kEightBits || kRows * kChunks > 128 ? 3 : 4;  // tiles whose weights are kept
  static constexpr int places =
      kEightBits ? 2 : weight_places;                      // tiles whose scores may be on their way between blocks
  static constexpr int weight_bytes = kRows * kTile * 2;   // of one tile
  static constexpr int sent_bytes = own_rows * kTile * 4;  // of one tile's scores from one block to another
  static constexpr int part_bytes = (kEightBits ? kBlocks - 1 : kBlocks) * sent_bytes;  // bytes: a block keeps its own
  static constexpr int small_bytes =
      (weight_places + 4) * kRows * 4 + (2 * kMaxSlots + 2 * weight_places + places + 1) * 8;
  static constexpr int fixed_bytes = query_bytes + weight_places * weight_bytes + places * part_bytes + small_bytes;
  static constexpr int most_slots = kEightBits ? kChunks / 2 : kChunks;  // of the ring, in a tile
  static constexpr int slots = std::min(kMaxSlots, (kSharedBytes - fixed_bytes) / kSlotBytes);
  static constexpr int bytes = fixed_bytes + slots * kSlotBytes;
  static_assert(slots > 2 * most_slots);
};

// What a block keeps in shared memory. Weights and factors are kept for some tiles, in turn.
template <class L>
struct Shared {
  char* ring;     // (slots): 64 tokens x 128 bytes each, swizzled
  char* query;    // (chunks): rows x 64 values each, swizzled; of 8 bits (most_slots): 2 rows x 128 values
  char* weights;  // (weight_places): rows x 64 tokens each, swizzled
  float* parts;   // (places, blocks): parts of the scores, in the order of the threads; of bytes only the other block's
  float* factors;                          // (weight_places, rows): what the sums so far are to be multiplied by
  float* highest;                          // (4, rows): of a tile, by warp
  uint64_t *full, *empty;                  // (slots)
  uint64_t *weights_there, *weights_free;  // (weight_places)
  uint64_t *part_there, *query_there;      // (places), (1)

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
  float scale;     // of scores in powers of two
  int blocks;      // of a reader
  bool settled;    // states may be read before earlier work ends
  bool read_once;  // they are too many for the second-level cache to keep until the next call
};
struct Maps {
  CUtensorMap states;  // (64, tokens, chunks, contexts), boxes of 64 x 64 tokens; of 8 bits (width, tokens, contexts,
                       // 1), 128 x 64
  CUtensorMap query;   // (64, rows, chunks, contexts), boxes of 64 x own_rows; with a table as if of one context
};

// Which slots of a tile's width a block takes. In 8 bits each takes as many as fit, the last what is left; chunks of
// bfloat16 are dealt out evenly, so that no block has more to read than it must.
struct Span {
  int first, count;
};
template <class L>
__device__ __forceinline__ Span span_of(const Problem& p, int rank) {
  if constexpr (L::eight_bits) return {rank * L::most_slots, L::most_slots};
  const int all = static_cast<int>(p.parts.width) / kChunk, first = rank * all / L::blocks;
  return {first, (rank + 1) * all / L::blocks - first};
}

// The tiles of one pair of a context and a block of rows that a reader takes, and where that context and those rows
// lie.
struct Piece {
  int64_t slot;         // of the piece's part
  int first, tiles;     // of the context
  int tokens;           // of the context
  const bool* mask;     // (tokens), or null
  const float* scales;  // (tokens) of states in 8 bits
  const CUtensorMap* states;
  int in_states;            // which context of that map
  int query_row, in_query;  // where the block of rows begins in the map of the query
  int64_t row;              // the same among the rows of all contexts
  int rows;                 // from there to the end of the context's own
};
// The one that begins at this tile: to its pair's end.
__device__ __forceinline__ Piece piece_at(const Maps& maps, const Problem& p, int reader, int tile) {
  const Shares& shares = p.parts.shares;
  const int pair = tile / shares.tiles, context = pair / p.parts.row_blocks,
            row_block = pair - context * p.parts.row_blocks;
  Piece piece;
  piece.slot = Parts::slot(reader, pair);
  piece.first = tile - pair * shares.tiles;
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
__device__ __forceinline__ Piece piece_of(const Problem& p, int context, int reader, int tile) {
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
// The pieces of this block's reader, one after another.
class Walk {
 public:
  __device__ __forceinline__ explicit Walk(const Problem& p) : reader_(static_cast<int>(blockIdx.x) / p.blocks) {
    const Shares shares = p.parts.shares_now();
    if (reader_ >= shares.readers) return;
    tile_ = shares.begin(reader_), end_ = shares.begin(reader_ + 1);
    if (p.parts.table.entries) context_ = p.parts.table.context_of(tile_);
  }
  __device__ __forceinline__ bool more() const { return tile_ < end_; }
  __device__ __forceinline__ Piece next(const Maps& maps, const Problem& p) {
    const Table& table = p.parts.table;
    Piece piece = table.entries ? piece_of(p, context_, reader_, tile_) : piece_at(maps, p, reader_, tile_);
    piece.tiles = min(end_ - tile_, piece.tiles);
    tile_ += piece.tiles;
    if (table.entries && more() && context_ + 1 < table.totals->contexts && tile_ >= table.first_tiles[context_ + 1])
      ++context_;
    return piece;
  }

 private:
  int reader_, tile_ = 0, end_ = 0, context_ = 0;
};
// Calls work(piece) for all of them.
template <class Work>
__device__ __forceinline__ void for_each_piece(const Maps& maps, const Problem& p, Work work) {
  for (Walk walk(p); walk.more();) work(walk.next(maps, p));
}

// One thread: copies of the reader's tiles, slot by slot, as places in the ring become free.
template <class L>
__device__ __forceinline__ void copy_tiles(const Maps& maps, const Problem& p, const Shared<L>& shared, int rank) {
  const Span span = span_of<L>(p, rank);
  const uint64_t policy = cuda::read_once();
  RingPlace<L::slots> at;
  for_each_piece(maps, p, [&](const Piece& piece) {
    if (p.parts.table.entries) acquire_map(*piece.states);
    for (int tile = 0; tile < piece.tiles; ++tile) {
      for (int slot = span.first; slot < span.first + span.count; ++slot) {
        const int token = (piece.first + tile) * kTile;
        const Box4 box =
            L::eight_bits ? Box4{slot * kSlotWidth8, token, piece.in_states, 0} : Box4{0, token, slot, piece.in_states};
        wait(shared.empty + at.slot, at.parity ^ 1);
        arrive_expecting(shared.full + at.slot, kSlotBytes);
        if (p.read_once)
          copy_box(shared.ring + at.slot * kSlotBytes, *piece.states, box, shared.full + at.slot, policy);
        else
          copy_box(shared.ring + at.slot * kSlotBytes, *piece.states, box, shared.full + at.slot);
        at.advance();
      }
    }
  });
}

// Of a thread of a warpgroup.
__device__ __forceinline__ int warp_here() { return static_cast<int>(threadIdx.x) % kGroup / 32; }
__device__ __forceinline__ int lane_here() { return static_cast<int>(threadIdx.x) % 32; }
__device__ __forceinline__ int row_of(int column) { return column / 2 * 8 + 2 * (lane_here() % 4) + column % 2; }

// The highest of a thread's scores of each column, of all tokens of its warp, for the whole group to read: (4, rows).
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

// The group that weighs leaves its rows' statistics of a piece: highest(i) of a thread's column i, and the sum of all
// threads' totals, as corrected(row, total) has it. Once all are past this, the query's place and `highest` are free.
template <class L, class Highest, class Corrected>
__device__ __forceinline__ void write_statistics(const Parts& parts, const Piece& piece, const Shared<L>& shared,
                                                 int first_row, const float (&total)[L::own_columns], Highest highest,
                                                 Corrected corrected) {
  float* const totals = shared.highest;  // (4, rows); the last tile's renewal is over for all once they meet here
  synchronise_group<kGroup>(1);
#pragma unroll
  for (int i = 0; i < L::own_columns; ++i) {
    float in_warp = total[i];
#pragma unroll
    for (int lanes = 4; lanes < 32; lanes *= 2) in_warp += __shfl_xor_sync(~0u, in_warp, lanes);
    if (lane_here() < 4) totals[warp_here() * L::rows + row_of(i)] = in_warp;
    if (threadIdx.x % kGroup < 4) parts.highest_of(piece.slot)[first_row + row_of(i)] = highest(i);
  }
  synchronise_group<kGroup>(1);
  const int row = static_cast<int>(threadIdx.x) % kGroup;
  if (row < L::own_rows) {
    const float sum = totals[row] + totals[L::rows + row] + totals[2 * L::rows + row] + totals[3 * L::rows + row];
    parts.total_of(piece.slot)[first_row + row] = corrected(first_row + row, sum);
  }
  synchronise_group<kGroup>(1);
}

}  // namespace cepe::latent_kernel
