// The adding warpgroups of the latent kernel: sums of weighed states, bfloat16 or bytes, and what is left of them at
// the end of a piece. Included by latent_kernel.cu only; docs/kernels/latent_attention.md has the derivation.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "ops/latent_int8.cuh"
#include "ops/latent_reader.cuh"

namespace cepe::latent_kernel {

// The sums of a piece, as they lie in registers (Parts).
template <class L>
__device__ __forceinline__ void write_sums(const Parts& parts, const Piece& piece, const Span& span,
                                           const float (&sums)[L::sum_tiles][L::values]) {
  constexpr int kGroups = L::rows / 8;
  auto* const to =
      reinterpret_cast<float4*>(parts.sums_of(piece.slot)) + span.first * kGroups * kGroup + threadIdx.x % kGroup;
#pragma unroll
  for (int chunk = 0; chunk < L::chunks; ++chunk) {
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      const float* const of = sums[chunk] + 4 * i;
      if (chunk < span.count && i * 8 < piece.rows)
        to[(chunk * kGroups + i) * kGroup] = float4{of[0], of[1], of[2], of[3]};
    }
  }
}
// The same where states are in 8 bits, row by row.
template <class L>
__device__ __forceinline__ void write_byte_sums(const Parts& parts, const Piece& piece, int rank, int adder,
                                                const float (&sums)[L::sum_tiles][L::values]) {
  const int thread = threadIdx.x % kGroup, warp = thread / 32, lane = thread % 32;
  float* const to = parts.sums_of(piece.slot);
#pragma unroll
  for (int i_word = 0; i_word < L::own_words; ++i_word) {
    const int word = adder * L::own_words + i_word;
    if (word >= L::chunks / 2) break;
    const int64_t column = rank * L::chunks * kChunk + (warp * (L::chunks / 2) + word) * 32 + lane / 4 * 4;
#pragma unroll
    for (int i = 0; i < L::values; i += i % 4 == 0 ? 1 : 3) {
      const int row = i / 4 * 8 + 2 * (lane % 4) + i % 2;
      const float4 four{sums[2 * i_word][i], sums[2 * i_word][i + 2], sums[2 * i_word + 1][i],
                        sums[2 * i_word + 1][i + 2]};
      if (column < parts.width && row < piece.rows) *reinterpret_cast<float4*>(to + row * parts.width + column) = four;
    }
  }
}

// The products of a tile's weights and states, bfloat16 from shared memory. A chunk that is none is the tile's first
// again: its sums are not written, and a condition would make the products wait for each other.
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

// The same for bytes, which pass through registers. The 32 values of a group are a word of four to a lane, rows lane /
// 4 and lane / 4 + 8 of two products. A warp has chunks / 2 groups of its block's width, and an adder own_words of
// those of each warp.
template <class L>
struct AddedWords {
  static constexpr int kWords = L::chunks / 2, kOwn = L::own_words;
  int slot[kOwn], early_place[kOwn], late_place[kOwn];  // which slot of a tile, and where in it: see load_words()
  const char *early[kOwn], *late[kOwn];                 // the same of the present tile
  Words next[kOwn];

  __device__ __forceinline__ explicit AddedWords(int adder) {
    const int warp = threadIdx.x % kGroup / 32, lane = threadIdx.x % 32, x = lane % 4 + lane % 2 * 4;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      // A word that is none is the warp's first.
      const bool has = kWords % L::adders == 0 || adder * kOwn + i < kWords;
      const int group = warp * kWords + (has ? adder * kOwn + i : 0), column = group % 4 * 32 + lane / 4 * 4;
      slot[i] = group / 4;
      early_place[i] = place_in_slot(x, column), late_place[i] = place_in_slot(x ^ 4, column);
    }
  }
  // The tile's first words, once they are there.
  __device__ __forceinline__ void begin(const Shared<L>& shared, const RingPlace<L::slots>& at) {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      RingPlace<L::slots> place = at;
      place.skip(slot[i]);
      if (i == 0 || kWords % 4 != 0) wait(shared.full + place.slot, place.parity);  // otherwise all are in one slot
      early[i] = shared.ring + place.slot * kSlotBytes + early_place[i];
      late[i] = shared.ring + place.slot * kSlotBytes + late_place[i];
    }
#pragma unroll
    for (int i = 0; i < kOwn; ++i) load(i, 0);
  }
  __device__ __forceinline__ void load(int i, int first_token) { next[i] = load_words(early[i], late[i], first_token); }
};
// more: another tile follows, whose first words are loaded meanwhile.
template <class L>
__device__ __forceinline__ void add_bytes(const Shared<L>& shared, RingPlace<L::slots>& at, uint64_t weights,
                                          bool first, bool more, AddedWords<L>& words,
                                          float (&sums)[L::sum_tiles][L::values]) {
  const int lane = threadIdx.x % 32;
  uint32_t values[2][2][4];  // of a word, in turn: while the products of one run, the next is prepared
#pragma unroll
  for (int k = 0; k < kTile / 16; ++k) {
#pragma unroll
    for (int i = 0; i < L::own_words; ++i) {
      auto& a = values[(k * L::own_words + i) % 2];
      values_of(words.next[i], a);
      if (k + 1 < kTile / 16) words.load(i, (k + 1) * 16);
      begin_products();
      // Also of a word that is none: its sums are not written, and a condition would make the products wait for each
      // other.
      multiply_registers(sums[2 * i], a[0], weights + k * 2, !(first && k == 0));
      multiply_registers(sums[2 * i + 1], a[1], weights + k * 2, !(first && k == 0));
      commit_products();
      if (k + 1 < kTile / 16 || i + 1 < L::own_words) wait_products<1>();
    }
  }
  __syncwarp();
  if (lane < L::most_slots) {
    RingPlace<L::slots> place = at;
    place.skip(lane);
    arrive(shared.empty + place.slot);
  }
  at.skip(L::most_slots);
  if (more) words.begin(shared, at);
  wait_products<0>();
}

// sums = sums * factors, where a row's highest score grew by much.
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
// tile. Other blocks may write some of the weights.
template <class L>
__device__ __forceinline__ void add_pieces(const Maps& maps, const Problem& p, const Shared<L>& shared, uint32_t rank) {
  const Span span = span_of<L>(p, static_cast<int>(rank));
  RingPlace<L::slots> at;
  RingPlace<L::weight_places> weights_at;
  float sums[L::sum_tiles][L::values] = {};
  for_each_piece(maps, p, [&](const Piece& piece) {
    for (int i = 0; i < piece.tiles; ++i) {
      wait_cluster(shared.weights_there + weights_at.slot, weights_at.parity);
      if (L::split) publish_to_async();
      if (i > 0) renew_sums<L>(shared.factors + weights_at.slot * L::rows, sums);
      const int place = __shfl_sync(~0u, weights_at.slot, 0);
      const uint64_t weights = operand(shared_address(shared.weights + place * L::weight_bytes));
      add_chunks(shared, at, span.count, weights, i == 0, sums);
      if (threadIdx.x % 32 == 0) arrive(shared.weights_free + weights_at.slot);
      weights_at.advance();
    }
    cudaGridDependencySynchronize();  // earlier work may still read what this writes
    write_sums<L>(p.parts, piece, span, sums);
  });
}
// The same where states are in 8 bits.
template <class L>
__device__ __forceinline__ void add_byte_pieces(const Maps& maps, const Problem& p, const Shared<L>& shared,
                                                uint32_t rank, int adder) {
  const int lane = threadIdx.x % 32;
  RingPlace<L::slots> at;
  RingPlace<L::weight_places> weights_at;
  AddedWords<L> words(adder);
  float sums[L::sum_tiles][L::values] = {};
  for_each_piece(maps, p, [&](const Piece& piece) {
    words.begin(shared, at);
    for (int i = 0; i < piece.tiles; ++i) {
      wait_cluster(shared.weights_there + weights_at.slot, weights_at.parity);
      if (L::split) publish_to_async();
      if (i > 0) renew_sums<L>(shared.factors + weights_at.slot * L::rows, sums);
      const int place = __shfl_sync(~0u, weights_at.slot, 0);  // which the compiler then keeps once for a warp
      const uint64_t weights = operand(shared_address(shared.weights + place * L::weight_bytes));
      add_bytes(shared, at, weights, i == 0, i + 1 < piece.tiles, words, sums);
      if (lane < L::writers) arrive_in_block(address_in_block(shared.weights_free + weights_at.slot, rank ^ lane));
      weights_at.advance();
    }
    write_byte_sums<L>(p.parts, piece, static_cast<int>(rank), adder, sums);
  });
}

}  // namespace cepe::latent_kernel
