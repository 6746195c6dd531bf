// One pass over the states for few rows. docs/kernels/latent_attention.md has the derivation; names here follow it: a
// reader is a block, or two that share the width; its first warpgroup scores tiles of 64 tokens, its second adds them,
// and one thread keeps the copies coming.
#include "ops/latent_kernel.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>

#include "ops/fused.h"
#include "ops/hopper.cuh"
#include "ops/latent_int8.cuh"
#include "ops/latent_merge.cuh"
#include "ops/latent_table.cuh"

namespace cepe::latent_kernel {
namespace {

using namespace hopper;

constexpr int kGroup = 128;                  // threads of a warpgroup
constexpr int kSlotBytes = kTile * kChunk * 2;
constexpr int kSharedBytes = 222 * 1024;     // of a block: sm_90 has 228 KB, of which a block of the merge takes 5
constexpr int kMaxSlots = 24;
// With 8 bits, of a thread of four warpgroups that start with 128 each.
constexpr int kScorerRegisters = 168, kAdderRegisters = 152, kCopierRegisters = 32;
constexpr float kLazy = 8.0f;                // the scale of a row's sum is renewed when its highest score grew by 2^8

// Sizes of one instance: kChunks chunks of the width in a block, kRows rows (tokens x heads), states in 8 bits or bfloat16.
template <int kChunks, int kRows, bool kEightBits>
struct Layout {
  static constexpr int chunks = kChunks, rows = kRows;
  static constexpr bool eight_bits = kEightBits;
  // Bytes that are added pass through registers, which takes one warpgroup too long: two share the width. A fourth, whose first
  // thread copies, gives its registers to those.
  static constexpr int adders = kEightBits ? 2 : 1;
  static constexpr int threads = kEightBits ? 4 * kGroup : 2 * kGroup + 32;
  // Bytes come twice as fast, so two blocks' exchange must not be waited for: tiles are weighed one behind. The ring has room.
  static constexpr bool behind = kEightBits;
  static constexpr int places = behind ? 4 : 2;  // tiles whose scores may be on their way between two blocks
  using Weight = std::conditional_t<kEightBits, __half, __nv_bfloat16>;
  static constexpr int tile_slots = kEightBits ? kChunks / 2 : kChunks;  // of the ring, in a tile
  // Weights are taken relative to 2^-headroom times the highest, so that float16's range is used where it is narrow.
  static constexpr float headroom = kEightBits ? 7 : 0;
  static constexpr int values = kRows / 2;                // scores or sums of a tile that a thread holds
  static constexpr int columns = kRows / 4;               // rows of the problem that a thread sums
  static constexpr int own_words = (kChunks / 2 + adders - 1) / adders;   // of 8 bits: see add_bytes()
  static constexpr int sum_tiles = kEightBits ? 2 * own_words : kChunks;  // of 64 values of the width, in a thread
  static constexpr int query_chunk_bytes = kRows * kRowBytes;
  static constexpr int query_bytes = kChunks * query_chunk_bytes;
  static constexpr int weight_bytes = kRows * kTile * 2;  // of one tile
  static constexpr int part_bytes = kRows * kTile * 4;    // of one tile's scores from the other block
  static constexpr int small_bytes = 6 * kRows * 4 + (2 * kMaxSlots + 4 + places + 1) * 8;
  static constexpr int fixed_bytes = query_bytes + 2 * weight_bytes + places * part_bytes + small_bytes;
  static constexpr int slots = std::min(kMaxSlots, (kSharedBytes - fixed_bytes) / kSlotBytes);
  static constexpr int bytes = fixed_bytes + slots * kSlotBytes;
  static_assert(slots > 2 * tile_slots);
};

// What a block keeps in shared memory. Weights and factors are kept for two tiles, in turn.
template <class L>
struct Shared {
  char* ring;       // (slots): 64 tokens x 128 bytes each, swizzled
  char* query;      // (chunks): rows x 64 values each, swizzled; of 8 bits (tile_slots): 2 rows x 128 values
  char* weights;    // (2): rows x 64 tokens each, swizzled
  float* parts;     // (places): the other block's part of the scores, in the order of the threads
  float* factors;   // (2, rows): what the sums so far are to be multiplied by
  float* highest;   // (4, rows): of a tile, by warp
  uint64_t *full, *empty;                       // (slots)
  uint64_t *weights_there, *weights_free;       // (2)
  uint64_t *part_there, *query_there;           // (places), (1)

  __device__ explicit Shared(char* memory) {
    ring = memory;
    query = ring + L::slots * kSlotBytes;
    weights = query + L::query_bytes;
    parts = reinterpret_cast<float*>(weights + 2 * L::weight_bytes);
    factors = parts + L::places * (L::part_bytes / 4);
    highest = factors + 2 * L::rows;
    full = reinterpret_cast<uint64_t*>(highest + 4 * L::rows);
    empty = full + kMaxSlots;
    weights_there = empty + kMaxSlots;
    weights_free = weights_there + 2;
    part_there = weights_free + 2;
    query_there = part_there + L::places;
  }
};

struct Problem {
  const bool* mask;
  const float* scales;         // (contexts, tokens) of states in 8 bits
  const float2* query_scales;  // (contexts * rows): of their queries: the scale, and 128 times the sum of what it scales
  Parts parts;
  int64_t tokens;
  float scale;       // of scores in powers of two
  int blocks;        // of a reader
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

// Softmax of a thread's columns so far. Column i is row i / 2 * 8 + 2 (lane % 4) + i % 2 of the block of rows.
template <class L>
struct Softmax {
  float highest[L::columns], total[L::columns];  // total: of this thread's tokens
  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < L::columns; ++i) highest[i] = -INFINITY, total[i] = 0;
  }
};

// This block's part of the scores of a tile, (64 tokens x its width) (its width x rows).
template <class L>
__device__ __forceinline__ void score_tile(const Shared<L>& shared, RingPlace<L::slots>& at, float (&score)[L::values]) {
#pragma unroll
  for (int i = 0; i < L::tile_slots; ++i) {
    wait(shared.full + at.slot, at.parity);
    begin_products();
    const uint64_t states = operand(shared_address(shared.ring + at.slot * kSlotBytes));
    const uint64_t query = operand(shared_address(shared.query + i * L::query_chunk_bytes));
#pragma unroll
    for (int k = 0; k < kChunk / 16; ++k) multiply<0>(score, states + k * 2, query + k * 2, i + k > 0);
    commit_products();
    at.advance();
  }
  wait_products<0>();
}
// The same of bytes, with queries of two bytes: exact sums of both, the second's in units of 1/256 of the first's. Together in
// units of 1/64, which 32 bits hold: 1/128 of a unit is lost, and one conversion to float is cheaper than two.
template <class L>
__device__ __forceinline__ void score_bytes(const Shared<L>& shared, RingPlace<L::slots>& at, float (&score)[L::values]) {
  int sums[2 * L::values];
#pragma unroll
  for (int i = 0; i < L::tile_slots; ++i) {
    wait(shared.full + at.slot, at.parity);
    begin_products();
    const uint64_t states = operand(shared_address(shared.ring + at.slot * kSlotBytes));
    const uint64_t query = operand(shared_address(shared.query + 2 * i * L::query_chunk_bytes));
#pragma unroll
    for (int k = 0; k < kSlotWidth8 / 32; ++k) multiply_bytes(sums, states + k * 2, query + k * 2, i + k > 0);
    commit_products();
    at.advance();
  }
  wait_products<0>();
#pragma unroll
  for (int i = 0; i < L::values; ++i) score[i] = static_cast<float>(sums[i] * kJointSteps + (sums[L::values + i] >> 2));
}

// The two blocks of a reader send each other their parts of a tile's scores and add them. Where a part is waited for only after
// the next tile's was sent, four places are needed: when tile i is sent, the other block has read tile i - 4's.
template <class L>
__device__ __forceinline__ void send_part(const Shared<L>& shared, uint32_t other, int tile, const float (&score)[L::values]) {
  const int place = tile % L::places, thread = threadIdx.x;
  const uint32_t to = address_in_block(shared.parts + place * (L::part_bytes / 4), other);
  const uint32_t barrier = address_in_block(shared.part_there + place, other);
  if (thread == 0) arrive_expecting(shared.part_there + place, L::part_bytes);
#pragma unroll
  for (int i = 0; i < L::values / 4; ++i) {
    const float four[4] = {score[4 * i], score[4 * i + 1], score[4 * i + 2], score[4 * i + 3]};
    send_16(to + (i * kGroup + thread) * 16, four, barrier);
  }
}
template <class L>
__device__ __forceinline__ void add_part(const Shared<L>& shared, int tile, float (&score)[L::values]) {
  const int place = tile % L::places, thread = threadIdx.x;
  const float* const parts = shared.parts + place * (L::part_bytes / 4);
  wait_cluster(shared.part_there + place, tile / L::places & 1);
#pragma unroll
  for (int i = 0; i < L::values / 4; ++i) {
    const float4 four = *reinterpret_cast<const float4*>(parts + (i * kGroup + thread) * 4);
    score[4 * i] += four.x, score[4 * i + 1] += four.y, score[4 * i + 2] += four.z, score[4 * i + 3] += four.w;
  }
}

// What a thread knows of one of its two tokens of a tile.
struct Token {
  bool real;
  float scale, logarithm, inverse;  // of states in 8 bits
};
template <class L>
__device__ __forceinline__ Token token_at(const Piece& piece, int token) {
  Token t{token < piece.tokens && (!piece.mask || piece.mask[token]), 1, 0, 1};
  if (L::eight_bits && t.real) t.scale = piece.scales[token];
  return t;
}

// A tile's scores in powers of two. queries: of a thread's columns, where states are in 8 bits.
template <class L>
__device__ __forceinline__ void scale_scores(const Problem& p, Token (&tokens)[2], const float2 (&queries)[L::columns],
                                             float (&score)[L::values]) {
  if (L::eight_bits) {
    for (Token& t : tokens) t.logarithm = __log2f(t.scale), t.inverse = __fdividef(1, t.scale);
  }
#pragma unroll
  for (int i = 0; i < L::values; ++i) {
    const Token& t = tokens[i % 4 / 2];
    const float2 query = queries[i / 4 * 2 + i % 2];
    const float scaled = L::eight_bits ? (score[i] - query.y) * (query.x * t.scale) + t.logarithm : score[i] * p.scale;
    score[i] = t.real ? scaled : -INFINITY;
  }
}

// Of a thread of the scoring group.
__device__ __forceinline__ int warp_here() { return static_cast<int>(threadIdx.x) / 32; }
__device__ __forceinline__ int lane_here() { return static_cast<int>(threadIdx.x) % 32; }
__device__ __forceinline__ int row_of(int column) { return column / 2 * 8 + 2 * (lane_here() % 4) + column % 2; }

// 2^x to 2 units in the last place; 0 below 2^-126.
__device__ __forceinline__ float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// New highest scores where they grew by much; factor: what sums taken with the old ones are to be multiplied by.
template <class L>
__device__ __forceinline__ void renew_highest(const Shared<L>& shared, const float (&score)[L::values], Softmax<L>& softmax,
                                              float (&factor)[L::columns]) {
  #pragma unroll
  for (int i = 0; i < L::columns; ++i) {
    float highest = fmaxf(score[i / 2 * 4 + i % 2], score[i / 2 * 4 + i % 2 + 2]);
#pragma unroll
    for (int lanes = 4; lanes < 32; lanes *= 2) highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, lanes));
    if (lane_here() < 4) shared.highest[warp_here() * L::rows + row_of(i)] = highest;
  }
  synchronise_group<kGroup>(1);
#pragma unroll
  for (int i = 0; i < L::columns; ++i) {
    const float* const column = shared.highest + row_of(i);
    float highest = softmax.highest[i];
#pragma unroll
    for (int w = 0; w < 4; ++w) highest = fmaxf(highest, column[w * L::rows] - L::headroom);
    if (!(highest - softmax.highest[i] > kLazy)) highest = softmax.highest[i];
    factor[i] = exp2f(softmax.highest[i] - (highest == -INFINITY ? 0 : highest));
    softmax.total[i] *= factor[i];
    softmax.highest[i] = highest;
  }
}

// Exponentials of a tile's scores, as 16-bit weights for the adding group. A token's score holds the logarithm of its
// states' scale, which the sums want and the total does not.
template <class L>
__device__ __forceinline__ void weigh_tile(const Shared<L>& shared, int tile, const Token (&tokens)[2], float (&score)[L::values],
                                           Softmax<L>& softmax) {
  const int warp = warp_here(), lane = lane_here(), place = tile & 1;
  float factor[L::columns];
  bool grew = false;
#pragma unroll
  for (int i = 0; i < L::values; ++i) grew |= score[i] > softmax.highest[i / 4 * 2 + i % 2] + (L::headroom + kLazy);
#pragma unroll
  for (int i = 0; i < L::columns; ++i) factor[i] = 1;
  if (any_in_group<kGroup>(2, grew)) renew_highest(shared, score, softmax, factor);
  float shift[L::columns];
#pragma unroll
  for (int i = 0; i < L::columns; ++i) shift[i] = softmax.highest[i] == -INFINITY ? 0 : softmax.highest[i];
#pragma unroll
  for (int i = 0; i < L::values; ++i) {
    const int column = i / 4 * 2 + i % 2;
    score[i] = power_of_two(score[i] - shift[column]);
    softmax.total[column] += L::eight_bits ? score[i] * tokens[i % 4 / 2].inverse : score[i];
  }
  wait(shared.weights_free + place, (tile >> 1 & 1) ^ 1);
  char* const weights = shared.weights + place * L::weight_bytes;
#pragma unroll
  for (int i = 0; i < L::values; ++i) {
    const int row = row_of(i / 4 * 2 + i % 2), token = warp * 16 + lane / 4 + i % 4 / 2 * 8;
    *reinterpret_cast<typename L::Weight*>(weights + row * kRowBytes + (token * 2 ^ row % 8 * 16)) = typename L::Weight(score[i]);
  }
  if (threadIdx.x < 4) {
#pragma unroll
    for (int i = 0; i < L::columns; ++i) shared.factors[place * L::rows + row_of(i)] = factor[i];
  }
  publish_to_async();
  arrive(shared.weights_there + place);
}

// The piece's highest scores and totals.
template <class L>
__device__ __forceinline__ void write_statistics(const Parts& parts, const Piece& piece, const Shared<L>& shared, Softmax<L>& softmax) {
  float* const totals = shared.highest;  // (4, rows); the last tile's renewal is over for all once they meet here
  synchronise_group<kGroup>(1);
#pragma unroll
  for (int i = 0; i < L::columns; ++i) {
    float total = softmax.total[i];
#pragma unroll
    for (int lanes = 4; lanes < 32; lanes *= 2) total += __shfl_xor_sync(~0u, total, lanes);
    const int row = row_of(i);
    if (lane_here() < 4) totals[warp_here() * L::rows + row] = total;
    if (threadIdx.x < 4) parts.highest_of(piece.slot)[row] = softmax.highest[i];
  }
  synchronise_group<kGroup>(1);
  const int row = static_cast<int>(threadIdx.x);
  if (row < L::rows) {
    const float total = totals[row] + totals[L::rows + row] + totals[2 * L::rows + row] + totals[3 * L::rows + row];
    parts.total_of(piece.slot)[row] = total;
  }
  synchronise_group<kGroup>(1);
}

// One thread: the piece's query, this block's part of the width. Of 8 bits: of each slot's width first the rows' coarse bytes,
// then their fine ones, so that one product takes both.
template <class L>
__device__ __forceinline__ void load_query(const Maps& maps, const Shared<L>& shared, const Piece& piece, int rank) {
  arrive_expecting(shared.query_there, L::query_bytes);
  if constexpr (L::eight_bits) {
    for (int i = 0; i < 2 * L::tile_slots; ++i) {
      const int column = (rank * L::tile_slots + i / 2) * kSlotWidth8;
      copy_box(shared.query + i * L::query_chunk_bytes, maps.query, {column, piece.query_row, piece.in_query * 2 + i % 2, 0},
               shared.query_there);
    }
  } else {
    copy_box(shared.query, maps.query, {0, piece.query_row, rank * L::chunks, piece.in_query}, shared.query_there);
  }
}

// A thread's columns of the piece's queries.
template <class L>
__device__ __forceinline__ void load_query_scales(const Problem& p, const Piece& piece, float2 (&queries)[L::columns]) {
#pragma unroll
  for (int i = 0; i < L::columns; ++i) {
    const int row = row_of(i);
    queries[i] = row < piece.rows ? p.query_scales[piece.row + row] : float2{0, 0};
    queries[i].x *= p.scale;
  }
}

// The first warpgroup.
template <class L>
__device__ __forceinline__ void score_pieces(const Maps& maps, const Problem& p, const Shared<L>& shared, uint32_t rank) {
  const int first_token = warp_here() * 16 + lane_here() / 4;  // of this thread's two in a tile
  RingPlace<L::slots> at;
  Softmax<L> softmax;
  uint32_t query_parity = 0;
  int tile = 0;  // of all pieces
  for_each_piece(maps, p, [&](const Piece& piece) {
    if (threadIdx.x == 0) load_query(maps, shared, piece, static_cast<int>(rank));
    float2 queries[L::columns];
    if (L::eight_bits) load_query_scales<L>(p, piece, queries);
    softmax.clear();
    wait(shared.query_there, query_parity);
    query_parity ^= 1;
    Token tokens[2], next_tokens[2];
    float score[L::values], next[L::values];
    const auto begin = [&](int i) {
      const int token = (piece.first + i) * kTile + first_token;
      next_tokens[0] = token_at<L>(piece, token), next_tokens[1] = token_at<L>(piece, token + 8);
      if constexpr (L::eight_bits) score_bytes(shared, at, next);
      else score_tile(shared, at, next);
      if (p.blocks == 2) send_part(shared, rank ^ 1, tile + i, next);
    };
    const auto advance = [&] {
      tokens[0] = next_tokens[0], tokens[1] = next_tokens[1];
#pragma unroll
      for (int n = 0; n < L::values; ++n) score[n] = next[n];
    };
    const auto finish = [&](int i) {
      if (p.blocks == 2) add_part(shared, tile + i, score);
      scale_scores<L>(p, tokens, queries, score);
      weigh_tile(shared, tile + i, tokens, score, softmax);
    };
    if constexpr (L::behind) begin(0);
    for (int i = L::behind; i < piece.tiles; ++i) {
      if constexpr (L::behind) advance();
      begin(i);
      if constexpr (!L::behind) advance();
      finish(i - L::behind);
    }
    if constexpr (L::behind) {
      advance();
      finish(piece.tiles - 1);
    }
    tile += piece.tiles;
    // Both blocks know them; the query's place is read no more.
    if (rank == 0) write_statistics(p.parts, piece, shared, softmax);
    else synchronise_group<kGroup>(1);
  });
}

template <class L>
__device__ __forceinline__ void write_sums(const Parts& parts, const Piece& piece, int rank, int adder,
                                           const float (&sums)[L::sum_tiles][L::values]) {
  const int thread = threadIdx.x % kGroup, warp = thread / 32, lane = thread % 32;
  float* const to = parts.sums_of(piece.slot);
  if constexpr (L::eight_bits) {
#pragma unroll
    for (int i_word = 0; i_word < L::own_words; ++i_word) {
      const int word = adder * L::own_words + i_word;
      if (word >= L::chunks / 2) break;
      const int64_t column = rank * L::chunks * kChunk + (warp * (L::chunks / 2) + word) * 32 + lane / 4 * 4;
#pragma unroll
      for (int i = 0; i < L::values; i += i % 4 == 0 ? 1 : 3) {
        const int row = i / 4 * 8 + 2 * (lane % 4) + i % 2;
        const float4 four{sums[2 * i_word][i], sums[2 * i_word][i + 2], sums[2 * i_word + 1][i], sums[2 * i_word + 1][i + 2]};
        if (column < parts.width && row < piece.rows) *reinterpret_cast<float4*>(to + row * parts.width + column) = four;
      }
    }
  } else {
#pragma unroll
    for (int chunk = 0; chunk < L::chunks; ++chunk) {
#pragma unroll
      for (int i = 0; i < L::values; ++i) {
        const int row = i / 4 * 8 + 2 * (lane % 4) + i % 2;
        const int64_t column = (rank * L::chunks + chunk) * kChunk + warp * 16 + lane / 4 + i % 4 / 2 * 8;
        if (column < parts.width && row < piece.rows) to[row * parts.width + column] = sums[chunk][i];
      }
    }
  }
}

// The products of a tile's weights and states, bfloat16 from shared memory.
template <class L>
__device__ __forceinline__ void add_chunks(const Shared<L>& shared, RingPlace<L::slots>& at, uint64_t weights, bool first,
                                           float (&sums)[L::chunks][L::values]) {
  int previous = 0;
#pragma unroll
  for (int chunk = 0; chunk < L::chunks; ++chunk) {
    begin_products();
    const uint64_t states = operand(shared_address(shared.ring + at.slot * kSlotBytes));
#pragma unroll
    for (int k = 0; k < kTile / 16; ++k) multiply<1>(sums[chunk], states + k * 128, weights + k * 2, !(first && k == 0));
    commit_products();
    if (chunk > 0) {
      wait_products<1>();
      if (threadIdx.x % 32 == 0) arrive(shared.empty + previous);
    }
    previous = at.slot;
    at.advance();
  }
  wait_products<0>();
  if (threadIdx.x % 32 == 0) arrive(shared.empty + previous);
}

// The same for bytes, which pass through registers. The 32 values of a group are a word of four to a lane, rows lane / 4 and
// lane / 4 + 8 of two products. A warp has chunks / 2 groups of its block's width, and an adder own_words of those of each warp.
template <class L>
__device__ __forceinline__ void add_bytes(const Shared<L>& shared, RingPlace<L::slots>& at, int adder, uint64_t weights, bool first,
                                          float (&sums)[L::sum_tiles][L::values]) {
  constexpr int kWords = L::chunks / 2, kOwn = L::own_words;
  const int warp = threadIdx.x % kGroup / 32, lane = threadIdx.x % 32;
  const auto has = [&](int i) { return kWords % L::adders == 0 || adder * kOwn + i < kWords; };
  const char* words[kOwn];
  int columns[kOwn];
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const int group = warp * kWords + (has(i) ? adder * kOwn + i : 0);
    RingPlace<L::slots> place = at;
    place.skip(group / 4);
    wait(shared.full + place.slot, place.parity);
    words[i] = shared.ring + place.slot * kSlotBytes;
    columns[i] = group % 4 * 32 + lane / 4 * 4;
  }
  Words next[kOwn];
#pragma unroll
  for (int i = 0; i < kOwn; ++i) next[i] = load_words(words[i], 0, columns[i]);
#pragma unroll
  for (int k = 0; k < kTile / 16; ++k) {
    Added added[kOwn];
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      added[i] = values_of(next[i]);
      if (k + 1 < kTile / 16) next[i] = load_words(words[i], (k + 1) * 16, columns[i]);
    }
    begin_products();
#pragma unroll
    for (int i = 0; i < 2 * kOwn; ++i) {
      // Also of a word that is none: its sums are not written, and a condition would make the products wait for each other.
      multiply_registers(sums[i], added[i / 2].a[i % 2], weights + k * 2, !(first && k == 0));
    }
    commit_products();
    wait_products<1>();
  }
  __syncwarp();
  if (lane < L::tile_slots) {
    RingPlace<L::slots> place = at;
    place.skip(lane);
    arrive(shared.empty + place.slot);
  }
  at.skip(L::tile_slots);
  wait_products<0>();
}

// sums (width x rows) = sums * factors + (width x 64 tokens) (64 tokens x rows)
template <class L>
__device__ __forceinline__ void add_tile(const Shared<L>& shared, RingPlace<L::slots>& at, int adder, int tile, bool first,
                                         float (&sums)[L::sum_tiles][L::values]) {
  const int lane = threadIdx.x % 32, place = tile & 1;
  wait(shared.weights_there + place, tile >> 1 & 1);
  bool changed = false;
  float factor[L::columns];
#pragma unroll
  for (int i = 0; i < L::columns; ++i) {
    factor[i] = shared.factors[place * L::rows + i / 2 * 8 + 2 * (lane % 4) + i % 2];
    changed |= factor[i] != 1;
  }
  if (!first && __any_sync(~0u, changed)) {
#pragma unroll
    for (int chunk = 0; chunk < L::sum_tiles; ++chunk) {
#pragma unroll
      for (int i = 0; i < L::values; ++i) sums[chunk][i] *= factor[i / 4 * 2 + i % 2];
    }
  }
  const uint64_t weights = operand(shared_address(shared.weights + place * L::weight_bytes));
  if constexpr (L::eight_bits) add_bytes(shared, at, adder, weights, first, sums);
  else add_chunks(shared, at, weights, first, sums);
  if (lane == 0) arrive(shared.weights_free + place);
}

// An adding warpgroup's work.
template <class L>
__device__ __forceinline__ void add_pieces(const Maps& maps, const Problem& p, const Shared<L>& shared, uint32_t rank, int adder) {
  RingPlace<L::slots> at;
  float sums[L::sum_tiles][L::values] = {};
  int tile = 0;
  for_each_piece(maps, p, [&](const Piece& piece) {
    for (int i = 0; i < piece.tiles; ++i, ++tile) add_tile(shared, at, adder, tile, i == 0, sums);
    write_sums<L>(p.parts, piece, static_cast<int>(rank), adder, sums);
  });
}

template <class L>
__device__ __forceinline__ void init_barriers(const Shared<L>& shared) {
  for (int i = 0; i < L::slots; ++i) init_barrier(shared.full + i, 1), init_barrier(shared.empty + i, L::adders * kGroup / 32);
  for (int i = 0; i < 2; ++i) {
    init_barrier(shared.weights_there + i, kGroup);
    init_barrier(shared.weights_free + i, L::adders * kGroup / 32);
  }
  for (int i = 0; i < L::places; ++i) init_barrier(shared.part_there + i, 1);
  init_barrier(shared.query_there, 1);
  publish_barriers();
}

template <class L>
__global__ void __launch_bounds__(L::threads, 1) read_states(const __grid_constant__ Maps maps, const __grid_constant__ Problem p) {
  extern __shared__ __align__(1024) char memory[];
  const Shared<L> shared(memory);
  cudaTriggerProgrammaticLaunchCompletion();  // the merge may take its places; it waits there
  const uint32_t rank = p.blocks == 2 ? cluster_rank() : 0;
  if (threadIdx.x == 0) {
    if (!p.parts.table.entries) prefetch_map(maps.states);
    prefetch_map(maps.query);
    init_barriers(shared);
  }
  __syncthreads();
  arrive_in_cluster();
  cudaGridDependencySynchronize();
  const int role = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / kGroup, 0);  // known to be the same in a warp
  if (role == 0) {
    if constexpr (L::eight_bits) take_registers<kScorerRegisters>();
    wait_for_cluster();  // the other block's barriers are there
    score_pieces(maps, p, shared, rank);
  } else if (role <= L::adders) {
    if constexpr (L::eight_bits) take_registers<kAdderRegisters>();
    add_pieces(maps, p, shared, rank, role - 1);
  } else {
    if constexpr (L::eight_bits) give_registers<kCopierRegisters>();
    if (threadIdx.x == (1 + L::adders) * kGroup) copy_tiles(maps, p, shared, static_cast<int>(rank));
    __syncwarp();
  }
  if (role > 0) wait_for_cluster();
}

// ---- The host's side

// How a problem is cut.
bool eight_bits(const Args& a) { return a.table ? a.shape->eight_bits : a.scales != nullptr; }
struct Cut {
  int blocks, chunks, block_rows, row_blocks;  // of a reader, of a block, ...
  Shares shares;
};
Cut cut_of(const Args& a) {
  Cut cut{};
  const int64_t chunks = a.width / kChunk;
  cut.blocks = blocks_of_reader(a.width);
  const int64_t own = (chunks + cut.blocks - 1) / cut.blocks;
  cut.chunks = static_cast<int>(own <= 2 ? 2 : own <= 4 ? 4 : own);
  if (eight_bits(a)) cut.chunks += cut.chunks % 2;  // a slot holds two
  cut.block_rows = a.table ? a.shape->block_rows : block_rows_for(a.rows);
  cut.row_blocks = static_cast<int>((a.rows + cut.block_rows - 1) / cut.block_rows);
  if (a.table) {  // which says how many of them have work
    cut.shares.readers = most_readers(a.width);
  } else {
    cut.shares.tiles = static_cast<int>((a.tokens + kTile - 1) / kTile);
    cut.shares.total = a.contexts * cut.row_blocks * cut.shares.tiles;
    cut.shares.readers = readers_for(cut.shares.total, a.width);
  }
  return cut;
}

// Where things lie in a call's scratch memory, in floats; each begins at a multiple of 4.
struct Scratch {
  int64_t statistics, query_scales, queries, end;
  Scratch(const Args& a, const Cut& cut) {
    const int64_t part_rows = Parts::slots(cut.shares.readers, a.contexts * cut.row_blocks) * cut.block_rows, rows = a.contexts * a.rows;
    statistics = part_rows * a.width;
    query_scales = statistics + part_rows * 2;
    queries = query_scales + (eight_bits(a) ? (2 * rows + 3) / 4 * 4 : 0);
    end = queries + (eight_bits(a) ? rows * a.width / 2 : 0);
  }
};

template <class L>
Maps maps_of(const Args& args, const void* queries) {
  const int64_t contexts = args.table ? 1 : args.contexts, rows = args.contexts * args.rows / contexts;
  Maps maps{};
  if (!args.table) maps.states = map_of_states({args.states, contexts, args.tokens, args.width}, L::eight_bits);
  maps.query = L::eight_bits ? map_of_bytes({queries, 2 * contexts, rows, args.width}, L::rows)
                             : map_of_chunks({args.query, contexts, rows, args.width}, L::rows, L::chunks);
  return maps;
}

template <class L>
void launch(const Args& args, const Cut& cut, cudaStream_t stream) {
  const Scratch scratch(args, cut);
  auto* const query_scales = reinterpret_cast<float2*>(args.scratch + scratch.query_scales);
  if (L::eight_bits) {
    const int64_t contexts = args.table ? 1 : args.contexts;
    launch_prepare_queries({static_cast<const __nv_bfloat16*>(args.query), reinterpret_cast<int8_t*>(args.scratch + scratch.queries),
                            query_scales, contexts, args.contexts * args.rows / contexts, args.width}, stream);
  }
  const Maps maps = maps_of<L>(args, args.scratch + scratch.queries);
  Problem p{};
  p.mask = args.mask, p.scales = args.scales, p.query_scales = query_scales;
  p.tokens = args.tokens, p.scale = args.scale * 1.44269504f, p.blocks = cut.blocks;
  p.parts.sums = args.scratch;
  p.parts.statistics = args.scratch + scratch.statistics;
  p.parts.out = args.out;
  p.parts.contexts = args.contexts, p.parts.rows = args.rows, p.parts.width = args.width;
  p.parts.block_rows = L::rows, p.parts.row_blocks = cut.row_blocks;
  p.parts.shares = cut.shares;
  if (args.table) p.parts.table = table_in(args.table, args.contexts);
  check(cudaFuncSetAttribute(read_states<L>, cudaFuncAttributeMaxDynamicSharedMemorySize, L::bytes));
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim.x = static_cast<unsigned>(cut.blocks);
  attributes[0].val.clusterDim.y = attributes[0].val.clusterDim.z = 1;
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(cut.shares.readers * cut.blocks));
  config.blockDim = dim3(L::threads);
  config.dynamicSmemBytes = L::bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = 2;
  check(cudaLaunchKernelEx(&config, read_states<L>, maps, p));
  launch_merge(p.parts, true, stream);
}

template <int kChunks, bool kEightBits>
void launch_rows(const Args& args, const Cut& cut, cudaStream_t stream) {
  switch (cut.block_rows) {
    case 8: return launch<Layout<kChunks, 8, kEightBits>>(args, cut, stream);
    case 16: return launch<Layout<kChunks, 16, kEightBits>>(args, cut, stream);
    default: return launch<Layout<kChunks, 32, kEightBits>>(args, cut, stream);
  }
}

}  // namespace

int block_rows_for(int64_t rows) { return rows <= 8 ? 8 : rows <= 16 ? 16 : 32; }

int64_t scratch_floats(const Args& args) { return Scratch(args, cut_of(args)).end; }

void latent_attention(const Args& args, void* stream) {
  if (!width_fits(args.width)) fused::refuse("latent attention", "the width is not a multiple of 64 up to 1024");
  if (!args.table && args.tokens < 1) fused::refuse("latent attention", "the context has no tokens");
  if (args.contexts == 0 || args.rows == 0) return;
  const auto on = static_cast<cudaStream_t>(stream);
  const Cut cut = cut_of(args);
  switch (cut.chunks + (eight_bits(args) ? 100 : 0)) {
    case 2: return launch_rows<2, false>(args, cut, on);
    case 4: return launch_rows<4, false>(args, cut, on);
    case 5: return launch_rows<5, false>(args, cut, on);
    case 6: return launch_rows<6, false>(args, cut, on);
    case 7: return launch_rows<7, false>(args, cut, on);
    case 8: return launch_rows<8, false>(args, cut, on);
    case 102: return launch_rows<2, true>(args, cut, on);
    case 104: return launch_rows<4, true>(args, cut, on);
    case 106: return launch_rows<6, true>(args, cut, on);
    default: return launch_rows<8, true>(args, cut, on);
  }
}

}  // namespace cepe::latent_kernel
