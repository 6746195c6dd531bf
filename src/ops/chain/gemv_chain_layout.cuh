// What the warps of a CTA of the GEMV chain share: sizes, the products as kernel arguments, the Stream-K division of
// work, the layout of shared memory, and the LL words that CTAs exchange. Included by gemv_chain_kernel.cu only.
// docs/kernels/gemv_chain.md derives it.
//
// Names: a *step* is one product, a *word* is 8 bytes with their flag (LL), the *stamp* is the launch's epoch, which is
// that flag, a *deposit* is a partial tile, a *place* is a pipeline stage.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "ops/chain/gemv_chain_kernel.h"
#include "ops/cuda/bf16_vector.cuh"
#include "ops/cuda/cache_policy.cuh"
#include "ops/cuda/equal_shares.h"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/tensor_map.cuh"

namespace cepe::gemv_chain_kernel {

using namespace cuda;
using namespace hopper;

constexpr int kWarps = 8;  // of the consumers, which multiply
constexpr int kMultipliers = kWarps * kWarp;
constexpr int kThreads = kMultipliers + 2 * kWarp;  // and the producer warp and the epilogue warp
constexpr int kTileRows = 16;                       // outputs that are computed together
constexpr int kTransposedOutputs = 64;              // the same of a transposed matrix
constexpr int kBoxRows = 8;
constexpr int kStageInputs = kWarps * kChunk;  // of a tile: one chunk for each warp
constexpr int kBoxBytes = kBoxRows * kStageInputs * 2;
constexpr int kStageBytes = 2 * kBoxBytes;
constexpr int kMostStages = 12;
// TMA loads in flight of a CTA, for the current product and for later products. More loads than the memory's latency
// needs only delay all other requests: those for other CTAs' outputs, and those of the preceding kernel.
constexpr int kComing = 4, kComingAhead = 2;
constexpr int kSharedBytes = 204 * 1024;  // leaves room for CTAs of the kernels before and after
constexpr int kLeastStages = dispatch::kChainStages;
constexpr int kLongestTransposed = kStageBytes / kRowBytes;  // inputs of a transposed matrix: one stage holds them

// 8 bytes that are written and read as one access: two bfloat16 values (or one float32) and the epoch of the launch
// that wrote them. A reader that finds the epoch has the values: no other signal passes between CTAs.
using Word = uint64_t;

// One product as a kernel argument.
struct Step {
  CUtensorMap weight;  // (64, outputs, chunks of inputs, heads), transposed (64, inputs, chunks of outputs, heads)
  const bf16 *x, *norm, *bias, *residual;
  bf16* out;
  const Word *x_words,
      *residual_words;  // LL copies of x and residual where an earlier product of the chain writes them, else null
  Word* out_words;      // the LL copy of out
  float eps;
  int heads, group, inputs, outputs;  // outputs: of `out`
  int tiles, tiles_of_head;
  int stages;          // of a tile
  int unit;            // a share is a whole number of so many stages
  EqualShares shares;  // units of a block
  bool transposed, gated;
};
struct Chain {
  Step steps[kMostProducts];
  uint32_t* launches;  // the epoch of this launch, and how many of its CTAs have read it
  Word* deposits;      // (steps, CTAs, 4, lanes): partial tiles, for the CTA that owns the tile
  int count, rows;
  int stages;   // of the ring
  int x_bytes;  // in shared memory
};

// ---- The division of work (Stream-K)

// The stages of all tiles are one sequence that is cut into equal shares, one a CTA. A share may begin and end within a
// tile, unless whole tiles give no longer a longest share.
struct Share {
  int begin, end;              // tiles; equal: none
  int first_stage, end_stage;  // of the first tile, of the last one
  int head, in_head;           // of the first tile
  int heads;                   // that its tiles touch
};
__host__ __device__ inline int begin_of_share(const Step& s, int block) { return s.shares.begin(block) * s.unit; }
__host__ __device__ inline Share share_of(const Step& s, int block) {
  const int begin = begin_of_share(s, block), end = begin_of_share(s, block + 1);
  if (begin == end) return {};
  Share share;
  share.begin = begin / s.stages, share.end = (end - 1) / s.stages + 1;
  share.first_stage = begin - share.begin * s.stages, share.end_stage = end - (share.end - 1) * s.stages;
  share.head = share.begin / s.tiles_of_head, share.in_head = share.begin - share.head * s.tiles_of_head;
  share.heads = (share.end - 1) / s.tiles_of_head - share.head + 1;
  return share;
}

// A tile of a share, and the stages of the tile that are in the share.
struct Tile {
  int index, head, in_head, first_stage, end_stage;

  __device__ __forceinline__ Tile(const Step& s, const Share& share)
      : index(share.begin), head(share.head), in_head(share.in_head) {
    cut(s, share);
  }
  __device__ __forceinline__ void advance(const Step& s, const Share& share) {
    ++index;
    if (++in_head == s.tiles_of_head) in_head = 0, ++head;
    cut(s, share);
  }

 private:
  __device__ __forceinline__ void cut(const Step& s, const Share& share) {
    first_stage = index == share.begin ? share.first_stage : 0;
    end_stage = index + 1 == share.end ? share.end_stage : s.stages;
  }
};

// A pipeline stage with its phase: hopper.cuh's RingPlace for a ring whose length is a kernel argument.
struct Place {
  int slot = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance(int slots) {
    if (++slot == slots) slot = 0, parity ^= 1;
  }
};

// Shared memory of a block.
struct Shared {
  char* ring;              // (stages): two boxes of 8 rows, chunk by chunk, swizzled
  bf16* x;                 // (heads here, columns, pitch)
  float4* sums;            // (2, warps, lanes): double-buffered, tile by tile
  bf16* zeros;             // 16 bytes: for columns past the last
  float* squares;          // (steps, columns, warps): sums of squares of x by warp; zeros where a warp has none
  Share* shares;           // (steps)
  uint64_t *full, *empty;  // (kMostStages)
  uint64_t *sums_there, *sums_free;  // (2)
  uint64_t* stamped;                 // barrier: the epoch has been read
  uint32_t* stamp;
  volatile int* multiplied;  // the index of the product that is being multiplied

  static constexpr int kSums = 2 * kWarps * kWarp, kSquares = static_cast<int>(kMostColumns) * kWarps;
  static constexpr int kSmallBytes = kSums * 16 + 16 + kMostProducts * (kSquares * 4 + 32) + (2 * kMostStages + 6) * 8;

  __device__ Shared(char* memory, const Chain& chain) {
    ring = memory;
    x = reinterpret_cast<bf16*>(ring + chain.stages * kStageBytes);
    sums = reinterpret_cast<float4*>(reinterpret_cast<char*>(x) + chain.x_bytes);
    zeros = reinterpret_cast<bf16*>(sums + kSums);
    squares = reinterpret_cast<float*>(zeros + 8);
    shares = reinterpret_cast<Share*>(squares + kMostProducts * kSquares);
    full = reinterpret_cast<uint64_t*>(reinterpret_cast<char*>(shares) + kMostProducts * 32);
    empty = full + kMostStages;
    sums_there = empty + kMostStages;
    sums_free = sums_there + 2;
    stamped = sums_free + 2;
    stamp = reinterpret_cast<uint32_t*>(stamped + 1);
    multiplied = reinterpret_cast<int*>(stamp + 1);
  }
};
static_assert(sizeof(Share) <= 32);

// ---- Words (LL)

// Data of another kernel, or of another CTA of this one: loaded from L2, never from L1.
__device__ __forceinline__ Vector load_fresh(const bf16* p) {
  const uint4 raw = __ldcg(reinterpret_cast<const uint4*>(p));
  return reinterpret_cast<const Vector&>(raw);
}
__device__ __forceinline__ void load_words(const Word* p, Word& a, Word& b) {
  asm volatile("ld.relaxed.gpu.global.v2.u64 {%0,%1}, [%2];" : "=l"(a), "=l"(b) : "l"(p) : "memory");
}
__device__ __forceinline__ void store_word(Word* p, uint32_t content, uint32_t stamp) {
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(p), "l"(static_cast<Word>(stamp) << 32 | content)
               : "memory");
}
__device__ __forceinline__ bool has(Word word, uint32_t stamp) { return static_cast<uint32_t>(word >> 32) == stamp; }
// Four words: eight values of another CTA.
struct Words {
  Word of[4];
  __device__ __forceinline__ bool all_have(uint32_t stamp) const {
    return has(of[0], stamp) && has(of[1], stamp) && has(of[2], stamp) && has(of[3], stamp);
  }
};
__device__ __forceinline__ Words ask_for(const Word* p, int between = 2) {
  Words w;
  load_words(p, w.of[0], w.of[1]);
  load_words(p + between, w.of[2], w.of[3]);
  return w;
}
// Spins until all four words have the epoch.
__device__ __forceinline__ Vector values_of(Words w, const Word* p, uint32_t stamp) {
  while (!w.all_have(stamp)) {
    __nanosleep(50);
    w = ask_for(p);
  }
  uint4 raw = make_uint4(static_cast<uint32_t>(w.of[0]), static_cast<uint32_t>(w.of[1]), static_cast<uint32_t>(w.of[2]),
                         static_cast<uint32_t>(w.of[3]));
  return reinterpret_cast<const Vector&>(raw);
}

}  // namespace cepe::gemv_chain_kernel
