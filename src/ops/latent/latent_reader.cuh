// What the warpgroups of the latent kernel share: the sizes of an instance, the layout of shared memory, barriers, and
// the work tiles of a cluster. Included by latent_kernel.cu only. docs/kernels/latent_attention.md has the derivation.
//
// Names: a *reader* is a cluster of CTAs that share the width of the states. A *piece* is a work tile: consecutive
// tiles of 64 tokens of one context for one block of rows. A *part* is the split-KV partial that a work tile leaves
// (Parts), but `Shared::parts` are the CTAs' partial sums of scores. *Places* are the stages of the pipeline between
// the warpgroups, *slots* those of the ring that TMA fills.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "ops/cuda/cache_policy.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/latent/latent_int8.cuh"
#include "ops/latent/latent_merge.cuh"
#include "ops/latent/latent_table.cuh"

namespace cepe::latent_kernel {

using namespace hopper;

constexpr int kGroup = 128;    // threads of a warpgroup
constexpr float kLazy = 8.0f;  // the scale of a row's sum is renewed when its highest score grew by 2^8
constexpr int kSlotBytes = kTile * kChunk * 2;
constexpr int kSharedBytes = 222 * 1024;  // of a CTA: sm_90 has 228 KB, of which a CTA of the combine kernel takes 5
constexpr int kMaxSlots = 24;
// Registers of a thread after setmaxnreg. CTAs of five warpgroups (8 bits) start with 96, of four (bfloat16, many rows)
// with 128.
constexpr int kByteScorerRegisters = 136, kByteWeigherRegisters = 80, kByteAdderRegisters = 112;
constexpr int kScorerRegisters = 104, kWeigherRegisters = 136, kAdderRegisters = 208, kCopierRegisters = 32;

// Sizes of one instance: up to kChunks chunks of the width in a block, kRows rows (tokens x heads), states in 8 bits or
// bfloat16, and kBlocks CTAs a cluster.
template <int kChunks, int kRows, bool kEightBits, int kBlocks>
struct Layout {
  static constexpr int chunks = kChunks, rows = kRows, blocks = kBlocks;
  static constexpr bool eight_bits = kEightBits;
  // Warpgroups: one scores (Q K^T), one weighs (softmax), one adds (P V). States in 8 bits pass through registers
  // before P V, which is too slow for one group: two groups share the width.
  static constexpr int adders = kEightBits ? 2 : 1;
  // Whether warpgroups exchange registers (setmaxnreg): then a whole warpgroup is the producer and gives up its own. In
  // 8 bits two warps of it prepare the tokens' scales.
  static constexpr bool moves_registers = kEightBits || kRows * kChunks > 128;
  static constexpr int copiers = moves_registers ? kGroup : 32;  // threads
  static constexpr int threads = (2 + adders) * kGroup + copiers;
  static constexpr int values = kRows / 2;   // scores or sums of a tile that a thread holds
  static constexpr int columns = kRows / 4;  // rows of the problem that a thread sums
  // The CTAs of a cluster divide the rows whose softmax they compute.
  static constexpr bool split = kBlocks > 1;
  static constexpr int own_rows = kRows / kBlocks;
  static constexpr int own_values = own_rows / 2, own_columns = own_rows / 4;
  static constexpr int sum_tiles = kChunks / adders;  // of 64 values of the width, in a thread that adds
  static constexpr int query_chunk_bytes = kRows * kRowBytes;
  static constexpr int query_bytes = kEightBits ? 0 : kChunks * query_chunk_bytes;  // of bytes they lie in registers
  // Stages of the pipeline between scoring, weighing and adding.
  static constexpr int places = moves_registers ? 3 : 4;
  static constexpr int weight_bytes = kRows * kTile * 2;   // of one tile
  static constexpr int sent_bytes = own_rows * kTile * 4;  // of one tile's scores from one block to another
  static constexpr int part_bytes = kBlocks * sent_bytes;
  static constexpr int token_bytes = kEightBits ? places * 3 * kTile * 4 : 0;
  static constexpr int small_bytes = token_bytes + (places + 4) * kRows * 4 + (2 * kMaxSlots + 4 * places + 1) * 8;
  static constexpr int fixed_bytes = query_bytes + places * (weight_bytes + part_bytes) + small_bytes;
  static constexpr int most_slots = kEightBits ? kChunks / 2 : kChunks;  // of the ring, in a tile
  static constexpr int slots = std::min(kMaxSlots, (kSharedBytes - fixed_bytes) / kSlotBytes);
  static constexpr int bytes = fixed_bytes + slots * kSlotBytes;
  static_assert(slots > 2 * most_slots && own_rows % 8 == 0);
};

// The shared memory of a CTA.
template <class L>
struct Shared {
  char* ring;              // (slots): 64 tokens x 128 bytes each, swizzled
  char* query;             // (chunks): rows x 64 values each, swizzled; none of bytes
  char* weights;           // (places): rows x 64 tokens each, swizzled
  char* parts;             // (places, blocks): the CTAs' partial sums of scores, in thread order; integers in 8 bits
  float* tokens;           // (places, 3, 64) of bytes: describe_tokens()
  float* factors;          // (places, rows): the factor that rescales the sums so far
  float* highest;          // (4, rows): of a tile, by warp; not of bytes
  uint64_t *full, *empty;  // (slots)
  uint64_t *weights_there, *weights_free;  // (places)
  uint64_t *part_there, *tokens_there;     // (places)
  uint64_t* query_there;                   // (1)

  __device__ explicit Shared(char* memory) {
    ring = memory;
    query = ring + L::slots * kSlotBytes;
    weights = query + L::query_bytes;
    parts = weights + L::places * L::weight_bytes;
    tokens = reinterpret_cast<float*>(parts + L::places * L::part_bytes);
    factors = tokens + L::token_bytes / 4;
    highest = factors + L::places * L::rows;
    full = reinterpret_cast<uint64_t*>(highest + 4 * L::rows);
    empty = full + kMaxSlots;
    weights_there = empty + kMaxSlots;
    weights_free = weights_there + L::places;
    part_there = weights_free + L::places;
    tokens_there = part_there + L::places;
    query_there = tokens_there + L::places;
  }
};

struct Problem {
  const bool* mask;
  const float* scales;             // (contexts, tokens) of states in 8 bits
  const int8_t* queries;           // (contexts * rows), where states are in 8 bits: see PrepareArgs
  const QueryScale* query_scales;  // (contexts * rows)
  Parts parts;
  int64_t tokens;
  float scale;        // of scores in powers of two
  int blocks;         // CTAs of a cluster
  bool inputs_ready;  // states may be read before the grid dependency sync
  bool read_once;     // states are loaded with the L2 policy evict_first: too many to stay until the next call
};
struct Maps {
  // (64, tokens, chunks, contexts), boxes of 64 x 64 tokens; of 8 bits (width, tokens, contexts, 1), 128 x 64.
  CUtensorMap states;
  // (64, rows, chunks, contexts), boxes of 64 x own_rows; with a table as if of one context. Not of 8 bits.
  CUtensorMap query;
};

// The slots of a tile's width that a CTA of the cluster takes. In 8 bits each takes as many as fit, the last CTA the
// rest; chunks of bfloat16 are divided evenly.
struct Span {
  int first, count;
};
template <class L>
__device__ __forceinline__ Span span_of(const Problem& p, int rank) {
  if constexpr (L::eight_bits) return {rank * L::most_slots, L::most_slots};
  const int all = static_cast<int>(p.parts.width) / kChunk, first = rank * all / L::blocks;
  return {first, (rank + 1) * all / L::blocks - first};
}

// A work tile: tiles of 64 tokens of one (context, block of rows) pair, and where that context and those rows are.
struct Piece {
  int64_t slot;         // of the partial in the workspace
  int first, tiles;     // of the context
  int tokens;           // of the context
  const bool* mask;     // (tokens), or null
  const float* scales;  // (tokens) of states in 8 bits
  const CUtensorMap* states;
  int in_states;            // which context of that map
  int query_row, in_query;  // where the block of rows begins in the map of the query
  int64_t row;              // the first row, counted over all contexts
  int rows;                 // from the first row to the context's last
};
// The work tile from this tile to the end of its pair.
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
// The same for one context of the table.
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
// The work tiles of this CTA's cluster, in order.
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
// Calls work(piece) for each work tile of the cluster.
template <class Work>
__device__ __forceinline__ void for_each_piece(const Maps& maps, const Problem& p, Work work) {
  for (Walk walk(p); walk.more();) work(walk.next(maps, p));
}

// The producer, one thread: issues TMA loads of the cluster's tiles as slots of the ring become free.
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

// 2^x to 2 units in the last place; 0 below 2^-126.
__device__ __forceinline__ float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace cepe::latent_kernel
