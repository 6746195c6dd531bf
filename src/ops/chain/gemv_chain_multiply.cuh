// The consumer warps of a CTA of the GEMV chain: they load the rows of x into shared memory and multiply each pipeline
// stage of weights with them. Included by gemv_chain_kernel.cu only.
#pragma once

#include "ops/chain/gemv_chain_layout.cuh"

namespace cepe::gemv_chain_kernel {

__host__ __device__ inline int pitch_of(const Step& s) {
  return s.inputs + 8;
}  // 8 values of padding, so that rows of x begin at different banks

// One load of a row: the vector or words of x, and the weights of the norm.
template <typename X>
struct Asked {
  X x;
  Vector norm;
};
__device__ __forceinline__ int warps_of_row(int rows) { return rows <= 1 ? 8 : rows <= 2 ? 4 : rows <= 4 ? 2 : 1; }
// Walks through a lane's vectors of a row with kAhead loads in flight: load(at) issues a load, take(asked, at) consumes
// it.
template <typename Load, typename Take>
__device__ __forceinline__ void for_vectors(int vectors, int sharing, Load load, Take take) {
  constexpr int kAhead = 2;
  const int step = sharing * kWarp;
  for (int begin = threadIdx.x % step; begin < vectors; begin += step * kAhead) {
    decltype(load(0)) asked[kAhead];
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      if (begin + u * step < vectors) asked[u] = load(begin + u * step);
    }
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      if (begin + u * step < vectors) take(asked[u], begin + u * step);
    }
  }
}
// One warp spins on 32 words spread over x before the others load theirs: polling by all threads of all CTAs would take
// bandwidth from the weights.
__device__ __forceinline__ void wait_for_words(const Step& s, int place, uint32_t stamp) {
  const Word* const word = s.x_words + (place + threadIdx.x % kWarp * (s.inputs / kWarp / 2 * 2)) / 2;
  Word found;
  do asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(found) : "l"(word) : "memory");
  while (!has(found, stamp));
}
// All consumer warps load the rows of x for the heads of this CTA's tiles into shared memory; several warps share a row
// where rows are few. With a norm, x is multiplied by the norm's weights here; the remaining factor, one a column, is
// computed from the sums of squares.
__device__ __forceinline__ void stage_rows(const Step& s, const Share& share, int rows, const Shared& shared,
                                           float* squares) {
  const int columns = rows * s.group, staged = share.heads * columns, sharing = warps_of_row(staged),
            warp = threadIdx.x / kWarp;
  if (s.x_words != nullptr) wait(shared.stamped, 0);
  const uint32_t stamp = s.x_words != nullptr ? *shared.stamp : 0;
  if (s.x_words != nullptr) {
    if (warp == 0) wait_for_words(s, share.head * s.group * s.inputs, stamp);
    synchronise_group<kMultipliers>(1);
  }
  for (int row = warp / sharing; row < staged; row += kWarps / sharing) {
    const int in_head = staged == columns ? row : row % columns,
              head = share.head + (staged == columns ? 0 : row / columns);
    const int vector =
        s.group == 1 ? in_head * s.heads + head : (in_head / s.group * s.heads + head) * s.group + in_head % s.group;
    const int place = vector * s.inputs;
    bf16* const to = shared.x + row * pitch_of(s);
    float sum = 0;
    const auto norm_at = [&](int at) { return s.norm != nullptr ? load(s.norm + at * kVector) : Vector{}; };
    const auto put = [&](Vector v, const Vector& norm, int at) {
      if (s.norm != nullptr) {
        float f[kVector], weights[kVector];
        unpack(v, f);
        unpack(norm, weights);
#pragma unroll
        for (int k = 0; k < kVector; ++k) sum += f[k] * f[k], f[k] *= weights[k];
        v = pack(f);
      }
      store(to + at * kVector, v);
    };
    if (s.x_words != nullptr) {
      const Word* const words = s.x_words + place / 2;
      for_vectors(
          s.inputs / kVector, sharing, [&](int at) { return Asked<Words>{ask_for(words + at * 4), norm_at(at)}; },
          [&](const Asked<Words>& a, int at) { put(values_of(a.x, words + at * 4, stamp), a.norm, at); });
    } else {
      for_vectors(
          s.inputs / kVector, sharing,
          [&](int at) { return Asked<Vector>{load_fresh(s.x + place + at * kVector), norm_at(at)}; },
          [&](const Asked<Vector>& a, int at) { put(a.x, a.norm, at); });
    }
    if (s.norm == nullptr) continue;
    sum = warp_sum(sum);
    if (threadIdx.x % kWarp == 0) squares[in_head * kWarps + warp % sharing] = sum;
  }
}

// d (16 x 8) += a (16 x 16) b (16 x 8)
__device__ __forceinline__ void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// The shared-memory address from which a lane reads x for column `lane % 8`: eight inputs from 8 (lane / 8) on; zeros
// past the last column.
struct XRow {
  uint32_t address;
  uint32_t there;  // a mask: all bits set where the column exists, else 0

  __device__ __forceinline__ XRow(const Step& s, const Shared& shared, int head_here, int columns) {
    const int lane = threadIdx.x % kWarp, column = lane % 8;
    there = column < columns ? ~0u : 0u;
    address =
        shared_address(there ? shared.x + (head_here * columns + column) * pitch_of(s) + lane / 8 * 8 : shared.zeros);
  }
  __device__ __forceinline__ uint32_t at(int input) const {
    return address + (static_cast<uint32_t>(input * 2) & there);
  }
};

// Two accumulators of 16 outputs (rows) by 8 columns, used in turn, so that consecutive products are independent.
struct Sums {
  float of[2][4] = {};
};

// 16 outputs times one chunk of inputs: a warp's work on a stage.
__device__ __forceinline__ void multiply_chunk(uint32_t stage, int input, const XRow& x, Sums& sums) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const uint32_t rows = stage + lane / 8 % 2 * kBoxBytes + warp * (kBoxRows * kRowBytes) + lane % 8 * kRowBytes;
  uint32_t a[4][4], b[2][4];
#pragma unroll
  for (int k = 0; k < 4; ++k) load_tiles<false>(a[k], rows + ((2 * k + lane / 16 ^ lane % 8) << 4));
#pragma unroll
  for (int half = 0; half < 2; ++half) load_tiles<false>(b[half], x.at(input + half * 32));
#pragma unroll
  for (int k = 0; k < 4; ++k) multiply_add(sums.of[k % 2], a[k], b[k / 2][k % 2 * 2], b[k / 2][k % 2 * 2 + 1]);
}

// The same of a transposed matrix: outputs 16 (warp % 4) to + 15 of 64, and half of the inputs, in steps of 32.
__device__ __forceinline__ void multiply_transposed(uint32_t stage, int inputs, const XRow& x, Sums& sums) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
#pragma unroll 1
  for (int input = warp / 4 * 32; input < inputs; input += 64) {
    uint32_t a[2][4], b[4];
    load_tiles<false>(b, x.at(input));
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const int row = input + k * 16 + lane / 16 * 8 + lane % 8, part = warp % 4 * 2 + lane / 8 % 2;
      load_tiles<true>(a[k], stage + row * kRowBytes + ((part ^ row % 8) << 4));
    }
#pragma unroll
    for (int k = 0; k < 2; ++k) multiply_add(sums.of[k], a[k], b[2 * k], b[2 * k + 1]);
  }
}

// Passes this warp's sums of a tile to the epilogue warp.
__device__ __forceinline__ void hand_over(const Shared& shared, int done, const Sums& sums) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, place = done % 2;
  wait(shared.sums_free + place, (done / 2 & 1) ^ 1);
  const auto &a = sums.of[0], &b = sums.of[1];
  shared.sums[(place * kWarps + warp) * kWarp + lane] = make_float4(a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]);
  __syncwarp();
  if (lane == 0) arrive(shared.sums_there + place);
}

}  // namespace cepe::gemv_chain_kernel
