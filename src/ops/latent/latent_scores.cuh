// The scoring (Q K^T) and the weighing (softmax) warpgroup of the latent kernel for bfloat16 states. The CTAs of a
// cluster share the width and divide the rows: each scoring group sends its partial scores of a row to the CTA that
// owns the row, each weighing group computes the weights of its CTA's rows and writes them to all CTAs. Names: see
// latent_reader.cuh. Included by latent_kernel.cu only;
// docs/kernels/latent_attention.md has the derivation.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#include "ops/latent/latent_reader.cuh"

namespace cepe::latent_kernel {

// The running softmax of a thread's columns: rows row_of(column) of the CTA's own.
template <class L>
struct Softmax {
  float highest[L::own_columns], total[L::own_columns];  // total: of this thread's tokens
  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < L::own_columns; ++i) highest[i] = -INFINITY, total[i] = 0;
  }
};

// One warp: loads the work tile's query, this CTA's share of the width, zeros where the CTA has fewer chunks than
// others. The rows of a chunk are in the order of their owners: this CTA's, then those of CTA rank ^ 1, and so on, so
// that the owner of a register's sum is known at compile time.
template <class L>
__device__ __forceinline__ void load_query(const Maps& maps, const Problem& p, const Shared<L>& shared,
                                           const Piece& piece, int rank) {
  const Span span = span_of<L>(p, rank);
  const int none = static_cast<int>(p.parts.width) / kChunk;  // past the end: zeros
  const int chunk = lane_here() / L::blocks, block = lane_here() % L::blocks ^ rank;
  static_assert(L::chunks * L::blocks <= 32);
  if (lane_here() == 0) arrive_expecting(shared.query_there, L::query_bytes);
  __syncwarp();
  if (chunk < L::chunks) {
    copy_box(shared.query + lane_here() * L::own_rows * kRowBytes, maps.query,
             {0, piece.query_row + block * L::own_rows, chunk < span.count ? span.first + chunk : none, piece.in_query},
             shared.query_there);
  }
  __syncwarp();
}

// Issues a tile's wgmma over this CTA's width: (64 tokens x width) (width x rows). A chunk past the CTA's last is its
// first chunk again, times zeros: a branch would serialise the products.
template <class L>
__device__ __forceinline__ void begin_scores(const Shared<L>& shared, RingPlace<L::slots>& at, int chunks,
                                             float (&score)[L::values]) {
#pragma unroll
  for (int i = 0; i < L::chunks; ++i) {
    RingPlace<L::slots> place = at;
    place.skip(i < chunks ? i : 0);
    wait(shared.full + place.slot, place.parity);
    begin_products();
    const int slot = __shfl_sync(~0u, place.slot, 0);  // uniform: kept in one register a warp
    const uint64_t states = operand(shared_address(shared.ring + slot * kSlotBytes));
    const uint64_t query = operand(shared_address(shared.query + i * L::query_chunk_bytes));
#pragma unroll
    for (int k = 0; k < kChunk / 16; ++k) multiply<0>(score, states + k * 2, query + k * 2, i + k > 0);
  }
  commit_products();
  at.skip(chunks);
}

// Waits for a tile's products, then sends each CTA of the cluster its rows of the scores. The pipeline stage is free
// when this CTA's adding group has read the weights of the tile `places` earlier: every CTA sent a share of those
// weights, so every CTA has read the scores that were in this stage. For the same reason a CTA that holds the scores of
// a tile from all CTAs knows that all CTAs have read those earlier weights.
template <class L>
__device__ __forceinline__ void send_scores(const Shared<L>& shared, RingPlace<L::places>& at, uint32_t rank,
                                            float (&score)[L::values]) {
  wait_products<0>();
#pragma unroll
  for (int i = 0; i < L::values; ++i) asm volatile("" : "+f"(score[i])::"memory");  // not read before
  wait(shared.weights_free + at.slot, at.parity ^ 1);
  char* const parts = shared.parts + at.slot * L::part_bytes + threadIdx.x * 16;
  uint64_t* const there = shared.part_there + at.slot;
#pragma unroll
  for (int block = 0; block < L::blocks; ++block) {
    const uint32_t to =
        block == 0 ? shared_address(parts) : address_in_block(parts + block * L::sent_bytes, rank ^ block);
    const uint32_t barrier = block == 0 ? 0 : address_in_block(there, rank ^ block);
#pragma unroll
    for (int i = 0; i < L::own_values / 4; ++i) {
      const float* const from = score + block * L::own_values + 4 * i;
      const float four[4] = {from[0], from[1], from[2], from[3]};
      if (block == 0)
        write_16(to + i * kGroup * 16, four);
      else
        send_16(to + i * kGroup * 16, four, barrier);
    }
  }
  __syncwarp();
  if (threadIdx.x == 0 && L::split)
    arrive_expecting(there, L::part_bytes - L::sent_bytes);
  else if (lane_here() == 0)
    arrive(there);
  at.advance();
}

// The scores of the CTA's own rows in a tile, in powers of two: the sum over all CTAs.
template <class L>
__device__ __forceinline__ void add_parts(const Shared<L>& shared, RingPlace<L::places>& at, float scale,
                                          float (&score)[L::own_values]) {
  const auto* const parts =
      reinterpret_cast<const float4*>(shared.parts + at.slot * L::part_bytes) + threadIdx.x % kGroup;
  wait_cluster(shared.part_there + at.slot, at.parity);
  at.advance();
#pragma unroll
  for (int i = 0; i < L::own_values / 4; ++i) {
    float4 sum = parts[i * kGroup];
#pragma unroll
    for (int block = 1; block < L::blocks; ++block) {
      const float4 four = parts[block * (L::sent_bytes / 16) + i * kGroup];
      sum.x += four.x, sum.y += four.y, sum.z += four.z, sum.w += four.w;
    }
    score[4 * i] = sum.x * scale, score[4 * i + 1] = sum.y * scale, score[4 * i + 2] = sum.z * scale,
              score[4 * i + 3] = sum.w * scale;
  }
}

// Writes each warp's maximum of each column to shared memory, (4, rows), for the whole warpgroup.
template <class L>
__device__ __forceinline__ void share_highest(const Shared<L>& shared, const float (&score)[L::own_values]) {
#pragma unroll
  for (int i = 0; i < L::own_columns; ++i) {
    float highest = fmaxf(score[i / 2 * 4 + i % 2], score[i / 2 * 4 + i % 2 + 2]);
#pragma unroll
    for (int lanes = 4; lanes < 32; lanes *= 2) highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, lanes));
    if (lane_here() < 4) shared.highest[warp_here() * L::rows + row_of(i)] = highest;
  }
  synchronise_group<kGroup>(1);
}

// Lazy rescaling: takes new maxima where they grew by more than kLazy. factor: rescales the sums of the old maxima.
template <class L>
__device__ __forceinline__ void renew_highest(const Shared<L>& shared, const float (&score)[L::own_values],
                                              Softmax<L>& softmax, float (&factor)[L::own_columns]) {
  share_highest(shared, score);
#pragma unroll
  for (int i = 0; i < L::own_columns; ++i) {
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

__device__ __forceinline__ uint32_t two_bfloat16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  uint32_t word;
  memcpy(&word, &pair, 4);
  return word;
}
// A thread has tokens q = lane / 4 and q + 8 of its warp's 16 for rows 2 (lane % 4) and the next: x[row][token].
// Threads exchange them by shuffle, so that each ends with four consecutive tokens of one row: one 8-byte store.
struct FourWeights {
  uint32_t word[2];
};
__device__ __forceinline__ FourWeights four_in_a_row(const float (&x)[2][2]) {
  const int q = lane_here() / 4;
  const bool odd = q & 1, late = q & 2;
  const uint32_t rows[2] = {two_bfloat16(x[0][0], x[0][1]), two_bfloat16(x[1][0], x[1][1])};
  const uint32_t mine = odd ? rows[1] : rows[0], others = __shfl_xor_sync(~0u, odd ? rows[0] : rows[1], 4);
  const uint32_t left = odd ? others : mine, right = odd ? mine : others;
  const uint32_t pairs[2] = {__byte_perm(left, right, 0x5410),
                             __byte_perm(left, right, 0x7632)};  // tokens q & 6, and 8 on
  const uint32_t keep = late ? pairs[1] : pairs[0], came = __shfl_xor_sync(~0u, late ? pairs[0] : pairs[1], 8);
  return {{late ? came : keep, late ? keep : came}};
}

// The addresses, in each CTA of the cluster, to which a thread stores the result of four_in_a_row() for its first two
// columns.
template <class L>
struct WeightPlaces {
  uint32_t in[L::blocks];  // in the shared memory of block rank ^ i
  __device__ __forceinline__ WeightPlaces(const Shared<L>& shared, uint32_t rank) {
    const int lane = lane_here(), q = lane / 4, row = 2 * (lane % 4) + q % 2;
    const int token = warp_here() * 16 + (q & 4) + (q & 2) * 4, first = static_cast<int>(rank) * L::own_rows;
    const char* const at = shared.weights + (first + row) * kRowBytes + (token * 2 ^ row * 16);
    in[0] = shared_address(at);
#pragma unroll
    for (int i = 1; i < L::blocks; ++i) in[i] = address_in_block(at, rank ^ i);
  }
};

// Writes a tile's weights in bfloat16 for the adding groups of all CTAs. send_scores() explains why the stage is free.
template <class L>
__device__ __forceinline__ void write_weights(const Shared<L>& shared, const WeightPlaces<L>& places,
                                              RingPlace<L::places>& at, uint32_t rank,
                                              const float (&weight)[L::own_values],
                                              const float (&factor)[L::own_columns]) {
  const int first_row = static_cast<int>(rank) * L::own_rows;
  uint64_t* const there = shared.weights_there + at.slot;
  uint32_t barriers[L::blocks];
#pragma unroll
  for (int i = 1; i < L::blocks; ++i) barriers[i] = address_in_block(there, rank ^ i);
#pragma unroll
  for (int i = 0; i < L::own_columns / 2; ++i) {
    const float two_rows[2][2] = {{weight[4 * i], weight[4 * i + 2]}, {weight[4 * i + 1], weight[4 * i + 3]}};
    const FourWeights four = four_in_a_row(two_rows);
    const uint32_t skipped = at.slot * L::weight_bytes + i * 8 * kRowBytes;
    write_8(places.in[0] + skipped, four.word);
#pragma unroll
    for (int block = 1; block < L::blocks; ++block) send_8(places.in[block] + skipped, four.word, barriers[block]);
  }
  if (threadIdx.x % kGroup < 4) {
#pragma unroll
    for (int i = 0; i < L::own_columns; i += 2) {
      float* const factors = shared.factors + at.slot * L::rows + first_row + row_of(i);
      const float two[2] = {factor[i], factor[i + 1]};
      factors[0] = two[0], factors[1] = two[1];
#pragma unroll
      for (int block = 1; block < L::blocks; ++block)
        send_8(address_in_block(factors, rank ^ block), two, barriers[block]);
    }
  }
  publish_to_async();
  __syncwarp();
  constexpr int kSent = (L::blocks - 1) * L::own_rows * (kTile * 2 + 4);  // bytes that come from the other blocks
  if (threadIdx.x % kGroup == 0 && kSent > 0)
    arrive_expecting(there, kSent);
  else if (lane_here() == 0)
    arrive(there);
  at.advance();
}

// Computes a tile's weights from its scores. real: whether each of the thread's two tokens is a real one.
template <class L>
__device__ __forceinline__ void weigh(const Shared<L>& shared, const WeightPlaces<L>& places, RingPlace<L::places>& at,
                                      uint32_t rank, const bool (&real)[2], float (&score)[L::own_values],
                                      Softmax<L>& softmax) {
  float factor[L::own_columns];
  bool grew = false;
#pragma unroll
  for (int i = 0; i < L::own_values; ++i) {
    if (!real[i % 4 / 2]) score[i] = -INFINITY;
    grew |= score[i] > softmax.highest[i / 4 * 2 + i % 2] + kLazy;
  }
#pragma unroll
  for (int i = 0; i < L::own_columns; ++i) factor[i] = 1;
  if (any_in_group<kGroup>(2, grew)) renew_highest(shared, score, softmax, factor);
#pragma unroll
  for (int i = 0; i < L::own_values; ++i) {
    const int column = i / 4 * 2 + i % 2;
    const float shift = softmax.highest[column] == -INFINITY ? 0 : softmax.highest[column];
    score[i] = power_of_two(score[i] - shift);
    softmax.total[column] += score[i];
  }
  write_weights(shared, places, at, rank, score, factor);
}

// Writes the statistics of a work tile's partial, for the CTA's own rows.
template <class L>
__device__ __forceinline__ void write_statistics(const Parts& parts, const Piece& piece, const Shared<L>& shared,
                                                 int first_row, const Softmax<L>& softmax) {
  float* const totals = shared.highest;  // (4, rows); the last tile's renewal is over for all once they meet here
  synchronise_group<kGroup>(1);
#pragma unroll
  for (int i = 0; i < L::own_columns; ++i) {
    float in_warp = softmax.total[i];
#pragma unroll
    for (int lanes = 4; lanes < 32; lanes *= 2) in_warp += __shfl_xor_sync(~0u, in_warp, lanes);
    if (lane_here() < 4) totals[warp_here() * L::rows + row_of(i)] = in_warp;
    if (threadIdx.x % kGroup < 4) parts.highest_of(piece.slot)[first_row + row_of(i)] = softmax.highest[i];
  }
  synchronise_group<kGroup>(1);
  const int row = static_cast<int>(threadIdx.x) % kGroup;
  if (row < L::own_rows) {
    const float sum = totals[row] + totals[L::rows + row] + totals[2 * L::rows + row] + totals[3 * L::rows + row];
    parts.total_of(piece.slot)[first_row + row] = sum;
  }
  synchronise_group<kGroup>(1);  // `highest` may be written again
}

// The scoring warpgroup. The load of the first work tile's query has been issued.
template <class L>
__device__ __forceinline__ void score_pieces(const Maps& maps, const Problem& p, const Shared<L>& shared,
                                             uint32_t rank) {
  const int chunks = span_of<L>(p, static_cast<int>(rank)).count;
  RingPlace<L::slots> at;
  RingPlace<L::places> sent_at;
  uint32_t query_parity = 0;
  bool first = true;
  for_each_piece(maps, p, [&](const Piece& piece) {
    if (!first) {
      synchronise_group<kGroup>(3);  // no warp reads the old query any more
      if (warp_here() == 0) load_query(maps, p, shared, piece, static_cast<int>(rank));
    }
    wait(shared.query_there, query_parity);
    if (first) wait_for_cluster();  // the other blocks' barriers are there
    first = false;
    query_parity ^= 1;
    for (int i = 0; i < piece.tiles; ++i) {
      float score[L::values];
      begin_scores(shared, at, chunks, score);
      send_scores(shared, sent_at, rank, score);
    }
  });
}

// The weighing warpgroup.
template <class L>
__device__ __forceinline__ void weigh_pieces(const Maps& maps, const Problem& p, const Shared<L>& shared,
                                             uint32_t rank) {
  const int first_row = static_cast<int>(rank) * L::own_rows;
  const int first_token = warp_here() * 16 + lane_here() / 4;  // of this thread's two in a tile
  const WeightPlaces<L> places(shared, rank);
  RingPlace<L::places> added_at;
  RingPlace<L::places> weights_at;
  Softmax<L> softmax;
  for_each_piece(maps, p, [&](const Piece& piece) {
    softmax.clear();
    for (int i = 0; i < piece.tiles; ++i) {
      bool real[2];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int token = (piece.first + i) * kTile + first_token + j * 8;
        real[j] = token < piece.tokens && (!piece.mask || piece.mask[token]);
      }
      float score[L::own_values];
      add_parts(shared, added_at, p.scale, score);
      weigh(shared, places, weights_at, rank, real, score, softmax);
    }
    cudaGridDependencySynchronize();  // earlier work may still read what this writes
    write_statistics(p.parts, piece, shared, first_row, softmax);
  });
}

}  // namespace cepe::latent_kernel
