// Products of 5 to 16 rows (docs/kernels/skinny_gemm.md). A CTA multiplies tiles of 128 outputs by all rows with wgmma,
// the weights as its rows; a producer thread fills pipeline stages with weights and x by TMA. Stream-K: the steps of
// all tiles are cut into equal shares, one a CTA; the CTA that counts last on a tile's semaphore adds up its partials
// in a fixed order.
#include <cuda.h>

#include <algorithm>
#include <cstdint>

#include "ops/cuda/bf16_vector.cuh"
#include "ops/cuda/cache_policy.cuh"
#include "ops/cuda/equal_shares.h"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/tensor_map.cuh"
#include "ops/gemv/gemv_kernel.h"

namespace cepe::gemv_kernel {
namespace {

using namespace cuda;
using namespace hopper;

constexpr int kGroup = 128;  // threads of a warpgroup
constexpr int kGroups = 2;   // that multiply, 64 outputs each
constexpr int kMultipliers = kGroups * kGroup;
constexpr int kThreads = kMultipliers + kWarp;
constexpr int kGroupOutputs = 64, kTileOutputs = kGroups * kGroupOutputs;
constexpr int kBoxBytes = kGroupOutputs * kRowBytes;
constexpr int kLeastSteps = 4;  // of a share: fewer are not worth another part
// Of a block, at most. A multiprocessor has 228 KB: every instance takes more than half of that, or blocks of one
// launch would share a multiprocessor while another one had none.
constexpr int kSharedBytes = 130 * 1024, kHalf = 114 * 1024;

// Sizes for up to kRows rows.
template <int kRows>
struct Layout {
  static constexpr int x_bytes = kRows * kRowBytes;  // of 64 inputs
  static constexpr int stage_bytes = kGroups * kBoxBytes + x_bytes;
  static constexpr int pitch = kTileOutputs + 4;  // floats: rows of a tile's sums begin at different banks
  static constexpr int sums_bytes = kRows * pitch * 4;
  static constexpr int stages = (kSharedBytes - sums_bytes - 1024) / stage_bytes;
  static constexpr int bytes = stages * stage_bytes + sums_bytes + 2 * stages * 8 + 16;
};

struct Problem {
  // (64, outputs, chunks of inputs, heads), transposed (64, inputs, chunks of outputs, heads), boxes of 64 x 64; (64,
  // rows, chunks of inputs, heads), boxes of kRows x 64.
  CUtensorMap weight, x;
  const bf16 *bias, *residual;  // the latter aligned to 8 bytes
  bf16* out;
  float* parts;              // (blocks + tiles, kRows, 128)
  unsigned* semaphores;      // (tiles)
  int rows, heads, outputs;  // of `out`
  int steps;                 // of a tile: 64 inputs each
  int tiles_of_head;
  EqualShares shares;  // steps of a block
  bool gated;
};

struct Shared {
  char* ring;  // (stages): two boxes of weights, one of x
  float* sums;
  uint64_t *full, *empty;
  int* last;  // whether this block came last to its tile
};

// The steps of one tile that a block takes, and where the tile's outputs begin.
struct Span {
  int tile, first, end;
  int head, output;
};
// Calls work(span) for all of them.
template <class Work>
__device__ __forceinline__ void for_spans(const Problem& p, Work work) {
  int at = p.shares.begin(blockIdx.x);
  const int end = p.shares.begin(blockIdx.x + 1);
  while (at < end) {
    const int tile = at / p.steps, first = at - tile * p.steps, count = min(end - at, p.steps - first);
    const int head = tile / p.tiles_of_head;
    work(Span{tile, first, first + count, head,
              (tile - head * p.tiles_of_head) * (p.gated ? kGroupOutputs : kTileOutputs)});
    at += count;
  }
}

// One thread. Weights wait for nobody, x for the kernel before.
template <class L, bool kTransposed>
__device__ __forceinline__ void copy_stages(const Problem& p, const Shared& shared) {
  const uint64_t policy = read_once();
  const auto copy_weights = [&](const Span& span, int step, int slot) {
    arrive_expecting(shared.full + slot, L::stage_bytes);
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      const int output = span.output + group * (p.gated ? p.outputs : kGroupOutputs);
      const Box4 box =
          kTransposed ? Box4{0, step * kChunk, output / kChunk, span.head} : Box4{0, output, step, span.head};
      copy_box(shared.ring + slot * L::stage_bytes + group * kBoxBytes, p.weight, box, shared.full + slot, policy);
    }
  };
  const auto copy_x = [&](const Span& span, int step, int slot) {
    copy_box(shared.ring + slot * L::stage_bytes + kGroups * kBoxBytes, p.x, {0, 0, step, span.head},
             shared.full + slot);
  };
  int ahead = 0;
  for_spans(p, [&](const Span& span) {
    for (int step = span.first; step < span.end && ahead < L::stages; ++step) copy_weights(span, step, ahead++);
  });
  grid_dependency_sync();
  RingPlace<L::stages> at;
  int done = 0;
  for_spans(p, [&](const Span& span) {
#pragma unroll 1
    for (int step = span.first; step < span.end; ++step, ++done) {
      if (done >= ahead) {
        wait(shared.empty + at.slot, at.parity ^ 1);
        copy_weights(span, step, at.slot);
      }
      copy_x(span, step, at.slot);
      at.advance();
    }
  });
}

// Four outputs of a row that follow each other: what is added to them. Asked for before their sums are there.
struct Addends {
  bf16 bias[4], up_bias[4];
  uint2 residual;
  __device__ __forceinline__ Addends(const Problem& p, int output, int64_t place) : residual{} {
#pragma unroll
    for (int i = 0; i < 4; ++i) {  // which may lie anywhere
      bias[i] = p.bias != nullptr ? p.bias[output + i] : __float2bfloat16_rn(0);
      up_bias[i] = p.bias != nullptr && p.gated ? p.bias[p.outputs + output + i] : __float2bfloat16_rn(0);
    }
    if (p.residual != nullptr) residual = __ldcg(reinterpret_cast<const uint2*>(p.residual + place));
  }
  static __device__ __forceinline__ float4 sum(const float4& x, const bf16* y) {
    return {x.x + __bfloat162float(y[0]), x.y + __bfloat162float(y[1]), x.z + __bfloat162float(y[2]),
            x.w + __bfloat162float(y[3])};
  }
};
__device__ __forceinline__ float gated(float gate, float up) { return gate * sigmoid(gate) * up; }

// The multiplying threads: a tile's outputs from its sums, sum(row, output): four of them from there on.
template <class Sum>
__device__ __forceinline__ void finish_tile(const Problem& p, const Span& span, Sum sum) {
  const int fours = (p.gated ? kGroupOutputs : kTileOutputs) / 4;
#pragma unroll 1
  for (int i = threadIdx.x; i < p.rows * fours; i += kMultipliers) {
    const int row = i / fours, in_tile = i % fours * 4, output = span.output + in_tile;
    if (output >= p.outputs) continue;
    const int64_t place = (static_cast<int64_t>(row) * p.heads + span.head) * p.outputs + output;
    const Addends added(p, output, place);
    float4 x = Addends::sum(sum(row, in_tile), added.bias);
    if (p.gated) {
      const float4 up = Addends::sum(sum(row, kGroupOutputs + in_tile), added.up_bias);
      x = {gated(x.x, up.x), gated(x.y, up.y), gated(x.z, up.z), gated(x.w, up.w)};
    }
    x = Addends::sum(x, reinterpret_cast<const bf16*>(&added.residual));
    const __nv_bfloat162 pairs[2] = {__floats2bfloat162_rn(x.x, x.y), __floats2bfloat162_rn(x.z, x.w)};
    *reinterpret_cast<uint2*>(p.out + place) = *reinterpret_cast<const uint2*>(pairs);
  }
}

// Leaves this block's part of a tile, and where all others have, adds them up.
template <int kRows>
__device__ __forceinline__ void join_parts(const Problem& p, const Shared& shared, const Span& span) {
  constexpr int kPitch = Layout<kRows>::pitch, kPart = kRows * kTileOutputs;
  float* const own = p.parts + (static_cast<int64_t>(blockIdx.x) + span.tile) * kPart;
  for (int i = threadIdx.x; i < p.rows * (kTileOutputs / 4); i += kMultipliers) {
    const int row = i / (kTileOutputs / 4), output = i % (kTileOutputs / 4) * 4;
    __stcg(reinterpret_cast<float4*>(own) + i, *reinterpret_cast<const float4*>(shared.sums + row * kPitch + output));
  }
  synchronise_group<kMultipliers>(1);
  const int first = p.shares.taker_of(span.tile * p.steps),
            count = p.shares.taker_of((span.tile + 1) * p.steps - 1) - first + 1;
  if (threadIdx.x == 0) {
    __threadfence();  // what the others wrote before the barrier is there for whoever sees this arrival
    const bool last = atomicAdd(p.semaphores + span.tile, 1) + 1 == static_cast<unsigned>(count);
    __threadfence();
    if (last) p.semaphores[span.tile] = 0;  // for the next launch
    *shared.last = last;
  }
  synchronise_group<kMultipliers>(1);
  if (!*shared.last) return;
  const float* const parts = p.parts + (static_cast<int64_t>(first) + span.tile) * kPart;
  finish_tile(p, span, [&](int row, int output) {
    constexpr int kAtOnce = 6;
    const auto* const of = reinterpret_cast<const float4*>(parts + row * kTileOutputs + output);
    float4 sum{0, 0, 0, 0};
    for (int begin = 0; begin < count; begin += kAtOnce) {
      float4 x[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i)
        x[i] = begin + i < count ? __ldcg(of + (begin + i) * (kPart / 4)) : float4{0, 0, 0, 0};
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) sum.x += x[i].x, sum.y += x[i].y, sum.z += x[i].z, sum.w += x[i].w;
    }
    return sum;
  });
}

template <int kRows, bool kTransposed>
__device__ __forceinline__ void multiply_spans(const Problem& p, const Shared& shared) {
  using L = Layout<kRows>;
  const int group = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / kGroup, 0), lane = threadIdx.x % kWarp;
  RingPlace<L::stages> at, multiplied;
  for_spans(p, [&](const Span& span) {
    float sums[kRows / 2];
#pragma unroll 1
    for (int step = span.first; step < span.end; ++step) {
      wait(shared.full + at.slot, at.parity);
      const int slot = __shfl_sync(~0u, at.slot, 0);
      const uint32_t stage = shared_address(shared.ring + slot * L::stage_bytes);
      const uint64_t weights = operand(stage + group * kBoxBytes), x = operand(stage + kGroups * kBoxBytes);
      begin_products();
#pragma unroll
      for (int k = 0; k < kChunk / 16; ++k)
        multiply<kTransposed>(sums, weights + k * (kTransposed ? 128 : 2), x + k * 2, step > span.first || k > 0);
      commit_products();
      if (step > span.first) {
        wait_products<1>();
        if (lane == 0) arrive(shared.empty + multiplied.slot);
        multiplied.advance();
      }
      at.advance();
    }
    wait_products<0>();
    if (lane == 0) arrive(shared.empty + multiplied.slot);
    multiplied.advance();
    // The lane's outputs g and g + 8 of its warp's 16, g = lane / 4, of rows 8n + 2t and the next, t = lane % 4.
    synchronise_group<kMultipliers>(1);  // the tile before is read no more
    float* const to = shared.sums + lane % 4 * 2 * L::pitch + static_cast<int>(threadIdx.x) / kWarp * 16 + lane / 4;
#pragma unroll
    for (int n = 0; n < kRows / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) to[(n * 8 + i % 2) * L::pitch + i / 2 * 8] = sums[4 * n + i];
    }
    synchronise_group<kMultipliers>(1);
    if (span.first > 0 || span.end < p.steps) return join_parts<kRows>(p, shared, span);
    finish_tile(p, span, [&](int row, int output) {
      return *reinterpret_cast<const float4*>(shared.sums + row * L::pitch + output);
    });
  });
}

// Bounds of two blocks a multiprocessor, though there is room for one: without them nvcc 13.0 gives a thread fewer
// registers, and a step takes 2 % longer.
template <int kRows, bool kTransposed>
__global__ void __launch_bounds__(kThreads, 2) multiply_tiles(const __grid_constant__ Problem p) {
  using L = Layout<kRows>;
  extern __shared__ __align__(1024) char memory[];
  Shared shared;
  shared.ring = memory;
  shared.sums = reinterpret_cast<float*>(memory + L::stages * L::stage_bytes);
  shared.full = reinterpret_cast<uint64_t*>(reinterpret_cast<char*>(shared.sums) + L::sums_bytes);
  shared.empty = shared.full + L::stages;
  shared.last = reinterpret_cast<int*>(shared.empty + L::stages);
  trigger_dependents();
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / kWarp, 0);
  if (warp == kMultipliers / kWarp) {
    const int lane = threadIdx.x % kWarp;
    if (lane < L::stages) init_barrier(shared.full + lane, 1), init_barrier(shared.empty + lane, kMultipliers / kWarp);
    publish_barriers();
  }
  __syncthreads();
  if (warp == kMultipliers / kWarp) {
    if (threadIdx.x % kWarp == 0) copy_stages<L, kTransposed>(p, shared);
    return;
  }
  grid_dependency_sync();  // residual, and whoever reads what this writes
  multiply_spans<kRows, kTransposed>(p, shared);
}

// ---- The host's side

int tiles_of_head(const Args& a) {
  return static_cast<int>(a.gated ? (a.outputs / 2 + kGroupOutputs - 1) / kGroupOutputs
                                  : (a.outputs + kTileOutputs - 1) / kTileOutputs);
}
int tiles_of(const Args& a) { return tiles_of_head(a) * static_cast<int>(a.heads); }
int rows_of(const Args& a) { return a.rows <= 8 ? 8 : 16; }
int blocks_of(const Args& a) {
  const int64_t all = tiles_of(a) * (a.inputs / kChunk);
  return static_cast<int>(std::clamp<int64_t>(all / kLeastSteps, 1, multiprocessors()));
}

template <int kRows, bool kTransposed>
void launch(const Args& a, cudaStream_t stream) {
  using L = Layout<kRows>;
  static_assert(L::stages >= 4 && L::stages <= kWarp && L::bytes > kHalf);
  const auto kernel = multiply_tiles<kRows, kTransposed>;
  const cudaError_t status =  // of the current device
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, L::bytes);
  if (status != cudaSuccess) cuda::refuse("skinny GEMM", cudaGetErrorString(status));
  Problem p{};
  p.weight = map_of_chunks({a.weight, a.heads, kTransposed ? a.inputs : a.outputs, kTransposed ? a.outputs : a.inputs},
                           kGroupOutputs, 1);
  p.x = map_of_heads({a.x, a.heads, a.rows, a.inputs}, kRows);
  p.bias = static_cast<const bf16*>(a.bias), p.residual = static_cast<const bf16*>(a.residual);
  p.out = static_cast<bf16*>(a.out);
  p.parts = static_cast<float*>(a.parts), p.semaphores = static_cast<unsigned*>(a.semaphores);
  p.rows = static_cast<int>(a.rows), p.heads = static_cast<int>(a.heads);
  p.outputs = static_cast<int>(a.gated ? a.outputs / 2 : a.outputs);
  p.steps = static_cast<int>(a.inputs / kChunk), p.tiles_of_head = tiles_of_head(a), p.gated = a.gated;
  const int blocks = blocks_of(a);
  p.shares = EqualShares::of(tiles_of(a) * p.steps, blocks);
  launch_dependent("skinny GEMM", kernel,
                   {dim3(static_cast<unsigned>(blocks)), kThreads, static_cast<size_t>(L::bytes), stream}, p);
}

}  // namespace

bool tiles_fit(const Args& a) {
  const int64_t outputs = a.gated ? a.outputs / 2 : a.outputs, all = (a.outputs / kGroupOutputs + 1) * a.heads;
  const bool plain = a.bias == nullptr && a.residual == nullptr && !a.gated;
  return capability().hopper && a.format == Format::bf16 && a.heads > 0 && (a.heads == 1 || plain) &&
         a.norm == nullptr && a.rows > kMostRows && a.rows <= kMostTileRows && a.inputs > 0 && a.inputs % kChunk == 0 &&
         outputs > 0 && outputs % 8 == 0 && (!a.gated || a.outputs % 2 == 0) &&
         (!a.transposed || (plain && outputs % kChunk == 0)) && all <= kMostTiles &&
         all * (a.inputs / kChunk) < (int64_t{1} << 30);
}

int64_t tile_part_bytes(const Args& a) {
  return static_cast<int64_t>(blocks_of(a) + tiles_of(a)) * rows_of(a) * kTileOutputs * 4;
}

void skinny_gemm(const Args& a, void* stream) {
  if (!tiles_fit(a)) cuda::refuse("skinny GEMM", "its sizes are not those that tiles are made for");
  const cudaStream_t on = as_stream(stream);
  if (a.transposed) return a.rows <= 8 ? launch<8, true>(a, on) : launch<16, true>(a, on);
  a.rows <= 8 ? launch<8, false>(a, on) : launch<16, false>(a, on);
}

}  // namespace cepe::gemv_kernel
