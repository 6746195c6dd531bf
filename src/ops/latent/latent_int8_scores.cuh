// The scoring and the weighing warpgroup of the latent kernel for 8-bit states, and the warps that prepare the tokens'
// scales. Scores are products with the query as rows, from registers, and the tokens as columns, so that shared memory
// is read for the states alone. Names: see latent_reader.cuh. Included by latent_kernel.cu only;
// docs/kernels/latent_int8.md has the derivation.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#include "ops/latent/latent_int8.cuh"
#include "ops/latent/latent_reader.cuh"

namespace cepe::latent_kernel {

// Weights are relative to 2^-7 times the highest: float16 is narrow, and its upper range is free.
constexpr float kHeadroom = 7;

// ---- Scoring

// A warp has eight rows of the query: their coarse bytes are rows 0 to 7 of the products, their fine bytes rows 8
// to 15. The first warps have the CTA's own rows, the others those of the other CTA.
template <class L>
struct ByteRows {
  static constexpr int kWarps = L::own_rows / 8;  // of a block's rows; there may be warps that have none
  int block, first;                               // of block rank ^ block, from this one of its rows on
  __device__ __forceinline__ ByteRows() : block(warp_here() / kWarps), first(warp_here() % kWarps * 8) {}
  __device__ __forceinline__ bool some() const { return block < L::blocks; }
};

// A thread's row over the CTA's share of the width, as operand A (prepare_queries()).
template <class L>
struct ByteQuery {
  static constexpr int kSteps = L::chunks * kChunk / 32;
  uint32_t of[kSteps][4];

  __device__ __forceinline__ void load(const Problem& p, const Piece& piece, const ByteRows<L>& rows, uint32_t rank) {
    const int lane = lane_here(), width = static_cast<int>(p.parts.width);
    const int row = (static_cast<int>(rank) ^ rows.block) * L::own_rows + rows.first + lane / 4;
    const auto* const from = reinterpret_cast<const uint4*>(p.queries + (piece.row + row) * 2 * width) + lane % 4;
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const int step = static_cast<int>(rank) * kSteps + i;
      const bool there = rows.some() && row < piece.rows && step * 32 < width;
      const uint4 four = there ? __ldcg(from + step * 4) : uint4{0, 0, 0, 0};
      of[i][0] = four.x, of[i][1] = four.y, of[i][2] = four.z, of[i][3] = four.w;
    }
  }
};

// Issues a tile's products: exact sums over the CTA's width, of the coarse bytes and of the fine bytes.
template <class L>
__device__ __forceinline__ void begin_byte_scores(const Shared<L>& shared, RingPlace<L::slots>& at,
                                                  const ByteQuery<L>& query, int (&sums)[32]) {
  constexpr int kSteps = kSlotWidth8 / 32;  // of a slot
#pragma unroll
  for (int i = 0; i < L::most_slots; ++i) {
    wait(shared.full + at.slot, at.parity);
    begin_products();
    const int slot = __shfl_sync(~0u, at.slot, 0);  // which the compiler then keeps once for a warp
    const uint64_t states = operand(shared_address(shared.ring + slot * kSlotBytes));
#pragma unroll
    for (int k = 0; k < kSteps; ++k) multiply_bytes(sums, query.of[i * kSteps + k], states + k * 2, i + k > 0);
    at.advance();
  }
  commit_products();
}

// Waits for the products, joins both sums, and sends each CTA its rows. A thread has one row: of every eight tokens
// columns 2t and 2t + 1, t = lane % 4, four vectors of 16 bytes. The stage is free once this CTA's adding groups have
// read the weights of the tile `places` earlier, as send_scores() explains.
template <class L>
__device__ __forceinline__ void send_byte_scores(const Shared<L>& shared, RingPlace<L::places>& at,
                                                 const ByteRows<L>& rows, uint32_t rank, int (&sums)[32]) {
  wait_products<0>();
#pragma unroll
  for (int i = 0; i < 32; ++i) asm volatile("" : "+r"(sums[i])::"memory");  // not read before
  wait(shared.weights_free + at.slot, at.parity ^ 1);
  uint64_t* const there = shared.part_there + at.slot;
  const char* const part =
      shared.parts + at.slot * L::part_bytes + rows.block * L::sent_bytes + (rows.first * 4 + lane_here()) * 16;
  const bool own = rows.block == 0;
  const uint32_t to = own ? shared_address(part) : address_in_block(part, rank ^ 1);
  const uint32_t barrier = address_in_block(there, rank ^ 1);
  const auto joined = [&](int i) {
    return static_cast<uint32_t>(sums[i]) * kFineSteps + static_cast<uint32_t>(sums[i + 2]);
  };
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t four[4] = {joined(8 * i), joined(8 * i + 1), joined(8 * i + 4), joined(8 * i + 5)};
    if (own)
      write_16(to + i * L::own_rows * 64, four);
    else if (L::split && rows.some())
      send_16(to + i * L::own_rows * 64, four, barrier);
  }
  __syncwarp();
  if (threadIdx.x == 0 && L::split)
    arrive_expecting(there, L::sent_bytes);
  else if (lane_here() == 0)
    arrive(there);
  at.advance();
}

template <class L>
__device__ __forceinline__ void score_byte_pieces(const Maps& maps, const Problem& p, const Shared<L>& shared,
                                                  uint32_t rank) {
  const ByteRows<L> rows;
  RingPlace<L::slots> at;
  RingPlace<L::places> sent_at;
  ByteQuery<L> query;
  for_each_piece(maps, p, [&](const Piece& piece) {
    query.load(p, piece, rows, rank);
    for (int i = 0; i < piece.tiles; ++i) {
      int sums[32];
      begin_byte_scores(shared, at, query, sums);
      send_byte_scores(shared, sent_at, rows, rank, sums);
    }
  });
}

// ---- The tokens' scales

__device__ __forceinline__ float logarithm(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Two warps: write the scale of each token of a tile, its logarithm and its inverse. A masked token has scale 0, whose
// logarithm is -inf.
template <class L>
__device__ __forceinline__ void describe_tokens(const Maps& maps, const Problem& p, const Shared<L>& shared,
                                                int thread) {
  constexpr float kLeast = 1.17549435e-38f;  // a normal number, so that it has a logarithm
  RingPlace<L::places> at;
  for_each_piece(maps, p, [&](const Piece& piece) {
    const auto scale_of = [&](int tile) {
      const int token = (piece.first + tile) * kTile + thread;
      return token < piece.tokens && (!piece.mask || piece.mask[token]) ? piece.scales[token] : 0;
    };
    float next = scale_of(0);
    for (int i = 0; i < piece.tiles; ++i) {
      float scale = next;
      if (i + 1 < piece.tiles) next = scale_of(i + 1);
      if (scale > 0 && scale < kLeast) scale = kLeast;
      wait(shared.weights_there + at.slot, at.parity ^ 1);  // then the scales of the earlier tile are no longer read
      float* const to = shared.tokens + at.slot * 3 * kTile + thread;
      const float log = logarithm(scale);
      to[0] = scale, to[kTile] = log, to[2 * kTile] = power_of_two(fminf(-log, 126));
      __syncwarp();
      if (thread % 32 == 0) arrive(shared.tokens_there + at.slot);
      at.advance();
    }
  });
}

// ---- Weighing

// A thread has one of the CTA's own rows, and kVectors of the vectors that send_byte_scores() wrote for that row in a
// tile: kLanes threads of one warp share a row.
template <class L>
struct ByteRow {
  static constexpr int kRows = L::own_rows / 4;  // of a warp
  static constexpr int kLanes = 32 / kRows, kVectors = L::own_rows / 8;
  int row, t, first;  // t: as in send_byte_scores(); the first of its vectors

  __device__ __forceinline__ ByteRow()
      : row(warp_here() * kRows + lane_here() / 4 % kRows),
        t(lane_here() % 4),
        first(lane_here() / 4 / kRows * kVectors) {}
  // Whether this thread writes for the row.
  __device__ __forceinline__ bool leads() const { return t == 0 && first == 0; }
  // Of values of all of a row's threads.
  template <class Join>
  static __device__ __forceinline__ float joined(float x, Join join) {
    x = join(x, __shfl_xor_sync(~0u, x, 1));
    x = join(x, __shfl_xor_sync(~0u, x, 2));
#pragma unroll
    for (int lanes = 4 * kRows; lanes < 32; lanes *= 2) x = join(x, __shfl_xor_sync(~0u, x, lanes));
    return x;
  }
};

// The running softmax of a thread's row.
template <class L>
struct ByteSoftmax {
  float scale = 0;      // of a score in powers of two, but for its token's
  uint32_t offset = 0;  // what the bytes' offset of 128 adds to a sum
  float shift = 0;      // the highest score so far, less the headroom; 0 where there is none yet
  float limit = 0;      // from this score on, less the shift, both are renewed
  float total = 0;      // of this thread's tokens

  __device__ __forceinline__ void begin(const Problem& p, const Piece& piece, int row) {
    const QueryScale query = row < piece.rows ? p.query_scales[piece.row + row] : QueryScale{0, 0};
    scale = fabsf(query.scale) < INFINITY ? query.scale * p.scale : 0;  // write_byte_totals() sees to the others
    offset = query.offset;
    shift = 0, limit = -INFINITY, total = 0;
  }
  __device__ __forceinline__ float highest() const { return limit == -INFINITY ? -INFINITY : shift; }

  // Lazy rescaling: takes a new shift where the row's maximum grew by more than the limit. Returns the factor that
  // rescales the sums of the old shift.
  template <int kCount>
  __device__ __forceinline__ float renew(float (&score)[kCount]) {
    float grown = score[0];
#pragma unroll
    for (int i = 1; i < kCount; ++i) grown = fmaxf(grown, score[i]);
    grown = ByteRow<L>::joined(grown, [](float a, float b) { return fmaxf(a, b); });
    const float before = highest(), old_shift = shift;
    float now = fmaxf(before, grown + old_shift - kHeadroom);
    if (!(now - before > kLazy)) now = before;
    shift = now == -INFINITY ? 0 : now;
    limit = now == -INFINITY ? -INFINITY : kHeadroom + kLazy;
    const float factor = exp2f(before - shift);
    total *= factor;
#pragma unroll
    for (int i = 0; i < kCount; ++i) score[i] += old_shift - shift;
    return factor;
  }
};

// Four threads share a row. Before: thread t has tokens 2t and 2t + 1 of each of four groups of eight, a word a group.
// After: thread t has the eight weights of group t.
__device__ __forceinline__ void transpose_words(uint32_t (&word)[4]) {
  const bool odd = lane_here() & 1, late = lane_here() & 2;
  const uint32_t near[2] = {late ? word[2] : word[0], late ? word[3] : word[1]};  // of groups late, late + 1: own,
  uint32_t far[2] = {late ? word[0] : word[2], late ? word[1] : word[3]};         // and the word two places off
  far[0] = __shfl_xor_sync(~0u, far[0], 2), far[1] = __shfl_xor_sync(~0u, far[1], 2);
  const uint32_t keep[2] = {odd ? near[1] : near[0], odd ? far[1] : far[0]};
  const uint32_t came[2] = {__shfl_xor_sync(~0u, odd ? near[0] : near[1], 1),
                            __shfl_xor_sync(~0u, odd ? far[0] : far[1], 1)};
  const uint32_t a[2] = {odd ? came[0] : keep[0], odd ? keep[0] : came[0]},
                 b[2] = {odd ? came[1] : keep[1], odd ? keep[1] : came[1]};
  word[0] = late ? b[0] : a[0], word[1] = late ? b[1] : a[1], word[2] = late ? a[0] : b[0],
  word[3] = late ? a[1] : b[1];
}
// The same for two groups: two threads share a group, the even one has its first four weights.
__device__ __forceinline__ void transpose_words(uint32_t (&word)[2]) {
  const bool odd = lane_here() & 1, late = lane_here() & 2;
  const uint32_t near = late ? word[1] : word[0], far = __shfl_xor_sync(~0u, late ? word[0] : word[1], 2);
  const uint32_t first = late ? far : near, second = late ? near : far;  // words t & 1 and 2 | (t & 1)
  const uint32_t came = __shfl_xor_sync(~0u, odd ? first : second, 1);
  word[0] = odd ? came : first, word[1] = odd ? second : came;
}

// Writes a tile's weights in float16 for the adding groups of all CTAs. send_byte_scores() explains why the stage is
// free.
template <class L, int kCount>
__device__ __forceinline__ void write_byte_weights(const Shared<L>& shared, RingPlace<L::places>& at,
                                                   const ByteRow<L>& row, uint32_t rank, const float (&weight)[kCount],
                                                   float factor) {
  const int first_row = static_cast<int>(rank) * L::own_rows;
  uint64_t* const there = shared.weights_there + at.slot;
  const uint32_t other = L::split ? address_in_block(there, rank ^ 1) : 0;
  const char* const to = shared.weights + at.slot * L::weight_bytes + (first_row + row.row) * kRowBytes;
  constexpr int kWords = kCount / 2 >= 4 ? 4 : 2;
#pragma unroll
  for (int begin = 0; begin < kCount / 2; begin += kWords) {
    uint32_t word[kWords];
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      const __half2 pair = __floats2half2_rn(weight[2 * (begin + i)], weight[2 * (begin + i) + 1]);
      memcpy(&word[i], &pair, 4);
    }
    transpose_words(word);
    const int group = 2 * row.first + begin + (kWords == 4 ? row.t : row.t / 2);  // of eight tokens
    const char* const place = to + (group * 16 ^ row.row % 8 * 16) + (kWords == 4 ? 0 : row.t % 2 * 8);
    if constexpr (kWords == 4) {
      write_16(shared_address(place), word);
      if (L::split) send_16(address_in_block(place, rank ^ 1), word, other);
    } else {
      write_8(shared_address(place), word);
      if (L::split) send_8(address_in_block(place, rank ^ 1), word, other);
    }
  }
  if (row.leads()) {
    float* const factors = shared.factors + at.slot * L::rows + first_row + row.row;
    *factors = factor;
    if (L::split) send_4(address_in_block(factors, rank ^ 1), __float_as_uint(factor), other);
  }
  publish_to_async();
  __syncwarp();
  if (threadIdx.x % kGroup == 0 && L::split)
    arrive_expecting(there, L::own_rows * (kTile * 2 + 4));  // bytes that come from the other block
  else if (lane_here() == 0)
    arrive(there);
  at.advance();
}

// A thread's scores of a tile, in the order of its vectors: the sum over all CTAs, less the shift.
template <class L, int kCount>
__device__ __forceinline__ void byte_scores(const Shared<L>& shared, int slot, const ByteRow<L>& row,
                                            const ByteSoftmax<L>& softmax, float (&score)[kCount],
                                            float (&inverse)[kCount]) {
  const auto* const parts = reinterpret_cast<const uint4*>(shared.parts + slot * L::part_bytes) + row.row * 4 + row.t;
  const auto* const tokens = reinterpret_cast<const float2*>(shared.tokens + slot * 3 * kTile) + row.t;
#pragma unroll
  for (int i = 0; i < kCount / 4; ++i) {
    const int vector = row.first + i;
    uint4 sum = parts[vector * L::own_rows * 4];
    if constexpr (L::split) {
      const uint4 other = parts[L::sent_bytes / 16 + vector * L::own_rows * 4];
      sum.x += other.x, sum.y += other.y, sum.z += other.z, sum.w += other.w;
    }
    const uint32_t sums[4] = {sum.x, sum.y, sum.z, sum.w};
#pragma unroll
    for (int half = 0; half < 2; ++half) {  // eight tokens each
      const float2* const two = tokens + vector * 8 + half * 4;
      const float2 scale = two[0], log = two[kTile / 2], over = two[kTile];
      const float scales[2] = {scale.x, scale.y}, logs[2] = {log.x, log.y}, inverses[2] = {over.x, over.y};
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int at = 4 * i + 2 * half + j;
        const float number = static_cast<float>(static_cast<int>(sums[2 * half + j] - softmax.offset));
        score[at] = fmaf(number, softmax.scale * scales[j], logs[j] - softmax.shift);
        inverse[at] = inverses[j];
      }
    }
  }
}

// Writes the statistics of a work tile's partial, for the CTA's own rows.
template <class L>
__device__ __forceinline__ void write_byte_totals(const Problem& p, const Piece& piece, const ByteRow<L>& row,
                                                  int first_row, const ByteSoftmax<L>& softmax) {
  const float total = ByteRow<L>::joined(softmax.total, [](float a, float b) { return a + b; });
  if (!row.leads()) return;
  const int number = first_row + row.row;
  const bool broken =  // the query has a NaN or infinity
      total > 0 && number < piece.rows && !(fabsf(p.query_scales[piece.row + number].scale) < INFINITY);
  p.parts.highest_of(piece.slot)[number] = softmax.highest();
  p.parts.total_of(piece.slot)[number] = broken ? NAN : total;
}

template <class L>
__device__ __forceinline__ void weigh_byte_pieces(const Maps& maps, const Problem& p, const Shared<L>& shared,
                                                  uint32_t rank) {
  constexpr int kCount = 4 * ByteRow<L>::kVectors;
  const int first_row = static_cast<int>(rank) * L::own_rows;
  const ByteRow<L> row;
  RingPlace<L::places> at;
  ByteSoftmax<L> softmax;
  for_each_piece(maps, p, [&](const Piece& piece) {
    softmax.begin(p, piece, first_row + row.row);
    for (int i = 0; i < piece.tiles; ++i) {
      wait(shared.tokens_there + at.slot, at.parity);
      wait_cluster(shared.part_there + at.slot, at.parity);
      float score[kCount], inverse[kCount], factor = 1;
      byte_scores(shared, at.slot, row, softmax, score, inverse);
      bool grew = false;
#pragma unroll
      for (int j = 0; j < kCount; ++j) grew |= score[j] > softmax.limit;
      if (__any_sync(~0u, grew)) factor = softmax.renew(score);
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        score[j] = power_of_two(score[j]);
        softmax.total += score[j] * inverse[j];
      }
      write_byte_weights(shared, at, row, rank, score, factor);
    }
    cudaGridDependencySynchronize();  // earlier work may still read what this writes
    write_byte_totals(p, piece, row, first_row, softmax);
  });
}

}  // namespace cepe::latent_kernel
