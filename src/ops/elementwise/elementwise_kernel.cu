#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <type_traits>

#include "ops/cuda/bf16_vector.cuh"
#include "ops/elementwise/elementwise_kernel.h"

namespace cepe::fused {
namespace {

using namespace cuda;

// N consecutive values as float: one 16-byte access for N = 8, one element for N = 1.
template <int N>
__device__ __forceinline__ void load_floats(const bf16* p, float (&f)[N]) {
  if constexpr (N == kVector) {
    unpack(load(p), f);
  } else {
    static_assert(N == 1);
    f[0] = __bfloat162float(*p);
  }
}

template <int N>
__device__ __forceinline__ void store_floats(bf16* p, const float (&f)[N]) {
  if constexpr (N == kVector) {
    store(p, pack(f));
  } else {
    static_assert(N == 1);
    *p = __float2bfloat16_rn(f[0]);
  }
}

// ---------------------------------------------------------------------------------------------- rotary

// One item: N values of a head's first half and the N values of its second half that they turn with.
template <int N, typename Index>
__global__ void __launch_bounds__(256) rotary_kernel(const RotaryArgs a, Index items) {
  const Index half = static_cast<Index>(a.head_size / 2), groups = half / N;
  const Index heads = static_cast<Index>(a.heads), tokens = static_cast<Index>(a.tokens);
  const Index step = static_cast<Index>(gridDim.x) * blockDim.x;
  for (Index item = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; item < items; item += step) {
    const Index group = item % groups, rest = item / groups;
    const Index head = rest % heads, row = rest / heads;
    const int64_t token = row % tokens, batch = row / tokens;
    const int64_t k = static_cast<int64_t>(group) * N;
    const bf16* x = static_cast<const bf16*>(a.x) + batch * a.x_stride_batch + token * a.x_stride_token;
    bf16* y = static_cast<bf16*>(a.y) + batch * a.y_stride_batch + token * a.y_stride_token;
    x += head * a.x_stride_head + k;
    y += head * a.y_stride_head + k;
    const int64_t entry = (a.first + token) * half + k;
    float first[N], second[N], cosine[N], sine[N];
    load_floats<N>(x, first);
    load_floats<N>(x + half, second);
    if constexpr (N == kVector) {
#pragma unroll
      for (int i = 0; i < N; i += 4) {
        reinterpret_cast<float4&>(cosine[i]) = __ldg(reinterpret_cast<const float4*>(a.cos + entry + i));
        reinterpret_cast<float4&>(sine[i]) = __ldg(reinterpret_cast<const float4*>(a.sin + entry + i));
      }
    } else {
      cosine[0] = a.cos[entry];
      sine[0] = a.sin[entry];
    }
    float out_first[N], out_second[N];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float s = a.inverse ? -sine[i] : sine[i];
      out_first[i] = first[i] * cosine[i] - second[i] * s;
      out_second[i] = second[i] * cosine[i] + first[i] * s;
    }
    store_floats<N>(y, out_first);
    store_floats<N>(y + half, out_second);
  }
}

template <int N>
void launch_rotary(const RotaryArgs& args, cudaStream_t stream) {
  constexpr int threads = 256;
  const int64_t items = args.batch * args.tokens * args.heads * (args.head_size / 2 / N);
  // 32-bit division is several times cheaper; the margin keeps item + step from wrapping.
  if (items < (int64_t{1} << 31)) {
    rotary_kernel<N, uint32_t><<<blocks_for(items, threads), threads, 0, stream>>>(args, static_cast<uint32_t>(items));
  } else {
    rotary_kernel<N, int64_t><<<blocks_for(items, threads), threads, 0, stream>>>(args, items);
  }
}

// ---------------------------------------------------------------------------------------------- SwiGLU

// Where one item's N values of each operand begin.
struct SwigluPlaces {
  const bf16 *gate, *up;
};

template <int N>
__device__ __forceinline__ void swiglu_at(const SwigluPlaces& at, bf16* out) {
  float gate[N], up[N];
  load_floats<N>(at.gate, gate);
  load_floats<N>(at.up, up);
#pragma unroll
  for (int i = 0; i < N; ++i) gate[i] *= sigmoid(gate[i]) * up[i];
  store_floats<N>(out, gate);
}

template <int N>
__device__ __forceinline__ void swiglu_backward_at(const SwigluPlaces& at, const bf16* grad_out, bf16* grad_gate,
                                                   bf16* grad_up) {
  float grad[N], gate[N], up[N];
  load_floats<N>(grad_out, grad);
  load_floats<N>(at.gate, gate);
  load_floats<N>(at.up, up);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float s = sigmoid(gate[i]), silu = gate[i] * s;
    // silu'(g) = s + g s (1 - s) = s (1 + g - silu)
    const float of_gate = grad[i] * up[i] * s * (1.f + gate[i] - silu);
    up[i] = grad[i] * silu;
    gate[i] = of_gate;
  }
  store_floats<N>(grad_gate, gate);
  store_floats<N>(grad_up, up);
}

template <int N>
__device__ __forceinline__ void swiglu_at(const SwigluArgs& a, int64_t at) {
  swiglu_at<N>({static_cast<const bf16*>(a.gate) + at, static_cast<const bf16*>(a.up) + at},
               static_cast<bf16*>(a.out) + at);
}

template <int N>
__device__ __forceinline__ void swiglu_backward_at(const SwigluBackwardArgs& a, int64_t at) {
  swiglu_backward_at<N>({static_cast<const bf16*>(a.gate) + at, static_cast<const bf16*>(a.up) + at},
                        static_cast<const bf16*>(a.grad_out) + at, static_cast<bf16*>(a.grad_gate) + at,
                        static_cast<bf16*>(a.grad_up) + at);
}

// Whole vectors by the grid, the up to N - 1 values behind them by the first threads.
template <int N>
__global__ void __launch_bounds__(256) swiglu_kernel(const SwigluArgs a) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x, vectors = a.n / N;
  for (int64_t v = thread; v < vectors; v += step) swiglu_at<N>(a, v * N);
  if (vectors * N + thread < a.n) swiglu_at<1>(a, vectors * N + thread);
}

template <int N>
__global__ void __launch_bounds__(256) swiglu_backward_kernel(const SwigluBackwardArgs a) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x, vectors = a.n / N;
  for (int64_t v = thread; v < vectors; v += step) swiglu_backward_at<N>(a, v * N);
  if (vectors * N + thread < a.n) swiglu_backward_at<1>(a, vectors * N + thread);
}

// Gate and up in halves of a row: item i is N values of row i / (width / N).
template <int N, typename Index>
__global__ void __launch_bounds__(256) swiglu_halves_kernel(const SwigluHalvesArgs a, Index items) {
  const Index groups = static_cast<Index>(a.width / N), step = static_cast<Index>(gridDim.x) * blockDim.x;
  for (Index item = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; item < items; item += step) {
    const int64_t row = item / groups, column = static_cast<int64_t>(item % groups) * N;
    const bf16* gate = static_cast<const bf16*>(a.gate_up) + row * 2 * a.width + column;
    swiglu_at<N>({gate, gate + a.width}, static_cast<bf16*>(a.out) + row * a.width + column);
  }
}

template <int N, typename Index>
__global__ void __launch_bounds__(256) swiglu_halves_backward_kernel(const SwigluHalvesBackwardArgs a, Index items) {
  const Index groups = static_cast<Index>(a.width / N), step = static_cast<Index>(gridDim.x) * blockDim.x;
  for (Index item = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; item < items; item += step) {
    const int64_t row = item / groups, column = static_cast<int64_t>(item % groups) * N;
    const int64_t at = row * 2 * a.width + column;
    const bf16* gate = static_cast<const bf16*>(a.gate_up) + at;
    bf16* grad_gate = static_cast<bf16*>(a.grad_gate_up) + at;
    swiglu_backward_at<N>({gate, gate + a.width}, static_cast<const bf16*>(a.grad_out) + row * a.width + column,
                          grad_gate, grad_gate + a.width);
  }
}

// launch(N, items): N as a constant, the items in the type that the kernel counts them in. 32-bit division is several
// times cheaper; the margin keeps item + step from wrapping.
template <typename Launch>
void for_halves(int64_t numbers, bool vectors, const Launch& launch) {
  const int64_t items = vectors ? numbers / kVector : numbers;
  const auto counted = [&](auto n) {
    if (items < (int64_t{1} << 31)) {
      launch(n, static_cast<uint32_t>(items));
    } else {
      launch(n, items);
    }
  };
  vectors ? counted(std::integral_constant<int, kVector>()) : counted(std::integral_constant<int, 1>());
}

// ---------------------------------------------------------------------------------------------- RMS norm

constexpr int kNormWarps = 8;  // rows in flight in one block

// One warp a row, VECTORS vectors a lane: vector j of lane l holds columns (j * 32 + l) * 8 and the seven after it.
template <int VECTORS>
__global__ void __launch_bounds__(kNormWarps* kWarp) rms_norm_kernel(const RmsNormArgs a) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int width = static_cast<int>(a.width), vectors = width / kVector;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kNormWarps;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * kNormWarps + warp; row < a.rows; row += step) {
    const int64_t start = row * width;
    Vector s[VECTORS];
    float squares = 0.f;
#pragma unroll
    for (int j = 0; j < VECTORS; ++j) {
      if (j * kWarp + lane < vectors) s[j] = load(static_cast<const bf16*>(a.x) + start + (j * kWarp + lane) * kVector);
    }
#pragma unroll
    for (int j = 0; j < VECTORS; ++j) {
      const int v = j * kWarp + lane;
      if (v >= vectors) continue;
      float f[kVector];
      unpack(s[j], f);
      if (a.addend != nullptr) {
        float more[kVector];
        load_floats<kVector>(static_cast<const bf16*>(a.addend) + start + v * kVector, more);
#pragma unroll
        for (int i = 0; i < kVector; ++i) f[i] += more[i];
        s[j] = pack(f);
        store(static_cast<bf16*>(a.sum) + start + v * kVector, s[j]);
        unpack(s[j], f);  // what is normalised is what is stored, rounded
      }
#pragma unroll
      for (int i = 0; i < kVector; ++i) squares += f[i] * f[i];
    }
    const float rstd = rsqrtf(warp_sum(squares) / width + a.eps);
    if (lane == 0) a.rstd[row] = rstd;
#pragma unroll
    for (int j = 0; j < VECTORS; ++j) {
      const int v = j * kWarp + lane;
      if (v >= vectors) continue;
      float f[kVector], weight[kVector];
      unpack(s[j], f);
      load_floats<kVector>(static_cast<const bf16*>(a.weight) + v * kVector, weight);
#pragma unroll
      for (int i = 0; i < kVector; ++i) f[i] *= rstd * weight[i];
      store(static_cast<bf16*>(a.y) + start + v * kVector, pack(f));
    }
  }
}

// A row wider than a warp's registers hold: one block of threads a row, VECTORS vectors a thread, strided by the block.
constexpr int kWideThreads = 512;

template <int VECTORS>
__global__ void __launch_bounds__(kWideThreads) wide_rms_norm_kernel(const RmsNormArgs a) {
  __shared__ float shared[2][kWideThreads / kWarp];  // of this row and the next: one barrier a row is enough
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int width = static_cast<int>(a.width), vectors = width / kVector;
  int turn = 0;
  trigger_dependents();
  grid_dependency_sync();
  for (int64_t row = blockIdx.x; row < a.rows; row += gridDim.x, turn ^= 1) {
    const int64_t start = row * width;
    Vector s[VECTORS];
    float squares = 0.f;
#pragma unroll
    for (int j = 0; j < VECTORS; ++j) {
      const int v = j * kWideThreads + threadIdx.x;
      if (v >= vectors) continue;
      s[j] = load(static_cast<const bf16*>(a.x) + start + v * kVector);
      float f[kVector];
      unpack(s[j], f);
      if (a.addend != nullptr) {
        float more[kVector];
        load_floats<kVector>(static_cast<const bf16*>(a.addend) + start + v * kVector, more);
#pragma unroll
        for (int i = 0; i < kVector; ++i) f[i] += more[i];
        s[j] = pack(f);
        store(static_cast<bf16*>(a.sum) + start + v * kVector, s[j]);
        unpack(s[j], f);  // what is normalised is what is stored, rounded
      }
#pragma unroll
      for (int i = 0; i < kVector; ++i) squares += f[i] * f[i];
    }
    squares = warp_sum(squares);
    if (lane == 0) shared[turn][warp] = squares;
    __syncthreads();
    float total = 0.f;
#pragma unroll
    for (int w = 0; w < kWideThreads / kWarp; ++w) total += shared[turn][w];
    const float rstd = rsqrtf(total / width + a.eps);
    if (threadIdx.x == 0) a.rstd[row] = rstd;
#pragma unroll
    for (int j = 0; j < VECTORS; ++j) {
      const int v = j * kWideThreads + threadIdx.x;
      if (v >= vectors) continue;
      float f[kVector], weight[kVector];
      unpack(s[j], f);
      load_floats<kVector>(static_cast<const bf16*>(a.weight) + v * kVector, weight);
#pragma unroll
      for (int i = 0; i < kVector; ++i) f[i] *= rstd * weight[i];
      store(static_cast<bf16*>(a.y) + start + v * kVector, pack(f));
    }
  }
}

// Sums each column over a block's warps and writes the block's row of `partial`.
template <int VECTORS>
__device__ __forceinline__ void write_partial(const float (&sums)[VECTORS][kVector], float* partial, int width) {
  __shared__ float shared[kNormWarps][kWarp * kVector + kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
#pragma unroll
  for (int j = 0; j < VECTORS; ++j) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kVector; ++i) shared[warp][lane * (kVector + 1) + i] = sums[j][i];
    __syncthreads();
    const int at = threadIdx.x, column = j * kWarp * kVector + at;  // one column a thread
    static_assert(kNormWarps * kWarp == kWarp * kVector);
    if (column < width) {
      float total = 0.f;
#pragma unroll
      for (int w = 0; w < kNormWarps; ++w) total += shared[w][at / kVector * (kVector + 1) + at % kVector];
      partial[static_cast<int64_t>(blockIdx.x) * width + column] = total;
    }
  }
}

// With h = s * rstd and g = grad_y * weight: grad_s = rstd * (g - h * mean(g h)); grad_weight sums grad_y h over rows.
template <int VECTORS, bool WEIGHT_GRAD>
__global__ void __launch_bounds__(kNormWarps* kWarp) rms_norm_backward_kernel(const RmsNormBackwardArgs a) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int width = static_cast<int>(a.width), vectors = width / kVector;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kNormWarps;
  [[maybe_unused]] float sums[VECTORS][kVector] = {};
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * kNormWarps + warp; row < a.rows; row += step) {
    const int64_t start = row * width;
    const float rstd = a.rstd[row];
    Vector s[VECTORS], grad[VECTORS];
#pragma unroll
    for (int j = 0; j < VECTORS; ++j) {
      const int v = j * kWarp + lane;
      if (v >= vectors) continue;
      s[j] = load(static_cast<const bf16*>(a.s) + start + v * kVector);
      grad[j] = load(static_cast<const bf16*>(a.grad_y) + start + v * kVector);
    }
    float dot = 0.f;
#pragma unroll
    for (int j = 0; j < VECTORS; ++j) {
      const int v = j * kWarp + lane;
      if (v >= vectors) continue;
      float h[kVector], g[kVector], weight[kVector];
      unpack(s[j], h);
      unpack(grad[j], g);
      load_floats<kVector>(static_cast<const bf16*>(a.weight) + v * kVector, weight);
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        h[i] *= rstd;
        if constexpr (WEIGHT_GRAD) sums[j][i] += g[i] * h[i];
        dot += g[i] * weight[i] * h[i];
      }
    }
    const float mean = warp_sum(dot) / width;
#pragma unroll
    for (int j = 0; j < VECTORS; ++j) {
      const int v = j * kWarp + lane;
      if (v >= vectors) continue;
      float h[kVector], g[kVector], weight[kVector], more[kVector] = {};
      unpack(s[j], h);
      unpack(grad[j], g);
      load_floats<kVector>(static_cast<const bf16*>(a.weight) + v * kVector, weight);
      if (a.grad_sum != nullptr) load_floats<kVector>(static_cast<const bf16*>(a.grad_sum) + start + v * kVector, more);
#pragma unroll
      for (int i = 0; i < kVector; ++i) g[i] = rstd * (g[i] * weight[i] - h[i] * rstd * mean) + more[i];
      store(static_cast<bf16*>(a.grad_s) + start + v * kVector, pack(g));
    }
  }
  if constexpr (WEIGHT_GRAD) write_partial<VECTORS>(sums, a.partial, width);
}

// grad_weight[c] = sum over the rows of partial; 32 columns a block, its 8 warps share the rows.
__global__ void __launch_bounds__(kNormWarps* kWarp)
    sum_partial_kernel(const float* partial, bf16* grad_weight, int rows, int width) {
  __shared__ float shared[kNormWarps][kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, column = blockIdx.x * kWarp + lane;
  float total = 0.f;
  if (column < width) {
    for (int row = warp; row < rows; row += kNormWarps) total += partial[static_cast<int64_t>(row) * width + column];
  }
  shared[warp][lane] = total;
  __syncthreads();
  if (warp == 0 && column < width) {
    total = 0.f;
#pragma unroll
    for (int w = 0; w < kNormWarps; ++w) total += shared[w][lane];
    grad_weight[column] = __float2bfloat16_rn(total);
  }
}

template <int VECTORS>
void launch_rms_norm(const RmsNormArgs& args, cudaStream_t stream) {
  rms_norm_kernel<VECTORS><<<blocks_for(args.rows * kWarp, kNormWarps * kWarp), kNormWarps * kWarp, 0, stream>>>(args);
}

void launch_wide_rms_norm(const RmsNormArgs& args, cudaStream_t stream) {
  const int64_t rows = std::min<int64_t>(args.rows, int64_t{32} * multiprocessors());
  const LaunchShape how{dim3(static_cast<unsigned>(rows)), kWideThreads, 0, stream};
  const int64_t vectors = (args.width / kVector + kWideThreads - 1) / kWideThreads;
  if (vectors <= 1) {
    launch_dependent("rms_norm", wide_rms_norm_kernel<1>, how, args);
  } else if (vectors <= 2) {
    launch_dependent("rms_norm", wide_rms_norm_kernel<2>, how, args);
  } else {
    launch_dependent("rms_norm", wide_rms_norm_kernel<4>, how, args);
  }
}

template <int VECTORS>
void launch_rms_norm_backward(const RmsNormBackwardArgs& args, cudaStream_t stream) {
  constexpr int threads = kNormWarps * kWarp;
  if (args.grad_weight == nullptr) {
    rms_norm_backward_kernel<VECTORS, false><<<blocks_for(args.rows * kWarp, threads), threads, 0, stream>>>(args);
    return;
  }
  const int blocks = static_cast<int>(norm_partial_rows(args.rows)), width = static_cast<int>(args.width);
  rms_norm_backward_kernel<VECTORS, true><<<blocks, threads, 0, stream>>>(args);
  bf16* grad_weight = static_cast<bf16*>(args.grad_weight);
  sum_partial_kernel<<<(width + kWarp - 1) / kWarp, threads, 0, stream>>>(args.partial, grad_weight, blocks, width);
}

// Calls f with the smallest compiled number of vectors a lane that holds a row.
template <typename F>
void for_width(int64_t width, F f) {
  if (!norm_width_fits(width)) cuda::refuse("rms_norm", "the width is not a multiple of 8 up to dispatch::kNormWidth");
  const int64_t vectors = (width + kWarp * kVector - 1) / (kWarp * kVector);
  if (vectors <= 1) return f(std::integral_constant<int, 1>());
  if (vectors <= 2) return f(std::integral_constant<int, 2>());
  if (vectors <= 3) return f(std::integral_constant<int, 3>());
  if (vectors <= 4) return f(std::integral_constant<int, 4>());
  return f(std::integral_constant<int, 8>());
}

// ---------------------------------------------------------------------------------------------- parts of attention

// A thread takes a vector of a row; heads of a token come one after another, as they mostly lie in memory.
__global__ void merge_attention_kernel(const MergeAttentionArgs a, uint32_t vectors, uint32_t all) {
  const uint32_t H = static_cast<uint32_t>(a.heads), N = static_cast<uint32_t>(a.rows);
  for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < all; i += gridDim.x * blockDim.x) {
    const uint32_t part = i % vectors, row = i / vectors, h = row % H, n = row / H % N, c = row / H / N;
    const int64_t at = (int64_t{c} * H + h) * N + n;
    const int64_t offset = c * a.stride_context + h * a.stride_head + n * a.stride_row + part * kVector;
    const float mine = a.log_sum_exp[at], before = a.before != nullptr ? a.before[at] : -INFINITY;
    const float top = isnan(mine) ? mine : fmaxf(mine, before);
    const float merged = top == -INFINITY ? top : top + logf(expf(mine - top) + expf(before - top));
    const float weight = top == -INFINITY ? 0.f : expf(mine - merged);
    const float kept = top == -INFINITY ? 0.f : expf(before - merged);
    float out[kVector];
    load_floats<kVector>(static_cast<const bf16*>(a.out) + offset, out);
    float4* sum = reinterpret_cast<float4*>(a.sum + offset);
#pragma unroll
    for (int j = 0; j < kVector / 4; ++j) {
      const float4 old = a.before != nullptr ? sum[j] : float4{0.f, 0.f, 0.f, 0.f};
      // A part without a real token may hold anything where its weight is 0.
      const auto add = [&](float x, float y) { return kept * x + (weight == 0.f ? 0.f : weight * y); };
      sum[j] = {add(old.x, out[4 * j]), add(old.y, out[4 * j + 1]), add(old.z, out[4 * j + 2]),
                add(old.w, out[4 * j + 3])};
    }
    if (part == 0) a.merged[at] = merged;
  }
}

// ---------------------------------------------------------------------------------------------- cross-entropy

constexpr int kEntropyThreads = 1024;
// Blocks for which a multiprocessor has registers; cards of these capabilities hold 1,536 threads, so one block.
#if __CUDA_ARCH__ == 860 || __CUDA_ARCH__ == 870 || __CUDA_ARCH__ == 890 || __CUDA_ARCH__ >= 1200
constexpr int kEntropyBlocks = 1;
#else
constexpr int kEntropyBlocks = 2;
#endif
constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

// A running softmax denominator: sum of 2^(x - max) over what was seen, x in units of log 2.
struct Denominator {
  float max = -INFINITY, sum = 0.f;

  __device__ __forceinline__ void merge(float other_max, float other_sum) {
    const float top = fmaxf(max, other_max);
    if (top == -INFINITY) return;
    sum = sum * exp2f(max - top) + other_sum * exp2f(other_max - top);
    max = top;
  }

  template <int N>
  __device__ __forceinline__ void add(const float (&x)[N]) {
    float top = x[0] * kLog2E;
#pragma unroll
    for (int i = 1; i < N; ++i) top = fmaxf(top, x[i] * kLog2E);
    if (top == -INFINITY) return;
    float part = 0.f;
#pragma unroll
    for (int i = 0; i < N; ++i) part += exp2f(x[i] * kLog2E - top);
    merge(top, part);
  }
};

// The whole block's denominator, in every thread.
__device__ Denominator block_merge(Denominator d) {
  __shared__ float maxima[kWarp], sums[kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const float max = __shfl_xor_sync(0xffffffffu, d.max, offset), sum = __shfl_xor_sync(0xffffffffu, d.sum, offset);
    d.merge(max, sum);
  }
  if (lane == 0) maxima[warp] = d.max, sums[warp] = d.sum;
  __syncthreads();
  Denominator total;
  for (int w = 0; w < kEntropyThreads / kWarp; ++w) total.merge(maxima[w], sums[w]);
  __syncthreads();  // the shared arrays serve the block's next row
  return total;
}

// A row as a few leading elements, aligned vectors, and a few trailing elements.
struct RowParts {
  int64_t head, vectors, tail;  // elements, vectors, elements
};

__device__ __forceinline__ RowParts split_row(const bf16* row, int64_t n) {
  const int64_t ahead = (16 - static_cast<int64_t>(reinterpret_cast<uintptr_t>(row) % 16)) % 16 / sizeof(bf16);
  const int64_t head = ahead < n ? ahead : n;
  return {head, (n - head) / kVector, (n - head) % kVector};
}

// A warp shuffle of -inf maxima is harmless: merge() skips it. One block a row; the second reading of the row finds
// most of it in the L2 cache.
__global__ void __launch_bounds__(kEntropyThreads, kEntropyBlocks) cross_entropy_kernel(const CrossEntropyArgs a) {
  for (int64_t r = blockIdx.x; r < a.rows; r += gridDim.x) {
    bf16* row = static_cast<bf16*>(a.logits) + r * a.vocabulary;
    const RowParts parts = split_row(row, a.vocabulary);
    bf16* body = row + parts.head;
    bf16* tail = body + parts.vectors * kVector;
    const int64_t label = a.labels[r];
    const bool scored = label >= 0, valid = label < a.vocabulary;
    if (!scored) {
      if (threadIdx.x == 0) a.loss[r] = 0.f;
      if (!a.gradient) continue;
      const float zeros[kVector] = {};
      if (threadIdx.x < parts.head) row[threadIdx.x] = __float2bfloat16_rn(0.f);
      for (int64_t v = threadIdx.x; v < parts.vectors; v += kEntropyThreads) {
        store_floats<kVector>(body + v * kVector, zeros);
      }
      if (threadIdx.x < parts.tail) tail[threadIdx.x] = __float2bfloat16_rn(0.f);
      continue;
    }
    Denominator mine;
    float f[kVector], one[1];
    if (threadIdx.x < parts.head) load_floats<1>(row + threadIdx.x, one), mine.add(one);
#pragma unroll 2
    for (int64_t v = threadIdx.x; v < parts.vectors; v += kEntropyThreads) {
      load_floats<kVector>(body + v * kVector, f);
      mine.add(f);
    }
    if (threadIdx.x < parts.tail) load_floats<1>(tail + threadIdx.x, one), mine.add(one);
    // Before the barriers inside block_merge, for afterwards the row is overwritten.
    const float label_logit = threadIdx.x == 0 && valid ? __bfloat162float(row[label]) : 0.f;
    const Denominator total = block_merge(mine);
    const float log2_sum = total.max + log2f(total.sum);  // log2 of sum of exp(logit)
    if (threadIdx.x == 0) a.loss[r] = valid ? log2_sum * kLn2 - label_logit : NAN;
    if (!a.gradient) continue;
    const auto gradient = [&](float x, int64_t column) {
      return exp2f(x * kLog2E - log2_sum) - (column == label ? 1.f : 0.f);
    };
    const auto single = [&](bf16* p) { *p = __float2bfloat16_rn(gradient(__bfloat162float(*p), p - row)); };
    if (threadIdx.x < parts.head) single(row + threadIdx.x);
#pragma unroll 2
    for (int64_t v = threadIdx.x; v < parts.vectors; v += kEntropyThreads) {
      bf16* p = body + v * kVector;
      load_floats<kVector>(p, f);
#pragma unroll
      for (int i = 0; i < kVector; ++i) f[i] = gradient(f[i], parts.head + v * kVector + i);
      store_floats<kVector>(p, f);
    }
    if (threadIdx.x < parts.tail) single(tail + threadIdx.x);
  }
}

// ---------------------------------------------------------------------------------------------- packing

template <bool PACK>
__global__ void __launch_bounds__(256) move_rows_kernel(const PackRowsArgs a, int64_t items) {
  const int64_t row_vectors = a.row_bytes / 16, step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t item = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; item < items; item += step) {
    const int64_t row = item / row_vectors, at = item % row_vectors;
    const bool keep = a.keep[row];
    const int64_t packed = (static_cast<int64_t>(a.rank[row]) - 1) * row_vectors + at;
    const uint4* from = static_cast<const uint4*>(a.from);
    uint4* to = static_cast<uint4*>(a.to);
    if constexpr (PACK) {
      if (keep) to[packed] = from[item];
    } else {
      to[item] = keep ? from[packed] : uint4{0, 0, 0, 0};
    }
  }
}

template <bool PACK>
void move_rows(const PackRowsArgs& args, cudaStream_t stream) {
  if (args.row_bytes % 16 != 0 || !all_aligned(args.from, args.to))
    cuda::refuse("pack_rows", "rows are not 16-byte pieces");
  const int64_t items = args.rows * (args.row_bytes / 16);
  if (items == 0) return;
  move_rows_kernel<PACK><<<blocks_for(items, 256), 256, 0, stream>>>(args, items);
  check_launch(PACK ? "pack_rows" : "unpack_rows");
}

}  // namespace

void rotary(const RotaryArgs& a, void* stream) {
  if (a.head_size % 2 != 0) cuda::refuse("rotary", "the head size is odd");
  if (a.batch * a.tokens * a.heads * a.head_size == 0) return;
  const int64_t strides[] = {a.x_stride_batch, a.x_stride_token, a.x_stride_head,
                             a.y_stride_batch, a.y_stride_token, a.y_stride_head};
  const bool whole = std::all_of(std::begin(strides), std::end(strides), [](int64_t s) { return s % kVector == 0; });
  const bool vectors = whole && a.head_size / 2 % kVector == 0 && all_aligned(a.x, a.y, a.cos, a.sin);
  vectors ? launch_rotary<kVector>(a, as_stream(stream)) : launch_rotary<1>(a, as_stream(stream));
  check_launch("rotary");
}

void swiglu(const SwigluArgs& a, void* stream) {
  if (a.n == 0) return;
  if (all_aligned(a.gate, a.up, a.out)) {
    swiglu_kernel<kVector><<<blocks_for(a.n / kVector + 1, 256), 256, 0, as_stream(stream)>>>(a);
  } else {
    swiglu_kernel<1><<<blocks_for(a.n, 256), 256, 0, as_stream(stream)>>>(a);
  }
  check_launch("swiglu");
}

void swiglu_backward(const SwigluBackwardArgs& a, void* stream) {
  if (a.n == 0) return;
  if (all_aligned(a.grad_out, a.gate, a.up) && all_aligned(a.grad_gate, a.grad_up)) {
    swiglu_backward_kernel<kVector><<<blocks_for(a.n / kVector + 1, 256), 256, 0, as_stream(stream)>>>(a);
  } else {
    swiglu_backward_kernel<1><<<blocks_for(a.n, 256), 256, 0, as_stream(stream)>>>(a);
  }
  check_launch("swiglu_backward");
}

void swiglu_halves(const SwigluHalvesArgs& a, void* stream) {
  if (a.rows * a.width == 0) return;
  for_halves(a.rows * a.width, a.width % kVector == 0 && all_aligned(a.gate_up, a.out), [&](auto n, auto items) {
    swiglu_halves_kernel<n(), decltype(items)><<<blocks_for(items, 256), 256, 0, as_stream(stream)>>>(a, items);
  });
  check_launch("swiglu_halves");
}

void swiglu_halves_backward(const SwigluHalvesBackwardArgs& a, void* stream) {
  if (a.rows * a.width == 0) return;
  const bool vectors = a.width % kVector == 0 && all_aligned(a.grad_out, a.gate_up, a.grad_gate_up);
  for_halves(a.rows * a.width, vectors, [&](auto n, auto items) {
    swiglu_halves_backward_kernel<n(), decltype(items)>
        <<<blocks_for(items, 256), 256, 0, as_stream(stream)>>>(a, items);
  });
  check_launch("swiglu_halves_backward");
}

void rms_norm(const RmsNormArgs& args, void* stream) {
  if (args.rows == 0) return;
  if (args.width > dispatch::kNormWidth && norm_forward_width_fits(args.width)) {
    launch_wide_rms_norm(args, as_stream(stream));
  } else {
    for_width(args.width, [&](auto vectors) { launch_rms_norm<vectors()>(args, as_stream(stream)); });
  }
  check_launch("rms_norm");
}

// Two blocks a multiprocessor keep the memory busy; more would only make more rows to sum afterwards.
int64_t norm_partial_rows(int64_t rows) {
  return std::clamp<int64_t>((rows + kNormWarps - 1) / kNormWarps, 1, int64_t{2} * multiprocessors());
}

void rms_norm_backward(const RmsNormBackwardArgs& args, void* stream) {
  const bool scratch = args.partial != nullptr;
  if ((args.grad_weight != nullptr) != scratch) cuda::refuse("rms_norm_backward", "grad_weight without its scratch");
  if (args.rows == 0 && args.grad_weight == nullptr) return;
  for_width(args.width, [&](auto vectors) { launch_rms_norm_backward<vectors()>(args, as_stream(stream)); });
  check_launch("rms_norm_backward");
}

void merge_attention(const MergeAttentionArgs& args, void* stream) {
  const int64_t vectors = args.head_size / kVector, all = args.contexts * args.heads * args.rows * vectors;
  if (args.head_size % kVector != 0) cuda::refuse("merge_attention", "the head size is not a multiple of 8");
  if (all <= 0 || all >= int64_t{1} << 31)
    cuda::refuse("merge_attention", "no rows, or more than 2^31 vectors of them");
  constexpr int threads = 256;
  merge_attention_kernel<<<blocks_for(all, threads), threads, 0, as_stream(stream)>>>(
      args, static_cast<uint32_t>(vectors), static_cast<uint32_t>(all));
  check_launch("merge_attention");
}

void cross_entropy(const CrossEntropyArgs& args, void* stream) {
  if (args.rows == 0) return;
  if (args.vocabulary <= 0) cuda::refuse("cross_entropy", "the vocabulary is empty");
  const int64_t blocks = std::min<int64_t>(args.rows, int64_t{1} << 30);
  cross_entropy_kernel<<<static_cast<unsigned>(blocks), kEntropyThreads, 0, as_stream(stream)>>>(args);
  check_launch("cross_entropy");
}

void pack_rows(const PackRowsArgs& args, void* stream) { move_rows<true>(args, as_stream(stream)); }
void unpack_rows(const PackRowsArgs& args, void* stream) { move_rows<false>(args, as_stream(stream)); }

}  // namespace cepe::fused
