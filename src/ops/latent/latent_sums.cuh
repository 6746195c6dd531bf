// The adding warpgroups (P V) of the latent kernel, for bfloat16 and 8-bit states, and the partial that they write at
// the end of a work tile. Names: see latent_reader.cuh. Included by latent_kernel.cu only;
// docs/kernels/latent_attention.md has the derivation.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "ops/latent/latent_int8.cuh"
#include "ops/latent/latent_reader.cuh"

namespace cepe::latent_kernel {

// Writes a work tile's sums in their register layout (Parts). chunks: the thread's chunks of 64 values of the width.
template <class L>
__device__ __forceinline__ void write_sums(const Parts& parts, const Piece& piece, const Span& chunks,
                                           const float (&sums)[L::sum_tiles][L::values]) {
  constexpr int kGroups = L::rows / 8;
  auto* const to =
      reinterpret_cast<float4*>(parts.sums_of(piece.slot)) + chunks.first * kGroups * kGroup + threadIdx.x % kGroup;
#pragma unroll
  for (int chunk = 0; chunk < L::sum_tiles; ++chunk) {
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      const float* const of = sums[chunk] + 4 * i;
      if (chunk < chunks.count && i * 8 < piece.rows)
        to[(chunk * kGroups + i) * kGroup] = float4{of[0], of[1], of[2], of[3]};
    }
  }
}

// wgmma of a tile's weights and bfloat16 states from shared memory. A chunk past the CTA's last is its first chunk
// again, whose sums are not written: a branch would serialise the products.
template <class L>
__device__ __forceinline__ void add_chunks(const Shared<L>& shared, RingPlace<L::slots>& at, int chunks,
                                           uint64_t weights, bool first, float (&sums)[L::sum_tiles][L::values]) {
#pragma unroll
  for (int chunk = 0; chunk < L::chunks; ++chunk) {
    RingPlace<L::slots> place = at;
    place.skip(chunk < chunks ? chunk : 0);
    const int slot = __shfl_sync(~0u, place.slot, 0);  // which the compiler then keeps once for a warp
    const uint64_t states = operand(shared_address(shared.ring + slot * kSlotBytes));
    begin_products();
#pragma unroll
    for (int k = 0; k < kTile / 16; ++k)
      multiply<1>(sums[chunk], states + k * 128, weights + k * 2, !(first && k == 0));
    commit_products();
  }
  wait_products<0>();
  const int lane = threadIdx.x % 32;
  if (lane < chunks) {
    RingPlace<L::slots> place = at;
    place.skip(lane);
    arrive(shared.empty + place.slot);
  }
  at.skip(chunks);
}

// 8-bit states pass through registers. An adding group has sum_tiles chunks of 64 values, of which a warp takes 16
// bytes of every token; one ldmatrix loads them for 32 tokens.
template <class L>
class ByteTile {
 public:
  static constexpr int kChunks = L::sum_tiles, kLoads = kTile / 32 * kChunks;

  // first_chunk: the group's, of the block's.
  __device__ __forceinline__ explicit ByteTile(int first_chunk) : first_chunk_(first_chunk) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x % kGroup / 32;
#pragma unroll
    for (int half = 0; half < 2; ++half)
      of_lane_[half] = static_cast<uint32_t>(place_in_slot(lane, half * kChunk + warp * 16));
  }
  // Waits for the tile that begins at slot `at` of the ring.
  __device__ __forceinline__ void begin(const Shared<L>& shared, const RingPlace<L::slots>& at) {
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const int chunk = first_chunk_ + i;
      RingPlace<L::slots> place = at;
      place.skip(chunk / 2);
      wait(shared.full + place.slot, place.parity);
      from_[i] = shared_address(shared.ring + place.slot * kSlotBytes) + (chunk % 2 ? of_lane_[1] : of_lane_[0]);
    }
  }
  // The words of chunk `load % kChunks` and 32 tokens.
  __device__ __forceinline__ void load(int load, uint32_t (&words)[4]) const {
    load_tiles<true>(words, from_[load % kChunks] + load / kChunks * (32 * kSlotWidth8));
  }

 private:
  int first_chunk_;
  uint32_t of_lane_[2], from_[kChunks];
};

// Adds one tile. words: the tile's first load. more: another tile follows, whose first load is issued meanwhile.
template <class L>
__device__ __forceinline__ void add_bytes(const Shared<L>& shared, RingPlace<L::slots>& at, uint64_t weights,
                                          bool first, bool more, ByteTile<L>& tile, uint32_t (&words)[2][4],
                                          float (&sums)[L::sum_tiles][L::values]) {
  constexpr int kLoads = ByteTile<L>::kLoads;
  uint32_t values[2][2][4];  // of two loads in turn: while the products of one run, the next is prepared
#pragma unroll
  for (int load = 0; load < kLoads; ++load) {
    auto& a = values[load % 2];
    if (load + 1 < kLoads) tile.load(load + 1, words[(load + 1) % 2]);
    values_of(words[load % 2], a);
    begin_products();
    // Also for a chunk past the last, whose sums are not written: a branch would serialise the products.
    const int chunk = load % L::sum_tiles, tokens = load / L::sum_tiles * 2;  // in steps of 16
#pragma unroll
    for (int k = 0; k < 2; ++k)
      multiply_registers(sums[chunk], a[k], weights + (tokens + k) * 2, !(first && tokens + k == 0));
    commit_products();
    if (load + 1 < kLoads) wait_products<1>();
  }
  __syncwarp();
  const int lane = threadIdx.x % 32;
  if (lane < L::most_slots) {
    RingPlace<L::slots> place = at;
    place.skip(lane);
    arrive(shared.empty + place.slot);
  }
  at.skip(L::most_slots);
  if (more) tile.begin(shared, at), tile.load(0, words[0]);
  wait_products<0>();
}

// sums = sums * factors where a row's maximum was renewed.
template <class L>
__device__ __forceinline__ void renew_sums(const float* factors, float (&sums)[L::sum_tiles][L::values]) {
  const int lane = threadIdx.x % 32;
  constexpr int kAtOnce = L::rows < 32 ? L::rows : 32;
  bool grew = false;
#pragma unroll
  for (int row = 0; row < L::rows; row += kAtOnce) grew |= factors[row + lane % kAtOnce] != 1;
  if (!__any_sync(~0u, grew)) return;
  float factor[L::columns];
#pragma unroll
  for (int i = 0; i < L::columns; ++i) factor[i] = factors[i / 2 * 8 + 2 * (lane % 4) + i % 2];
#pragma unroll
  for (int chunk = 0; chunk < L::sum_tiles; ++chunk) {
#pragma unroll
    for (int i = 0; i < L::values; ++i) sums[chunk][i] *= factor[i / 4 * 2 + i % 2];
  }
}

// An adding warpgroup's work: sums (width x rows) = sums * factors + (width x 64 tokens) (64 tokens x rows) for each
// tile, over its own chunks. begin(): called at the beginning of a work tile; add(weights, first, more): a tile's
// products.
template <class L, class Begin, class Add>
__device__ __forceinline__ void add_pieces(const Maps& maps, const Problem& p, const Shared<L>& shared,
                                           const Span& chunks, float (&sums)[L::sum_tiles][L::values], Begin begin,
                                           Add add) {
  RingPlace<L::places> weights_at;
  for_each_piece(maps, p, [&](const Piece& piece) {
    begin();
    for (int i = 0; i < piece.tiles; ++i) {
      wait_cluster(shared.weights_there + weights_at.slot, weights_at.parity);
      if (L::split) publish_to_async();  // other blocks wrote some of the weights
      if (i > 0) renew_sums<L>(shared.factors + weights_at.slot * L::rows, sums);
      const int place = __shfl_sync(~0u, weights_at.slot, 0);  // which the compiler then keeps once for a warp
      add(operand(shared_address(shared.weights + place * L::weight_bytes)), i == 0, i + 1 < piece.tiles);
      if (threadIdx.x % 32 == 0) arrive(shared.weights_free + weights_at.slot);
      weights_at.advance();
    }
    cudaGridDependencySynchronize();  // earlier work may still read what this writes
    write_sums<L>(p.parts, piece, chunks, sums);
  });
}
// adder: which of the CTA's adding groups.
template <class L>
__device__ __forceinline__ void add_pieces(const Maps& maps, const Problem& p, const Shared<L>& shared, uint32_t rank,
                                           int adder) {
  RingPlace<L::slots> at;
  float sums[L::sum_tiles][L::values] = {};
  const int block_first = static_cast<int>(rank) * L::chunks, first = adder * L::sum_tiles;
  if constexpr (L::eight_bits) {
    const int left = static_cast<int>(p.parts.width) / kChunk - block_first - first;
    ByteTile<L> tile(first);
    uint32_t words[2][4];
    add_pieces(
        maps, p, shared, Span{block_first + first, left}, sums, [&] { tile.begin(shared, at), tile.load(0, words[0]); },
        [&](uint64_t weights, bool first_tile, bool more) {
          add_bytes(shared, at, weights, first_tile, more, tile, words, sums);
        });
  } else {
    const Span span = span_of<L>(p, static_cast<int>(rank));
    add_pieces(
        maps, p, shared, span, sums, [] {},
        [&](uint64_t weights, bool first_tile, bool) {
          add_chunks(shared, at, span.count, weights, first_tile, sums);
        });
  }
}

}  // namespace cepe::latent_kernel
