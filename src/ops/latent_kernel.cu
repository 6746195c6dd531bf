// docs/kernels/latent_attention.md has the derivation; names here follow it: a block of rows (tokens x heads) reads a
// span of one context, and each of its warps owns a slice of the width.
#include "ops/latent_kernel.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>

#include "ops/fused.h"
#include "ops/mma.cuh"

namespace cepe::latent_kernel {
namespace {

using bf16 = __nv_bfloat16;

constexpr int kWarp = 32;
constexpr int kWarps = 8;
constexpr int kThreads = kWarp * kWarps;
constexpr int kHalf = 16;           // tokens of one copy group
constexpr int kTile = 2 * kHalf;    // tokens between two synchronisations of the block
constexpr int kQuads = kTile / 4;   // lanes that share the softmax of a row
constexpr int kScoreRow = kTile + 4;         // floats: lanes that write a product's result meet no bank twice
constexpr int kWeightRow = kTile + 8;        // bfloat16: likewise for lanes that read a product's operand
constexpr int kSharedBytes = 227 * 1024;     // of a block on sm_90
constexpr float kLazy = 8.0f;                // the scale of a row's sum is renewed when its highest score grew by 2^8
constexpr int64_t kLeastTokens = 2 * kTile;  // of a span

// Sizes of one instance: kSteps products of depth 16 in a warp's slice, kBlocks groups of 8 rows.
template <int kSteps, int kBlocks>
struct Layout {
  static constexpr int rows = 8 * kBlocks;
  static constexpr int slice = 16 * kSteps;                  // values of the width
  static constexpr int row_bytes = 2 * slice + 16;           // an odd number of 16 bytes: matrix loads meet no bank twice
  static constexpr int half_bytes = kHalf * row_bytes;       // of one warp
  static constexpr int score_floats = kWarps * rows * kScoreRow;
  static constexpr int fixed_bytes = 4 * score_floats + 2 * rows * kWeightRow + 4 * rows;
  static constexpr int halves = std::min(12, (kSharedBytes - fixed_bytes) / (kWarps * half_bytes));
  static constexpr int ring_bytes = halves * half_bytes;     // of one warp
  static constexpr int bytes = fixed_bytes + kWarps * ring_bytes;
  static constexpr int sum_row = slice + 4;                  // floats, of the results on their way out
  static_assert(halves >= 4 && 4 * rows * sum_row <= ring_bytes);
};

struct Shared {
  char* ring;      // of this warp: halves x 16 tokens x its slice
  float* scores;   // (warps, rows, kScoreRow): each warp's part of every score
  bf16* weights;   // (rows, kWeightRow): exponentials
  float* factors;  // (rows): what the sums so far are to be multiplied by
};

// The part of the problem that a block works on.
struct Span {
  const char* states;  // of its first token, at the warp's slice
  int64_t first, count;
};

__device__ Span span_of(const Args& a, int64_t split) {
  const int64_t groups = (a.tokens + 7) / 8;
  const int64_t first = groups * split / a.splits * 8, last = min(groups * (split + 1) / a.splits * 8, a.tokens);
  return {nullptr, first, max(last - first, int64_t{0})};
}

// One warp's slice of the width.
struct Slice {
  int first, steps;  // in products of depth 16
};

__device__ __forceinline__ Slice slice_of(int64_t width, int warp) {
  const int all = static_cast<int>(width / 16);
  const int first = all * warp / kWarps;
  return {first, all * (warp + 1) / kWarps - first};
}

// Starts the copy of the 16 tokens of half `half`. Tokens of the last tile that are past the end are copies of the last:
// what is read with weight zero must still be a number.
template <int kSteps, int kBlocks>
__device__ __forceinline__ void copy_half(const Span& span, const Shared& shared, int64_t half, int steps, int64_t width) {
  using L = Layout<kSteps, kBlocks>;
  const int lane = threadIdx.x % kWarp;
  if (half / 2 * kTile < span.count) {
    char* const to = shared.ring + half % L::halves * L::half_bytes;
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const int row = (i * kWarp + lane) / (2 * kSteps), part = (i * kWarp + lane) % (2 * kSteps);
      const int64_t token = min(half * kHalf + row, span.count - 1);
      if (part < 2 * steps) copy_async_16(to + row * L::row_bytes + part * 16, span.states + token * width * 2 + part * 16);
    }
  }
  commit_copies();
}

// The rows of the query, as the second operand of products whose first is the states.
template <int kSteps, int kBlocks>
__device__ __forceinline__ void load_query(const Args& a, int64_t first_row, const Slice& slice,
                                           uint32_t (&query)[kSteps][kBlocks][2]) {
  const int g = threadIdx.x % kWarp / 4, t = threadIdx.x % 4;
  const bf16* const rows = static_cast<const bf16*>(a.query) + blockIdx.y * a.rows * a.width;
#pragma unroll
  for (int n = 0; n < kBlocks; ++n) {
    const int64_t row = first_row + n * 8 + g;
#pragma unroll
    for (int j = 0; j < kSteps; ++j) {
      const bool there = row < a.rows && j < slice.steps;
      const bf16* const p = rows + row * a.width + (slice.first + j) * 16 + 2 * t;
      query[j][n][0] = there ? *reinterpret_cast<const uint32_t*>(p) : 0;
      query[j][n][1] = there ? *reinterpret_cast<const uint32_t*>(p + 8) : 0;
    }
  }
}

// This warp's part of the scores of tile `tile`: (32 tokens x its slice) (its slice x rows), written for the others.
template <int kSteps, int kBlocks>
__device__ __forceinline__ void score_tile(const Shared& shared, int64_t tile, int steps,
                                           const uint32_t (&query)[kSteps][kBlocks][2]) {
  using L = Layout<kSteps, kBlocks>;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  float* const out = shared.scores + warp * L::rows * kScoreRow;
#pragma unroll
  for (int m = 0; m < 2; ++m) {
    const char* const half = shared.ring + (2 * tile + m) % L::halves * L::half_bytes;
    const char* const row = half + lane % 16 * L::row_bytes + lane / 16 * 16;
    float sums[kBlocks][4] = {};
#pragma unroll
    for (int j = 0; j < kSteps; ++j) {
      if (j < steps) {
        uint32_t states[4];
        load_matrices(states, row + j * 32);
#pragma unroll
        for (int n = 0; n < kBlocks; ++n) multiply_add(sums[n], states, query[j][n]);
      }
    }
#pragma unroll
    for (int n = 0; n < kBlocks; ++n) {
      float* const at = out + (n * 8 + 2 * t) * kScoreRow + m * kHalf + g;
      at[0] = sums[n][0];
      at[kScoreRow] = sums[n][1];
      at[8] = sums[n][2];
      at[kScoreRow + 8] = sums[n][3];
    }
  }
}

// One row's softmax so far, kept by the kQuads lanes that share it; total is this lane's part.
struct Softmax {
  float highest = -INFINITY, total = 0;
};

__device__ __forceinline__ bool is_real(const Args& a, const Span& span, int64_t token) {
  return token < span.count && (!a.mask || a.mask[blockIdx.y * a.tokens + span.first + token]);
}

// Adds the warps' parts of the scores, takes their exponentials, and writes the weights and the row's factor. Scores
// are in powers of two.
template <int kSteps, int kBlocks>
__device__ __forceinline__ void weigh_tile(const Args& a, const Span& span, const Shared& shared, int64_t tile,
                                           Softmax& so_far) {
  using L = Layout<kSteps, kBlocks>;
  const int row = threadIdx.x / kQuads, quad = threadIdx.x % kQuads;
  if (row >= L::rows) return;
  float score[4] = {};
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    const float4 part = *reinterpret_cast<const float4*>(shared.scores + (w * L::rows + row) * kScoreRow + quad * 4);
    score[0] += part.x, score[1] += part.y, score[2] += part.z, score[3] += part.w;
  }
  const int64_t first = tile * kTile + quad * 4;
  float highest = so_far.highest;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    score[i] = is_real(a, span, first + i) ? score[i] * (a.scale * 1.44269504f) : -INFINITY;
    highest = fmaxf(highest, score[i]);
  }
#pragma unroll
  for (int lanes = 1; lanes < kQuads; lanes *= 2) highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, lanes));
  if (!(highest - so_far.highest > kLazy)) highest = so_far.highest;
  const float shift = highest == -INFINITY ? 0 : highest;
  const float factor = exp2f(so_far.highest - shift);
  so_far.total *= factor;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    score[i] = exp2f(score[i] - shift);
    so_far.total += score[i];
  }
  so_far.highest = highest;
  const __nv_bfloat162 weights[2] = {__floats2bfloat162_rn(score[0], score[1]), __floats2bfloat162_rn(score[2], score[3])};
  *reinterpret_cast<uint2*>(shared.weights + row * kWeightRow + quad * 4) = *reinterpret_cast<const uint2*>(weights);
  if (quad == 0) shared.factors[row] = factor;
}

// sums (slice x rows) = sums * factors + (slice x 32 tokens) (32 tokens x rows)
template <int kSteps, int kBlocks>
__device__ __forceinline__ void add_tile(const Shared& shared, int64_t tile, int steps, float (&sums)[kSteps][kBlocks][4]) {
  using L = Layout<kSteps, kBlocks>;
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  uint32_t weights[2][kBlocks][2];
#pragma unroll
  for (int n = 0; n < kBlocks; ++n) {
    const bf16* const row = shared.weights + (n * 8 + g) * kWeightRow + 2 * t;
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      weights[m][n][0] = *reinterpret_cast<const uint32_t*>(row + m * kHalf);
      weights[m][n][1] = *reinterpret_cast<const uint32_t*>(row + m * kHalf + 8);
    }
    const float even = shared.factors[n * 8 + 2 * t], odd = shared.factors[n * 8 + 2 * t + 1];
    if (__any_sync(~0u, even != 1 || odd != 1)) {
#pragma unroll
      for (int j = 0; j < kSteps; ++j) {
        sums[j][n][0] *= even, sums[j][n][1] *= odd, sums[j][n][2] *= even, sums[j][n][3] *= odd;
      }
    }
  }
  const int token = lane % 8 + lane / 16 * 8, column = lane / 8 % 2 * 16;
#pragma unroll
  for (int m = 0; m < 2; ++m) {
    const char* const half = shared.ring + (2 * tile + m) % L::halves * L::half_bytes;
    const char* const row = half + token * L::row_bytes + column;
#pragma unroll
    for (int j = 0; j < kSteps; ++j) {
      if (j < steps) {
        uint32_t states[4];
        load_matrices_transposed(states, row + j * 32);
#pragma unroll
        for (int n = 0; n < kBlocks; ++n) multiply_add(sums[j][n], states, weights[m][n]);
      }
    }
  }
}

// scratch: sums (contexts, splits, padded rows, width), then highest and total (contexts, splits, 2, padded rows).
struct Scratch {
  float *sums, *highest, *total;
};

__host__ __device__ __forceinline__ int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

__device__ __forceinline__ Scratch scratch_of(const Args& a, int64_t padded, int64_t context, int64_t split) {
  const int64_t part = context * a.splits + split;
  float* const statistics = a.scratch + a.contexts * a.splits * padded * a.width + part * 2 * padded;
  return {a.scratch + part * padded * a.width, statistics, statistics + padded};
}

// The span's sums leave through shared memory, so that rows are written whole.
template <int kSteps, int kBlocks>
__device__ __forceinline__ void write_sums(const Args& a, const Shared& shared, const Slice& slice,
                                           const float (&sums)[kSteps][kBlocks][4], float* to, int64_t rows) {
  using L = Layout<kSteps, kBlocks>;
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  float* const staged = reinterpret_cast<float*>(shared.ring);
  wait_copies<0>();
  __syncwarp();
#pragma unroll
  for (int n = 0; n < kBlocks; ++n) {
#pragma unroll
    for (int j = 0; j < kSteps; ++j) {
      float* const at = staged + (n * 8 + 2 * t) * L::sum_row + j * 16 + g;
      at[0] = sums[j][n][0];
      at[L::sum_row] = sums[j][n][1];
      at[8] = sums[j][n][2];
      at[L::sum_row + 8] = sums[j][n][3];
    }
  }
  __syncwarp();
  for (int i = lane; i < L::rows * kSteps * 4; i += kWarp) {
    const int row = i / (kSteps * 4), part = i % (kSteps * 4);
    if (row >= rows || part >= slice.steps * 4) continue;
    *reinterpret_cast<float4*>(to + row * a.width + slice.first * 16 + part * 4) =
        *reinterpret_cast<const float4*>(staged + row * L::sum_row + part * 4);
  }
}

template <int kSteps, int kBlocks>
__global__ void __launch_bounds__(kThreads, 1) read_span(const Args a) {
  using L = Layout<kSteps, kBlocks>;
  extern __shared__ __align__(128) char memory[];
  const int warp = threadIdx.x / kWarp;
  const int64_t row_blocks = (a.rows + L::rows - 1) / L::rows, padded = row_blocks * L::rows;
  const int64_t split = blockIdx.x / row_blocks, first_row = blockIdx.x % row_blocks * L::rows;
  const Slice slice = slice_of(a.width, warp);
  float* const scores = reinterpret_cast<float*>(memory + kWarps * L::ring_bytes);
  bf16* const weights = reinterpret_cast<bf16*>(scores + L::score_floats);
  const Shared shared{memory + warp * L::ring_bytes, scores, weights, reinterpret_cast<float*>(weights + L::rows * kWeightRow)};
  Span span = span_of(a, split);
  span.states = static_cast<const char*>(a.states) + (blockIdx.y * a.tokens + span.first) * a.width * 2 + slice.first * 32;

  for (int64_t half = 0; half < L::halves; ++half) copy_half<kSteps, kBlocks>(span, shared, half, slice.steps, a.width);
  uint32_t query[kSteps][kBlocks][2];
  load_query(a, first_row, slice, query);
  float sums[kSteps][kBlocks][4] = {};
  Softmax so_far;
  const int64_t tiles = (span.count + kTile - 1) / kTile;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    wait_copies<L::halves - 2>();
    __syncwarp();
    score_tile<kSteps, kBlocks>(shared, tile, slice.steps, query);
    __syncthreads();  // all parts of the scores are there, and all warps are done with the weights before
    weigh_tile<kSteps, kBlocks>(a, span, shared, tile, so_far);
    __syncthreads();  // the weights are there
    add_tile<kSteps, kBlocks>(shared, tile, slice.steps, sums);
    __syncwarp();  // the warp is done with this tile's place in the ring
    copy_half<kSteps, kBlocks>(span, shared, 2 * tile + L::halves, slice.steps, a.width);
    copy_half<kSteps, kBlocks>(span, shared, 2 * tile + 1 + L::halves, slice.steps, a.width);
  }
  cudaTriggerProgrammaticLaunchCompletion();
  const Scratch scratch = scratch_of(a, padded, blockIdx.y, split);
  write_sums(a, shared, slice, sums, scratch.sums + first_row * a.width, min(a.rows - first_row, int64_t{L::rows}));
#pragma unroll
  for (int lanes = 1; lanes < kQuads; lanes *= 2) so_far.total += __shfl_xor_sync(~0u, so_far.total, lanes);
  const int row = threadIdx.x / kQuads;
  if (row < L::rows && threadIdx.x % kQuads == 0) {
    scratch.highest[first_row + row] = so_far.highest;
    scratch.total[first_row + row] = so_far.total;
  }
}

__device__ __forceinline__ float highest_in_warp(float x) {
#pragma unroll
  for (int lanes = 1; lanes < kWarp; lanes *= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, lanes));
  return x;
}
__device__ __forceinline__ float sum_in_warp(float x) {
#pragma unroll
  for (int lanes = 1; lanes < kWarp; lanes *= 2) x += __shfl_xor_sync(~0u, x, lanes);
  return x;
}

// One row, 128 values of it: the spans' sums brought to one scale, over their totals. Warps take the spans in turn.
__global__ void __launch_bounds__(kThreads) merge_spans(const Args a, int64_t padded) {
  __shared__ float4 parts[kWarps][kWarp];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int64_t row = blockIdx.y, context = blockIdx.z, column = (blockIdx.x * kWarp + lane) * 4;
  cudaGridDependencySynchronize();
  float highest = -INFINITY;
  for (int64_t s = lane; s < a.splits; s += kWarp) highest = fmaxf(highest, scratch_of(a, padded, context, s).highest[row]);
  highest = highest_in_warp(highest);
  const bool none = highest == -INFINITY;
  float total = 0;
  for (int64_t s = lane; s < a.splits; s += kWarp) {
    const Scratch part = scratch_of(a, padded, context, s);
    total += none ? part.total[row] : part.total[row] * exp2f(part.highest[row] - highest);
  }
  total = sum_in_warp(total);
  float4 sum = {0, 0, 0, 0};
  if (column < a.width && !none) {
#pragma unroll 4
    for (int64_t s = warp; s < a.splits; s += kWarps) {
      const Scratch part = scratch_of(a, padded, context, s);
      const float4 x = *reinterpret_cast<const float4*>(part.sums + row * a.width + column);
      const float weight = exp2f(part.highest[row] - highest);
      sum.x += weight * x.x, sum.y += weight * x.y, sum.z += weight * x.z, sum.w += weight * x.w;
    }
  }
  parts[warp][lane] = sum;
  __syncthreads();
  if (warp > 0 || column >= a.width) return;
  for (int w = 1; w < kWarps; ++w) {
    const float4 x = parts[w][lane];
    sum.x += x.x, sum.y += x.y, sum.z += x.z, sum.w += x.w;
  }
  // Without any real token the total is 0, or not a number where no score was one; so is the result.
  if (none) sum = {total, total, total, total}, total = 1;
  const __nv_bfloat162 out[2] = {__floats2bfloat162_rn(sum.x / total, sum.y / total),
                                 __floats2bfloat162_rn(sum.z / total, sum.w / total)};
  bf16* const to = static_cast<bf16*>(a.out) + (context * a.rows + row) * a.width + column;
  *reinterpret_cast<uint2*>(to) = *reinterpret_cast<const uint2*>(out);
}

// Rows of a block, a multiple of 8: few rows leave more room for states on their way.
int64_t block_rows(int64_t rows) { return rows <= 8 ? 8 : rows <= 16 ? 16 : 32; }

void check(cudaError_t status) {
  if (status != cudaSuccess) fused::refuse("latent attention", cudaGetErrorString(status));
}

// The weights of one row of one block of scores.
__global__ void __launch_bounds__(kThreads) weigh_block(const WeighArgs a) {
  __shared__ float scores[kMaxBlockTokens];
  __shared__ float parts[kWarps];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int64_t block = blockIdx.x, row = blockIdx.y, first = block * a.block_tokens;
  const int tokens = static_cast<int>(a.block_tokens);
  const float* const from = a.scores + row * a.blocks * a.block_tokens + first;
  float highest = -INFINITY;
  for (int i = threadIdx.x; i < tokens; i += kThreads) {
    const float score = !a.mask || a.mask[first + i] ? from[i] * (a.scale * 1.44269504f) : -INFINITY;
    scores[i] = score;
    highest = fmaxf(highest, score);
  }
  highest = highest_in_warp(highest);
  if (lane == 0) parts[warp] = highest;
  __syncthreads();
  for (int w = 0; w < kWarps; ++w) highest = fmaxf(highest, parts[w]);
  __syncthreads();
  const float shift = highest == -INFINITY ? 0 : highest;
  bf16* const to = static_cast<bf16*>(a.weights) + row * a.blocks * a.block_tokens + first;
  float total = 0;
  for (int i = threadIdx.x; i < tokens; i += kThreads) {
    const float weight = exp2f(scores[i] - shift);
    to[i] = __float2bfloat16_rn(weight);
    total += weight;
  }
  total = sum_in_warp(total);
  if (lane == 0) parts[warp] = total;
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (int w = 1; w < kWarps; ++w) total += parts[w];
  a.statistics[block * 2 * a.rows + row] = highest;
  a.statistics[(block * 2 + 1) * a.rows + row] = total;
}

// early: the merge may be set up while the last spans are read; it waits for them itself.
void launch_merge(const Args& args, int64_t padded, bool early, cudaStream_t stream) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>((args.width + 127) / 128), static_cast<unsigned>(args.rows),
                        static_cast<unsigned>(args.contexts));
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = early ? 1 : 0;
  check(cudaLaunchKernelEx(&config, merge_spans, args, padded));
}

template <int kSteps, int kBlocks>
void launch(const Args& args, cudaStream_t stream) {
  using L = Layout<kSteps, kBlocks>;
  const int64_t row_blocks = (args.rows + L::rows - 1) / L::rows;
  check(cudaFuncSetAttribute(read_span<kSteps, kBlocks>, cudaFuncAttributeMaxDynamicSharedMemorySize, L::bytes));
  const dim3 grid(static_cast<unsigned>(args.splits * row_blocks), static_cast<unsigned>(args.contexts));
  read_span<kSteps, kBlocks><<<grid, kThreads, L::bytes, stream>>>(args);
  check(cudaGetLastError());
  launch_merge(args, row_blocks * L::rows, true, stream);
}

template <int kSteps>
void launch_rows(const Args& args, cudaStream_t stream) {
  switch (block_rows(args.rows)) {
    case 8: return launch<kSteps, 1>(args, stream);
    case 16: return launch<kSteps, 2>(args, stream);
    default: return launch<kSteps, 4>(args, stream);
  }
}

}  // namespace

int64_t choose_splits(const Args& args) {
  int device = 0, multiprocessors = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
  const int64_t rows = block_rows(args.rows), blocks = args.contexts * ((args.rows + rows - 1) / rows);
  return std::clamp<int64_t>(multiprocessors / blocks, 1, std::max<int64_t>(1, args.tokens / kLeastTokens));
}

int64_t scratch_floats(const Args& args) {
  return args.contexts * args.splits * round_up(args.rows, block_rows(args.rows)) * (args.width + 2);
}

void latent_attention(const Args& args, void* stream) {
  if (!width_fits(args.width)) fused::refuse("latent attention", "the width is not a multiple of 64 up to 1024");
  if (args.contexts == 0 || args.rows == 0) return;
  const auto on = static_cast<cudaStream_t>(stream);
  switch ((args.width + 127) / 128) {
    case 1: return launch_rows<1>(args, on);
    case 2: return launch_rows<2>(args, on);
    case 3: return launch_rows<3>(args, on);
    case 4: return launch_rows<4>(args, on);
    case 5: return launch_rows<5>(args, on);
    case 6: return launch_rows<6>(args, on);
    case 7: return launch_rows<7>(args, on);
    default: return launch_rows<8>(args, on);
  }
}

void weigh(const WeighArgs& args, void* stream) {
  if (args.block_tokens > kMaxBlockTokens) fused::refuse("latent attention", "a block of scores is too long");
  const dim3 grid(static_cast<unsigned>(args.blocks), static_cast<unsigned>(args.rows));
  weigh_block<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(args);
  check(cudaGetLastError());
}

void merge(const Args& args, void* stream) { launch_merge(args, args.rows, false, static_cast<cudaStream_t>(stream)); }

}  // namespace cepe::latent_kernel
