// The scoring warpgroup of the latent kernel where states are bfloat16: a tile's scores, and their exponentials for the
// group that adds. Included by latent_kernel.cu only; docs/kernels/latent_attention.md has the derivation.
#pragma once

#include <cmath>

#include "ops/latent_reader.cuh"

namespace cepe::latent_kernel {

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

// The two blocks of a reader send each other their parts of a tile's scores and add them.
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

// A tile's scores in powers of two. real: whether the thread's two tokens are.
template <class L>
__device__ __forceinline__ void scale_scores(const Problem& p, const bool (&real)[2], float (&score)[L::values]) {
#pragma unroll
  for (int i = 0; i < L::values; ++i) score[i] = real[i % 4 / 2] ? score[i] * p.scale : -INFINITY;
}

// New highest scores where they grew by much; factor: what sums taken with the old ones are to be multiplied by.
template <class L>
__device__ __forceinline__ void renew_highest(const Shared<L>& shared, const float (&score)[L::values], Softmax<L>& softmax,
                                              float (&factor)[L::columns]) {
  share_highest<L, L::columns>(shared, score);
#pragma unroll
  for (int i = 0; i < L::columns; ++i) {
    const float* const column = shared.highest + row_of(i);
    float highest = softmax.highest[i];
#pragma unroll
    for (int w = 0; w < 4; ++w) highest = fmaxf(highest, column[w * L::rows]);
    if (!(highest - softmax.highest[i] > kLazy)) highest = softmax.highest[i];
    factor[i] = exp2f(softmax.highest[i] - (highest == -INFINITY ? 0 : highest));
    softmax.total[i] *= factor[i];
    softmax.highest[i] = highest;
  }
}

// Exponentials of a tile's scores, as bfloat16 weights for the adding group.
template <class L>
__device__ __forceinline__ void weigh_tile(const Shared<L>& shared, int tile, float (&score)[L::values], Softmax<L>& softmax) {
  const int warp = warp_here(), lane = lane_here(), place = tile & 1;
  static_assert(L::weight_places == 2);
  float factor[L::columns];
  bool grew = false;
#pragma unroll
  for (int i = 0; i < L::values; ++i) grew |= score[i] > softmax.highest[i / 4 * 2 + i % 2] + kLazy;
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
    softmax.total[column] += score[i];
  }
  wait(shared.weights_free + place, (tile >> 1 & 1) ^ 1);
  char* const weights = shared.weights + place * L::weight_bytes;
#pragma unroll
  for (int i = 0; i < L::values; ++i) {
    const int row = row_of(i / 4 * 2 + i % 2), token = warp * 16 + lane / 4 + i % 4 / 2 * 8;
    *reinterpret_cast<__nv_bfloat16*>(weights + row * kRowBytes + (token * 2 ^ row % 8 * 16)) = __nv_bfloat16(score[i]);
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

// One thread: the piece's query, this block's part of the width.
template <class L>
__device__ __forceinline__ void load_query(const Maps& maps, const Shared<L>& shared, const Piece& piece, int rank) {
  arrive_expecting(shared.query_there, L::query_bytes);
  copy_box(shared.query, maps.query, {0, piece.query_row, rank * L::chunks, piece.in_query}, shared.query_there);
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
    softmax.clear();
    wait(shared.query_there, query_parity);
    query_parity ^= 1;
    for (int i = 0; i < piece.tiles; ++i, ++tile) {
      bool real[2];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int token = (piece.first + i) * kTile + first_token + j * 8;
        real[j] = token < piece.tokens && (!piece.mask || piece.mask[token]);
      }
      float score[L::values];
      score_tile(shared, at, score);
      if (p.blocks == 2) {
        send_part(shared, rank ^ 1, tile, score);
        add_part(shared, tile, score);
      }
      scale_scores<L>(p, real, score);
      weigh_tile(shared, tile, score, softmax);
    }
    // Both blocks know them; the query's place is read no more.
    if (rank == 0) write_statistics(p.parts, piece, shared, softmax);
    else synchronise_group<kGroup>(1);
  });
}

}  // namespace cepe::latent_kernel
