// GEMV with int8, fp8 or int4 weights (docs/kernels/gemv.md): a CTA computes 16 outputs at a time on tensor cores, so
// that a weight costs little more than its unpacking. Weights become bfloat16, which holds integers of 8 bits and
// e4m3's numbers exactly; sums are float32.
#include <cuda_fp16.h>

#include <utility>

#include "ops/cuda/bf16_vector.cuh"
#include "ops/cuda/cache_policy.cuh"
#include "ops/gemv/gemv_kernel.h"

namespace cepe::gemv_kernel {
namespace {

using namespace cuda;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kBlocks = 2;  // a multiprocessor
constexpr int kTile = 16;   // outputs of a block at a time: the rows of one product of the tensor cores
constexpr int kAhead = 4;   // 16-byte vectors of each of its two outputs that a thread has on their way
constexpr int kQuad = 4;    // lanes that share an output
constexpr int kGroup = 32;  // of int4

__device__ __forceinline__ uint32_t bits(__nv_bfloat162 x) { return reinterpret_cast<const uint32_t&>(x); }
__device__ __forceinline__ __nv_bfloat162 two(uint32_t x) { return reinterpret_cast<const __nv_bfloat162&>(x); }
// The scale (x) and the least value (y) of a group.
__device__ __forceinline__ float2 scale_and_least(uint32_t x) {
  return __half22float2(reinterpret_cast<const __half2&>(x));
}

// A format: how many weights a 16-byte vector holds, which two of them come together in a pair of bfloat16 values (x
// waits in shared memory in that order), and whether groups of 32 have a scale and a least value of their own.
struct Int8 {
  static constexpr int kValues = 16;
  static constexpr bool kGrouped = false;
  // 0x43 above a byte's low 7 bits is 128 + them; the sign bit is -128. So: less 128, or 256 where it is set.
  static __device__ __forceinline__ uint32_t centred(uint32_t biased) {
    return bits(__hsub2(two(biased & 0xff7fff7fu), two(biased & 0x43804380u)));
  }
  static __device__ __forceinline__ void unpack(uint32_t word, uint32_t* pairs) {
    pairs[0] = centred(__byte_perm(word, 0x43434343u, 0x4140));
    pairs[1] = centred(__byte_perm(word, 0x43434343u, 0x4342));
  }
  static __device__ __forceinline__ Vector in_order(const Vector& x) { return x; }
};

struct Fp8 {
  static constexpr int kValues = 16;
  static constexpr bool kGrouped = false;
  // Sign to sign, exponent and mantissa below bfloat16's exponent: the number times 2^-120, subnormal ones included.
  static __device__ __forceinline__ uint32_t rescaled(uint32_t small) {
    return bits(__hmul2(two(small), two(0x7b807b80u)));
  }
  static __device__ __forceinline__ void unpack(uint32_t word, uint32_t* pairs) {  // values 0 and 2, 1 and 3
    pairs[0] = rescaled((word << 8 & 0x80008000u) | (word << 4 & 0x07f007f0u));
    pairs[1] = rescaled((word & 0x80008000u) | (word >> 4 & 0x07f007f0u));
  }
  static __device__ __forceinline__ Vector in_order(const Vector& x) {
    Vector y;
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
      y.pair[i] = __halves2bfloat162(x.pair[i].x, x.pair[i + 1].x);
      y.pair[i + 1] = __halves2bfloat162(x.pair[i].y, x.pair[i + 1].y);
    }
    return y;
  }
};

struct Int4 {
  static constexpr int kValues = 32;
  static constexpr bool kGrouped = true;
  static constexpr float kBias = 128;  // what a number is too large by
  static __device__ __forceinline__ void unpack(uint32_t word,
                                                uint32_t* pairs) {  // values 1 and 5, 0 and 4, 3 and 7, 2 and 6
#pragma unroll
    for (int i = 0; i < 4; ++i) pairs[i] = (word >> 4 * i & 0x000f000fu) | 0x43004300u;
  }
  static __device__ __forceinline__ Vector in_order(const Vector& x) {
    Vector y;
    y.pair[0] = __halves2bfloat162(x.pair[0].y, x.pair[2].y);
    y.pair[1] = __halves2bfloat162(x.pair[0].x, x.pair[2].x);
    y.pair[2] = __halves2bfloat162(x.pair[1].y, x.pair[3].y);
    y.pair[3] = __halves2bfloat162(x.pair[1].x, x.pair[3].x);
    return y;
  }
};

// sums (16 x 8) += a (16 x 16) b (16 x 8), of which a lane has: of sums, rows lane / 4 and that + 8, columns 2 (lane %
// 4) and the next; of a the same rows, four columns; of b column lane / 4, four rows.
__device__ __forceinline__ void multiply_add(float (&sums)[4], const uint32_t* low, const uint32_t* high,
                                             const uint32_t* b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(low[0]), "r"(high[0]), "r"(low[1]), "r"(high[1]), "r"(b[0]), "r"(b[1]));
}

template <class F>
struct Sizes {
  static constexpr int kStep = kQuad * F::kValues;  // inputs that a warp multiplies at a time: 64 bytes of each output
  int vectors, steps, batches, stride;  // stride of x's rows in shared memory: shifted by a vector, against conflicts
  __host__ __device__ explicit Sizes(int64_t inputs)
      : vectors(static_cast<int>(inputs) / F::kValues),
        steps((vectors + kQuad - 1) / kQuad),
        batches((steps + kWarps * kAhead - 1) / (kWarps * kAhead)),
        stride(steps * kStep + kVector) {}
  // The warps go through an output 128 bytes each.
  __device__ int step(int batch, int i, int warp) const {
    return (batch * kAhead + i / 2 * 2) * kWarps + warp * 2 + i % 2;
  }
  int64_t shared_bytes(int64_t rows) const { return rows * (stride * 2 + (F::kGrouped ? steps * kQuad * 4 : 0)); }
};

// Row `row` of tile `tile`: its output. Of a gated product rows 0 .. 7 are gates, and 8 .. 15 what they multiply.
struct Outputs {
  int64_t all;
  bool gated;
  __device__ explicit Outputs(const Args& a) : all(a.outputs), gated(a.gated) {}
  __device__ int64_t at(int64_t tile, int row) const {
    if (!gated) return tile * kTile + row;
    return tile * (kTile / 2) + row % 8 + (row < 8 ? 0 : all / 2);
  }
  __device__ bool inside(int64_t tile, int row) const {
    return gated ? tile * (kTile / 2) + row % 8 < all / 2 : tile * kTile + row < all;
  }
};

// What a thread has on its way: vectors of two outputs, and of int4 a scale and a least value for each.
template <class F>
struct Ahead {
  uint4 low[kAhead], high[kAhead];
  uint32_t low_scale[F::kGrouped ? kAhead : 1], high_scale[F::kGrouped ? kAhead : 1];
};

// Where a thread reads its two outputs of a tile.
template <class F>
struct Reader {
  const Args& a;
  const Sizes<F>& sizes;
  int warp, lane;
  const uint8_t *low, *high;
  const uint32_t *low_scales, *high_scales;

  __device__ Reader(const Args& args, const Sizes<F>& s)
      : a(args), sizes(s), warp(threadIdx.x / kWarp), lane(threadIdx.x % kWarp) {}
  __device__ __forceinline__ void go_to(int64_t tile) {
    const Outputs outputs(a);
    const int row = lane / kQuad;
    const int64_t first = outputs.inside(tile, row) ? outputs.at(tile, row) : 0;
    const int64_t second = outputs.inside(tile, row + 8) ? outputs.at(tile, row + 8) : 0;
    const int64_t bytes = int64_t{sizes.vectors} * 16;
    low = static_cast<const uint8_t*>(a.weight) + first * bytes;
    high = static_cast<const uint8_t*>(a.weight) + second * bytes;
    if constexpr (F::kGrouped) {
      low_scales = static_cast<const uint32_t*>(a.scales) + first * sizes.vectors;
      high_scales = static_cast<const uint32_t*>(a.scales) + second * sizes.vectors;
    }
  }
  __device__ __forceinline__ void load(Ahead<F>& to, int batch, int i) const {
    const int at = sizes.step(batch, i, warp) * kQuad + lane % kQuad;
    const bool inside = at < sizes.vectors;
    to.low[i] = inside ? load_once(low + at * 16) : uint4{};
    to.high[i] = inside ? load_once(high + at * 16) : uint4{};
    if constexpr (F::kGrouped) {
      to.low_scale[i] = inside ? __ldg(low_scales + at) : 0;
      to.high_scale[i] = inside ? __ldg(high_scales + at) : 0;
    }
  }
};

constexpr int kStaged = 4;  // vectors of x that a thread fetches at a time

struct NormAhead {
  Vector v[kStaged];
  __device__ explicit NormAhead(const Args& a) {
#pragma unroll
    for (int i = 0; i < kStaged; ++i) {
      const int at = threadIdx.x + i * kThreads;
      if (a.norm != nullptr && at < a.inputs / kVector) v[i] = load(static_cast<const bf16*>(a.norm) + at * kVector);
    }
  }
};

// Rows of x into shared memory in the format's order, times the norm's weights where there are some, zeros behind them;
// the sums of their groups, and in `squares` each warp's part of the sum of the rows' squares.
template <class F, int kRows>
__device__ __forceinline__ void stage_rows(const Args& a, const Sizes<F>& sizes, const NormAhead& norm_ahead, bf16* x,
                                           float* sums, float (&squares)[kRows][kWarps]) {
  const int vectors = static_cast<int>(a.inputs / kVector), all = sizes.steps * Sizes<F>::kStep / kVector;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const bf16* const from = static_cast<const bf16*>(a.x) + r * a.inputs;
    float square = 0;
    for (int base = threadIdx.x; base < all; base += kStaged * kThreads) {
      Vector v[kStaged] = {};
#pragma unroll
      for (int i = 0; i < kStaged; ++i) {
        const int at = base + i * kThreads;
        if (at < vectors) v[i] = load(from + at * kVector);
      }
#pragma unroll
      for (int i = 0; i < kStaged; ++i) {
        const int at = base + i * kThreads;
        if (at >= all) continue;
        float f[kVector];
        if (a.norm != nullptr && at < vectors) {
          float norm[kVector];
          unpack(v[i], f);
          unpack(base < kThreads ? norm_ahead.v[i] : load(static_cast<const bf16*>(a.norm) + at * kVector), norm);
#pragma unroll
          for (int k = 0; k < kVector; ++k) square += f[k] * f[k], f[k] *= norm[k];
          v[i] = pack(f);
        }
        store(x + r * sizes.stride + at * kVector, F::in_order(v[i]));
        if constexpr (F::kGrouped) {
          unpack(v[i], f);
          float sum = ((f[0] + f[1]) + (f[2] + f[3])) + ((f[4] + f[5]) + (f[6] + f[7]));
          const unsigned quad = 0xfu << (threadIdx.x % kWarp & ~3u);  // four vectors are a group
          sum += __shfl_xor_sync(quad, sum, 1);
          sum += __shfl_xor_sync(quad, sum, 2);
          if (threadIdx.x % 4 == 0) sums[r * sizes.steps * kQuad + at / 4] = sum;
        }
      }
    }
    if (a.norm != nullptr) {
      square = warp_sum(square);
      if (threadIdx.x % kWarp == 0) squares[r][threadIdx.x / kWarp] = square;
    }
  }
  __syncthreads();
}

// Weights of one scale a row. Columns of the product are rows of x.
template <class F, int kRows>
struct PlainSums {
  float sums[2][4] = {};
  __device__ __forceinline__ void add(const uint4& low, const uint4& high, uint32_t, uint32_t, const Sizes<F>& sizes,
                                      const bf16* x, const float*, int step, int lane) {
    constexpr int kPairs = F::kValues / 2;
    uint32_t b[kPairs] = {};
    if (lane / kQuad < kRows) {
      const bf16* const from = x + lane / kQuad * sizes.stride + (step * kQuad + lane % kQuad) * F::kValues;
#pragma unroll
      for (int i = 0; i < kPairs / 4; ++i) reinterpret_cast<Vector*>(b)[i] = load(from + i * kVector);
    }
    const uint32_t low_words[4] = {low.x, low.y, low.z, low.w}, high_words[4] = {high.x, high.y, high.z, high.w};
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      uint32_t first[2], second[2];
      F::unpack(low_words[w], first), F::unpack(high_words[w], second);
      multiply_add(sums[w % 2], first, second, b + 2 * w);
    }
  }
  // Of the lane's two outputs and the two rows of x that are its columns.
  __device__ __forceinline__ void finish(float (&out)[4], int) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) out[i] = sums[0][i] + sums[1][i];
  }
};

// Groups of 32. A lane's vector is one group, and the four lanes of an output have four: columns 2 j and 2 j + 1 of the
// product are two rows of x where lane j's group stands, and zero elsewhere, so that groups stay apart.
template <class F, int kRows>
struct GroupedSums {
  static constexpr int kTwos = (kRows + 1) / 2;
  float sums[kTwos][4] = {};
  __device__ __forceinline__ void add(const uint4& low, const uint4& high, uint32_t low_scale, uint32_t high_scale,
                                      const Sizes<F>& sizes, const bf16* x, const float* group_sums, int step,
                                      int lane) {
    const int column = lane / kQuad, group = step * kQuad + lane % kQuad;
    float products[kTwos][4] = {};
    const uint32_t low_words[4] = {low.x, low.y, low.z, low.w}, high_words[4] = {high.x, high.y, high.z, high.w};
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      uint32_t first[4], second[4];
      F::unpack(low_words[w], first), F::unpack(high_words[w], second);
#pragma unroll
      for (int q = 0; q < kTwos; ++q) {
        uint32_t b[4] = {};
        const int row = 2 * q + column % 2;
        if (column / 2 == lane % kQuad && row < kRows) {
          reinterpret_cast<Vector&>(b) = load(x + row * sizes.stride + group * kGroup + w * kVector);
        }
        multiply_add(products[q], first, second, b);
        multiply_add(products[q], first + 2, second + 2, b + 2);
      }
    }
    const float2 low_pair = scale_and_least(low_scale), high_pair = scale_and_least(high_scale);
    const float low_rest = low_pair.y - F::kBias * low_pair.x, high_rest = high_pair.y - F::kBias * high_pair.x;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float of_x = group_sums[r * sizes.steps * kQuad + group];
      sums[r / 2][r % 2] += low_pair.x * products[r / 2][r % 2] + low_rest * of_x;
      sums[r / 2][r % 2 + 2] += high_pair.x * products[r / 2][r % 2 + 2] + high_rest * of_x;
    }
  }
  __device__ __forceinline__ void finish(float (&out)[4], int lane) const {
#pragma unroll
    for (int q = 0; q < kTwos; ++q) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float sum = sums[q][i];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        if (lane % kQuad == q) out[i] = sum;
      }
    }
  }
};

template <class F, int kRows>
using Sums = std::conditional_t<F::kGrouped, GroupedSums<F, kRows>, PlainSums<F, kRows>>;

// What is done to the sums of a tile, by one thread an output and row of x.
template <class F, int kRows>
struct Finish {
  const Args& a;
  int index, row;  // of the thread: output of the tile, row of x
  bool takes_part;
  float factor = 1;                            // of the norm
  float scale[2] = {1, 1}, added[2] = {0, 0};  // of the output, and of what it gates

  __device__ explicit Finish(const Args& args) : a(args) {
    const int outputs = a.gated ? kTile / 2 : kTile;
    index = threadIdx.x % outputs, row = threadIdx.x / outputs;
    takes_part = row < kRows;
  }
  __device__ __forceinline__ void take_norm(const float (&squares)[kRows][kWarps]) {
    if (a.norm == nullptr || !takes_part) return;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += squares[row][w];
    factor = rsqrtf(sum / static_cast<float>(a.inputs) + a.eps);
  }
  // Before the tile's weights have come.
  __device__ __forceinline__ void go_to(int64_t tile) {
    const Outputs outputs(a);
    if (!takes_part || !outputs.inside(tile, index)) return;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (i == 1 && !a.gated) break;
      const int64_t at = outputs.at(tile, index + i * 8);
      if constexpr (!F::kGrouped) scale[i] = static_cast<const float*>(a.scales)[at];
      added[i] = a.bias != nullptr ? __bfloat162float(static_cast<const bf16*>(a.bias)[at]) : 0;
      if (a.residual != nullptr)
        added[i] += __bfloat162float(static_cast<const bf16*>(a.residual)[row * a.outputs + at]);
    }
  }
  __device__ __forceinline__ void write(int64_t tile, const float (&partial)[kWarps][kRows][kTile]) const {
    const Outputs outputs(a);
    if (!takes_part || !outputs.inside(tile, index)) return;
    float sums[2] = {};
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      sums[0] += partial[w][row][index];
      if (a.gated) sums[1] += partial[w][row][index + 8];
    }
    const float first = sums[0] * factor * scale[0] + added[0];
    bf16* const out = static_cast<bf16*>(a.out);
    if (!a.gated) {
      out[row * a.outputs + outputs.at(tile, index)] = __float2bfloat16_rn(first);
    } else {
      const float up = sums[1] * factor * scale[1] + added[1];
      out[row * (a.outputs / 2) + outputs.at(tile, index)] = __float2bfloat16_rn(first * sigmoid(first) * up);
    }
  }
};

// A block takes tiles blockIdx.x, that + gridDim.x and so on; its warps share an output's inputs.
template <class F, int kRows>
__global__ void __launch_bounds__(kThreads, kBlocks) multiply_packed(const Args a) {
  extern __shared__ __align__(16) bf16 x[];
  __shared__ float squares[kRows][kWarps];
  __shared__ float partial[2][kWarps][kRows][kTile];  // of this tile and the one before: one barrier a tile is enough
  const Sizes<F> sizes(a.inputs);
  float* const group_sums = reinterpret_cast<float*>(x + kRows * sizes.stride);
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int tile_outputs = a.gated ? kTile / 2 : kTile;
  const int tiles = static_cast<int>(((a.gated ? a.outputs / 2 : a.outputs) + tile_outputs - 1) / tile_outputs);
  trigger_dependents();
  Reader<F> reader(a, sizes);
  Ahead<F> ahead;
  reader.go_to(blockIdx.x);
#pragma unroll
  for (int i = 0; i < kAhead; ++i) reader.load(ahead, 0, i);  // weights wait for nobody
  const NormAhead norm(a);
  grid_dependency_sync();
  Finish<F, kRows> finish(a);
  finish.go_to(blockIdx.x);
  stage_rows<F, kRows>(a, sizes, norm, x, group_sums, squares);
  finish.take_norm(squares);
  int turn = 0;
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x, turn ^= 1) {
    Sums<F, kRows> sums;
    for (int batch = 0; batch < sizes.batches; ++batch) {
      int next = batch + 1;
      bool more = true;
      if (next == sizes.batches) {
        next = 0, more = tile + gridDim.x < tiles;
        if (more) reader.go_to(tile + gridDim.x);
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const uint4 low = ahead.low[i], high = ahead.high[i];
        const uint32_t low_scale = ahead.low_scale[F::kGrouped ? i : 0],
                       high_scale = ahead.high_scale[F::kGrouped ? i : 0];
        if (more) reader.load(ahead, next, i);
        const int step = sizes.step(batch, i, warp);
        if (step < sizes.steps) sums.add(low, high, low_scale, high_scale, sizes, x, group_sums, step, lane);
      }
    }
    float own[4];
    sums.finish(own, lane);
    const int column = 2 * (lane % kQuad), output = lane / kQuad;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (column + i % 2 < kRows) partial[turn][warp][column + i % 2][output + i / 2 * 8] = own[i];
    }
    __syncthreads();
    finish.write(tile, partial[turn]);
    if (tile + gridDim.x < tiles) finish.go_to(tile + gridDim.x);
  }
}

template <class F, int kRows>
void launch(const Args& args, cudaStream_t stream) {
  const int64_t bytes = Sizes<F>(args.inputs).shared_bytes(kRows);
  if (bytes > 40 * 1024) {
    const cudaError_t status = cudaFuncSetAttribute(
        multiply_packed<F, kRows>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
    if (status != cudaSuccess) cuda::refuse("quantised GEMV", cudaGetErrorString(status));
  }
  const int64_t outputs = args.gated ? args.outputs / 2 : args.outputs, tile = args.gated ? kTile / 2 : kTile;
  const int64_t blocks = std::min<int64_t>((outputs + tile - 1) / tile, int64_t{kBlocks} * multiprocessors());
  launch_dependent("quantised GEMV", multiply_packed<F, kRows>,
                   {dim3(static_cast<unsigned>(blocks)), kThreads, static_cast<size_t>(bytes), stream}, args);
}

template <class F>
void launch_rows(const Args& args, cudaStream_t stream) {
  switch (args.rows) {
    case 0: return;
    case 1: return launch<F, 1>(args, stream);
    case 2: return launch<F, 2>(args, stream);
    case 3: return launch<F, 3>(args, stream);
    case 4: return launch<F, 4>(args, stream);
    default: cuda::refuse("quantised GEMV", "more than 4 rows");
  }
}

// A thread a group.
__global__ void __launch_bounds__(kThreads)
    widen_int4_kernel(const uint8_t* values, const uint32_t* scales, bf16* out, int64_t groups) {
  const int64_t group = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (group >= groups) return;
  const uint4 raw = load_once(values + group * 16);
  const float2 scale = scale_and_least(scales[group]);
  const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    float f[kVector];
#pragma unroll
    for (int i = 0; i < kVector; ++i) {  // the even one is in a byte's high half
      f[i] = static_cast<float>(words[w] >> (i / 2 * 8 + (i % 2 ? 0 : 4)) & 15) * scale.x + scale.y;
    }
    store(out + group * kGroup + w * kVector, pack(f));
  }
}

}  // namespace

void quantised_gemv(const Args& args, void* stream) {
  if (!width_fits(args.format, args.inputs))
    cuda::refuse("quantised GEMV", "the inputs are not of whole 16-byte vectors");
  if (args.scales == nullptr || args.transposed || args.heads != 1)
    cuda::refuse("quantised GEMV", "not one matrix with scales");
  const auto on = static_cast<cudaStream_t>(stream);
  switch (args.format) {
    case Format::int8: return launch_rows<Int8>(args, on);
    case Format::fp8: return launch_rows<Fp8>(args, on);
    case Format::int4: return launch_rows<Int4>(args, on);
    default: cuda::refuse("quantised GEMV", "a matrix in bfloat16");
  }
}

void widen_int4(const void* values, const void* scales, void* out, int64_t weights, void* stream) {
  const int64_t groups = weights / kGroup;
  if (groups == 0) return;
  widen_int4_kernel<<<static_cast<unsigned>((groups + kThreads - 1) / kThreads), kThreads, 0,
                      static_cast<cudaStream_t>(stream)>>>(
      static_cast<const uint8_t*>(values), static_cast<const uint32_t*>(scales), static_cast<bf16*>(out), groups);
  check_launch("widening int4");
}

}  // namespace cepe::gemv_kernel
