// The scoring warpgroup where latents are in 8 bits. Included by latent_kernel.cu only. While a tile's products run, the tile
// before it is weighed. Two blocks that share the width also share the rows: each sends the other its sums of the other's rows,
// computes the weights of its own, and writes them for both. docs/kernels/latent_attention.md counts what that saves.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#include "ops/hopper.cuh"
#include "ops/latent_int8.cuh"
#include "ops/latent_reader.cuh"

namespace cepe::latent_kernel {

constexpr float kHeadroom = 7;  // weights are relative to 2^-7 times the highest: float16 is narrow, and its upper range is free

// What a thread knows of its columns, rows row_of(column) of the block's own.
template <class L>
struct Columns {
  float scale[L::own_columns];   // of a score in powers of two, but for its token's
  uint32_t offset[L::own_columns];  // what the bytes' offset of 128 adds to a sum
  float shift[L::own_columns];   // the highest score so far, less the headroom; 0 where there is none yet
  float limit[L::own_columns];   // from this score on, less the shift, both are renewed
  float total[L::own_columns];   // of this thread's tokens

  __device__ __forceinline__ void begin(const Problem& p, const Piece& piece, int first_row) {
#pragma unroll
    for (int i = 0; i < L::own_columns; ++i) {
      const int row = first_row + row_of(i);
      const QueryScale query = row < piece.rows ? p.query_scales[piece.row + row] : QueryScale{0, 0};
      scale[i] = fabsf(query.scale) < INFINITY ? query.scale * p.scale : 0;  // write_totals() sees to the others
      offset[i] = query.offset;
      shift[i] = 0, limit[i] = -INFINITY, total[i] = 0;
    }
  }
  __device__ __forceinline__ float highest(int i) const { return limit[i] == -INFINITY ? -INFINITY : shift[i]; }
};

// One thread: the piece's query, this block's part of the width. Of each slot's width first the rows' coarse bytes, then their
// fine ones, so that one product takes both; of both first the block's own rows.
template <class L>
__device__ __forceinline__ void load_byte_query(const Maps& maps, const Shared<L>& shared, const Piece& piece, int rank) {
  constexpr int kBoxes = L::rows / L::own_rows;  // for the rows
  arrive_expecting(shared.query_there, L::query_bytes);
  for (int i = 0; i < 2 * kBoxes * L::most_slots; ++i) {
    const int slot = i / (2 * kBoxes), byte = i / kBoxes % 2, box = kBoxes == 1 ? 0 : i % 2 ^ rank;
    const int column = (rank * L::most_slots + slot) * kSlotWidth8;
    copy_box(shared.query + i * L::own_rows * kRowBytes, maps.query,
             {column, piece.query_row + box * L::own_rows, piece.in_query * 2 + byte, 0}, shared.query_there);
  }
}

// Begins a tile's products: of this block's width, exact sums of the coarse bytes and of the fine ones.
template <class L>
__device__ __forceinline__ void begin_byte_scores(const Shared<L>& shared, RingPlace<L::slots>& at, int (&sums)[2 * L::values]) {
#pragma unroll
  for (int i = 0; i < L::most_slots; ++i) {
    wait(shared.full + at.slot, at.parity);
    if (i == 0) begin_products();
    const int slot = __shfl_sync(~0u, at.slot, 0);  // which the compiler then keeps once for a warp
    const uint64_t states = operand(shared_address(shared.ring + slot * kSlotBytes));
    const uint64_t query = operand(shared_address(shared.query + 2 * i * L::query_chunk_bytes));
#pragma unroll
    for (int k = 0; k < kSlotWidth8 / 32; ++k) multiply_bytes(sums, states + k * 2, query + k * 2, i + k > 0);
    at.advance();
  }
  commit_products();
}
// Waits for them; own: both sums of the block's own rows as one. Those of the other's rows are sent there. Tile i's go where
// tile i - 2's were: the other block has read those, for it sent its sums of tile i - 1 after that, and they have come.
template <class L>
__device__ __forceinline__ void end_byte_scores(const Shared<L>& shared, RingPlace<L::places>& at, uint32_t rank,
                                           int (&sums)[2 * L::values], uint32_t (&own)[L::own_values]) {
  wait_products<0>();
#pragma unroll
  for (int i = 0; i < 2 * L::values; ++i) asm volatile("" : "+r"(sums[i])::"memory");  // not read before
  const auto joined = [&](int i) {
    return static_cast<uint32_t>(sums[i]) * kFineSteps + static_cast<uint32_t>(sums[L::values + i]);
  };
  if constexpr (L::blocks == 2) {
    const int thread = threadIdx.x;
    const uint32_t to = address_in_block(shared.parts + at.slot * (L::part_bytes / 4), rank ^ 1) + thread * 16;
    const uint32_t barrier = address_in_block(shared.part_there + at.slot, rank ^ 1);
    if (thread == 0) arrive_expecting(shared.part_there + at.slot, L::part_bytes);
#pragma unroll
    for (int i = 0; i < L::own_values / 4; ++i) {
      const int first = 4 * i + (L::split ? L::own_values : 0);
      const uint32_t four[4] = {joined(first), joined(first + 1), joined(first + 2), joined(first + 3)};
      send_16(to + i * kGroup * 16, four, barrier);
    }
    at.advance();
  }
#pragma unroll
  for (int i = 0; i < L::own_values; ++i) own[i] = joined(i);
}
// The other block's sums of this one's rows are added.
template <class L>
__device__ __forceinline__ void add_sums(const Shared<L>& shared, RingPlace<L::places>& at, uint32_t (&own)[L::own_values]) {
  const int thread = threadIdx.x;
  const float* const parts = shared.parts + at.slot * (L::part_bytes / 4);
  wait_cluster(shared.part_there + at.slot, at.parity);
  at.advance();
#pragma unroll
  for (int i = 0; i < L::own_values / 4; ++i) {
    const uint4 four = *reinterpret_cast<const uint4*>(parts + (i * kGroup + thread) * 4);
    own[4 * i] += four.x, own[4 * i + 1] += four.y, own[4 * i + 2] += four.z, own[4 * i + 3] += four.w;
  }
}

// The scale of a token's states; 0, whose logarithm is -inf, where it is none.
__device__ __forceinline__ float scale_of_token(const Piece& piece, int token) {
  return token < piece.tokens && (!piece.mask || piece.mask[token]) ? piece.scales[token] : 0;
}
__device__ __forceinline__ float logarithm(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// New shifts where scores grew by much; factor: what sums taken with the old ones are to be multiplied by.
template <class L>
__device__ __forceinline__ void renew_shifts(const Shared<L>& shared, float (&score)[L::own_values], Columns<L>& columns,
                                             float (&factor)[L::own_columns]) {
  share_highest<L, L::own_columns>(shared, score);
#pragma unroll
  for (int i = 0; i < L::own_columns; ++i) {
    const float* const column = shared.highest + row_of(i);
    const float before = columns.highest(i), old_shift = columns.shift[i];
    float highest = before;
#pragma unroll
    for (int w = 0; w < 4; ++w) highest = fmaxf(highest, column[w * L::rows] + old_shift - kHeadroom);
    if (!(highest - before > kLazy)) highest = before;
    columns.shift[i] = highest == -INFINITY ? 0 : highest;
    columns.limit[i] = highest == -INFINITY ? -INFINITY : kHeadroom + kLazy;
    factor[i] = exp2f(before - columns.shift[i]);
    columns.total[i] *= factor[i];
    score[i / 2 * 4 + i % 2] += old_shift - columns.shift[i], score[i / 2 * 4 + i % 2 + 2] += old_shift - columns.shift[i];
  }
}

// Where a thread writes weights: of its two tokens, which stand side by side, and of column i. See load_words() for the order.
template <class L>
struct ByteWeightPlaces {
  uint32_t here, there;  // row 2 (lane % 4) of the block's own, in both blocks
  uint32_t next;         // to the row after it
  __device__ __forceinline__ ByteWeightPlaces(const Shared<L>& shared, uint32_t rank) {
    const int lane = lane_here(), row = 2 * (lane % 4), bytes = place_of_token(warp_here() * 16 + lane / 4) * 2;
    const int first = (L::split ? static_cast<int>(rank) * L::own_rows : 0) + row;
    const char* const at = shared.weights + first * kRowBytes + (bytes ^ row * 16);
    here = shared_address(at), there = L::split ? address_in_block(at, rank ^ 1) : 0;
    next = static_cast<uint32_t>(kRowBytes + (bytes ^ (row + 1) * 16) - (bytes ^ row * 16));
  }
  __device__ __forceinline__ uint32_t of(int i) const { return i / 2 * 8 * kRowBytes + (i % 2 ? next : 0); }
};

// Exponentials of a tile's scores as float16 weights, for the adding groups of the blocks that want them.
template <class L>
__device__ __forceinline__ void write_byte_weights(const Shared<L>& shared, const ByteWeightPlaces<L>& places,
                                              RingPlace<L::weight_places>& at, uint32_t rank,
                                              const float (&weight)[L::own_values], const float (&factor)[L::own_columns]) {
  const int first_row = L::split ? static_cast<int>(rank) * L::own_rows : 0;
  wait_cluster(shared.weights_free + at.slot, at.parity ^ 1);
  const uint32_t skipped = at.slot * L::weight_bytes;
  uint64_t* const there = shared.weights_there + at.slot;
  const uint32_t other_barrier = L::split ? address_in_block(there, rank ^ 1) : 0;
#pragma unroll
  for (int i = 0; i < L::own_columns; ++i) {
    const __half2 pair = __floats2half2_rn(weight[i / 2 * 4 + i % 2], weight[i / 2 * 4 + i % 2 + 2]);
    uint32_t word;
    memcpy(&word, &pair, 4);
    write_4(places.here + skipped + places.of(i), word);
    if constexpr (L::split) send_4(places.there + skipped + places.of(i), word, other_barrier);
  }
  if (threadIdx.x < 4) {
#pragma unroll
    for (int i = 0; i < L::own_columns; i += 2) {
      float* const factors = shared.factors + at.slot * L::rows + first_row + row_of(i);
      const float two[2] = {factor[i], factor[i + 1]};
      factors[0] = two[0], factors[1] = two[1];
      if constexpr (L::split) send_8(address_in_block(factors, rank ^ 1), two, other_barrier);
    }
  }
  publish_to_async();
  __syncwarp();
  constexpr int kSent = L::split ? L::own_rows * (kTile * 2 + 4) : 0;  // bytes
  if (threadIdx.x == 0 && kSent > 0) arrive_expecting(there, kSent);
  else if (lane_here() == 0) arrive(there);
  at.advance();
}

// A tile's weights from its sums. scales: of the thread's two tokens, whose states' scale the sums want and the total does not:
// a score holds its logarithm.
template <class L>
__device__ __forceinline__ void weigh_bytes(const Shared<L>& shared, const ByteWeightPlaces<L>& places, RingPlace<L::weight_places>& at,
                                      uint32_t rank, const float (&scales)[2], const uint32_t (&sums)[L::own_values],
                                      Columns<L>& columns) {
  constexpr float kLeast = 1.17549435e-38f;  // a normal number, so that it has a logarithm
  float logarithms[2], inverse[2], score[L::own_values], factor[L::own_columns], scale[2];
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    scale[j] = scales[j] < kLeast && scales[j] > 0 ? kLeast : scales[j];
    logarithms[j] = logarithm(scale[j]), inverse[j] = power_of_two(fminf(-logarithms[j], 126));
  }
  bool grew = false;
#pragma unroll
  for (int i = 0; i < L::own_values; ++i) {
    const int column = i / 4 * 2 + i % 2, token = i % 4 / 2;
    const float sum = static_cast<float>(static_cast<int>(sums[i] - columns.offset[column]));
    score[i] = fmaf(sum, columns.scale[column] * scale[token], logarithms[token] - columns.shift[column]);
    grew |= score[i] > columns.limit[column];
  }
#pragma unroll
  for (int i = 0; i < L::own_columns; ++i) factor[i] = 1;
  if (any_in_group<kGroup>(2, grew)) renew_shifts(shared, score, columns, factor);
#pragma unroll
  for (int i = 0; i < L::own_values; ++i) {
    score[i] = power_of_two(score[i]);
    columns.total[i / 4 * 2 + i % 2] += score[i] * inverse[i % 4 / 2];
  }
  write_byte_weights(shared, places, at, rank, score, factor);
}

// The piece's highest scores and totals, of the block's own rows.
template <class L>
__device__ __forceinline__ void write_totals(const Problem& p, const Piece& piece, const Shared<L>& shared, int first_row,
                                             const Columns<L>& columns) {
  write_statistics(p.parts, piece, shared, first_row, columns.total, [&](int i) { return columns.highest(i); },
                   [&](int row, float total) {
                     const bool broken = total > 0 && row < piece.rows && !(fabsf(p.query_scales[piece.row + row].scale) < INFINITY);
                     return broken ? NAN : total;
                   });
}

// The first warpgroup's work.
template <class L>
__device__ __forceinline__ void score_byte_pieces(const Maps& maps, const Problem& p, const Shared<L>& shared, uint32_t rank) {
  const int first_row = L::split ? static_cast<int>(rank) * L::own_rows : 0;
  const int first_token = warp_here() * 16 + lane_here() / 4;  // of this thread's two in a tile
  const ByteWeightPlaces<L> places(shared, rank);
  RingPlace<L::slots> at;
  RingPlace<L::weight_places> weights_at;
  RingPlace<L::places> sent_at, added_at;
  Columns<L> columns;
  uint32_t query_parity = 0;
  for_each_piece(maps, p, [&](const Piece& piece) {
    if (threadIdx.x == 0) load_byte_query(maps, shared, piece, static_cast<int>(rank));
    columns.begin(p, piece, first_row);
    wait(shared.query_there, query_parity);
    query_parity ^= 1;
    int sums[2 * L::values];
    uint32_t own[L::own_values];
    float scales[2], next_scales[2];
    const auto begin = [&](int i) {
      const int token = (piece.first + i) * kTile + first_token;
      next_scales[0] = scale_of_token(piece, token), next_scales[1] = scale_of_token(piece, token + 8);
      begin_byte_scores(shared, at, sums);
    };
    const auto end = [&] {
      end_byte_scores(shared, sent_at, rank, sums, own);
      scales[0] = next_scales[0], scales[1] = next_scales[1];
    };
    const auto finish = [&] {
      if constexpr (L::blocks == 2) add_sums(shared, added_at, own);
      weigh_bytes(shared, places, weights_at, rank, scales, own, columns);
    };
    begin(0);
    end();
    for (int i = 1; i < piece.tiles; ++i) {
      begin(i);
      finish();
      end();
    }
    finish();
    // Where both blocks know all rows' totals, one writes them. The query's place is read no more.
    if (L::split || rank == 0) write_totals(p, piece, shared, first_row, columns);
    else synchronise_group<kGroup>(1);
  });
}

}  // namespace cepe::latent_kernel
