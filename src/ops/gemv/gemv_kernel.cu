// GEMV with bfloat16 weights (docs/kernels/gemv.md): the matrix is read once, in 16-byte loads of which each thread has
// several in flight; the rows of x are in shared memory.
#include "ops/gemv/gemv_kernel.h"

#include "ops/cuda/bf16_vector.cuh"
#include "ops/cuda/cache_policy.cuh"

namespace cepe::gemv_kernel {
namespace {

using namespace cuda;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kOutputs = 2;  // of a warp at a time: they share what is read of x
constexpr int kAhead = 4;    // vectors of each output that a thread has on their way while it multiplies as many

__device__ __forceinline__ Vector load_weights(const bf16* p) {
  const uint4 raw = load_once(p);
  return reinterpret_cast<const Vector&>(raw);
}

struct Ahead {
  Vector w[kOutputs][kAhead];
};

// What lane `lane` multiplies from vector `first` on.
__device__ __forceinline__ void load_ahead(Ahead& to, const bf16* const (&rows)[kOutputs], int first, int vectors) {
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    const int at = first + i * kWarp;
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
      if (at < vectors) to.w[o][i] = load_weights(rows[o] + at * kVector);
    }
  }
}

template <int kRows>
__device__ __forceinline__ void add_products(float (&sums)[kOutputs][kRows], const Ahead& from, const bf16* x,
                                             int first, int vectors) {
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    const int at = first + i * kWarp;
    if (at >= vectors) continue;
    float w[kOutputs][kVector];
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) unpack(from.w[o][i], w[o]);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float row[kVector];
      unpack(load(x + (r * vectors + at) * kVector), row);
#pragma unroll
      for (int o = 0; o < kOutputs; ++o) {
#pragma unroll
        for (int k = 0; k < kVector; ++k) sums[o][r] += w[o][k] * row[k];
      }
    }
  }
}

// The outputs of a warp: two that follow each other, or the gate and the up value of one.
struct Outputs {
  int64_t at[kOutputs];
  bool inside[kOutputs];

  __device__ Outputs(const Args& a, int64_t warp) {
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
      const int64_t first = a.gated ? warp + o * (a.outputs / 2) : warp * kOutputs + o;
      inside[o] = a.gated ? warp < a.outputs / 2 : first < a.outputs;
      at[o] = inside[o] ? first : 0;
    }
  }
};

// Rows of x of one head into shared memory, times the norm's weights where there are some: what is left of the norm is
// one factor a row, which the sums take.
template <int kRows>
__device__ __forceinline__ void stage_rows(const Args& a, int64_t head, bf16* x, float (&factors)[kRows]) {
  __shared__ float squares[kRows][kWarps];
  const int vectors = static_cast<int>(a.inputs / kVector);
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const bf16* const from = static_cast<const bf16*>(a.x) + (r * a.heads + head) * a.inputs;
    float sum = 0;
    for (int at = threadIdx.x; at < vectors; at += kThreads) {
      Vector v = load(from + at * kVector);
      if (a.norm != nullptr) {
        float f[kVector], norm[kVector];
        unpack(v, f);
        unpack(load(static_cast<const bf16*>(a.norm) + at * kVector), norm);
#pragma unroll
        for (int k = 0; k < kVector; ++k) sum += f[k] * f[k], f[k] *= norm[k];
        v = pack(f);
      }
      store(x + (r * vectors + at) * kVector, v);
    }
    if (a.norm != nullptr) {
      sum = warp_sum(sum);
      if (threadIdx.x % kWarp == 0) squares[r][threadIdx.x / kWarp] = sum;
    }
    factors[r] = 1;
  }
  __syncthreads();
  if (a.norm == nullptr) return;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += squares[r][w];
    factors[r] = rsqrtf(sum / static_cast<float>(a.inputs) + a.eps);
  }
}

// What lane kRows * o + r adds to output o of row r.
template <int kRows>
__device__ __forceinline__ float addend(const Args& a, const Outputs& outputs, int lane) {
  float sum = 0;
#pragma unroll
  for (int o = 0; o < kOutputs; ++o) {
    if (lane / kRows != o || !outputs.inside[o]) continue;
    if (a.bias != nullptr) sum += __bfloat162float(static_cast<const bf16*>(a.bias)[outputs.at[o]]);
    if (a.residual != nullptr)
      sum += __bfloat162float(static_cast<const bf16*>(a.residual)[lane % kRows * a.outputs + outputs.at[o]]);
  }
  return sum;
}

// Head blockIdx.y; each warp two outputs.
template <int kRows>
__global__ void __launch_bounds__(kThreads, 2) multiply_rows(const Args a) {
  extern __shared__ __align__(16) bf16 x[];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, vectors = static_cast<int>(a.inputs / kVector);
  const int64_t head = blockIdx.y;
  const Outputs outputs(a, blockIdx.x * kWarps + warp);
  const bf16* rows[kOutputs];
#pragma unroll
  for (int o = 0; o < kOutputs; ++o) {
    rows[o] = static_cast<const bf16*>(a.weight) + (head * a.outputs + outputs.at[o]) * a.inputs;
  }
  trigger_dependents();
  Ahead next;
  load_ahead(next, rows, lane, vectors);  // weights wait for nobody
  grid_dependency_sync();
  const float added = addend<kRows>(a, outputs, lane);
  float factors[kRows];
  stage_rows<kRows>(a, head, x, factors);
  float sums[kOutputs][kRows] = {};
  for (int first = lane; first < vectors; first += kWarp * kAhead) {
    const Ahead now = next;
    load_ahead(next, rows, first + kWarp * kAhead, vectors);
    add_products<kRows>(sums, now, x, first, vectors);
  }
  float mine = 0, other = 0;  // of lane kRows * o + r: output o of row r; of lane r: output 1 of row r
#pragma unroll
  for (int o = 0; o < kOutputs; ++o) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float sum = warp_sum(sums[o][r]) * factors[r];
      if (lane == o * kRows + r) mine = sum;
      if (o == 1 && lane == r) other = sum;
    }
  }
  bf16* const out = static_cast<bf16*>(a.out);
  if (a.gated) {
    const float up = other + __shfl_down_sync(~0u, added, kRows);
    const float gate = mine + added;
    if (lane < kRows && outputs.inside[0])
      out[lane * (a.outputs / 2) + outputs.at[0]] = __float2bfloat16_rn(gate * sigmoid(gate) * up);
    return;
  }
#pragma unroll
  for (int o = 0; o < kOutputs; ++o) {
    if (lane / kRows == o && outputs.inside[o]) {
      out[(lane % kRows * a.heads + head) * a.outputs + outputs.at[o]] = __float2bfloat16_rn(mine + added);
    }
  }
}

// Head blockIdx.y, 256 outputs: a warp across them, 8 each, the warps take the inputs in turn.
template <int kRows>
__global__ void __launch_bounds__(kThreads, 2) multiply_columns(const Args a) {
  __shared__ float partial[kWarps][kRows][kWarp * kVector];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int64_t head = blockIdx.y, output = (blockIdx.x * kWarp + lane) * kVector;
  const bf16* const x = static_cast<const bf16*>(a.x) + head * a.inputs;
  const bf16* const weight = static_cast<const bf16*>(a.weight) + head * a.inputs * a.outputs + output;
  trigger_dependents();
  grid_dependency_sync();
  float sums[kRows][kVector] = {};
  if (output < a.outputs) {
#pragma unroll 8
    for (int64_t i = warp; i < a.inputs; i += kWarps) {
      float w[kVector];
      unpack(load_weights(weight + i * a.outputs), w);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float factor = __bfloat162float(x[r * a.heads * a.inputs + i]);
#pragma unroll
        for (int k = 0; k < kVector; ++k) sums[r][k] += factor * w[k];
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int k = 0; k < kVector; ++k) partial[warp][r][lane * kVector + k] = sums[r][k];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kRows * kWarp * kVector; i += kThreads) {
    const int row = i / (kWarp * kVector), at = i % (kWarp * kVector);
    const int64_t to = blockIdx.x * kWarp * kVector + at;
    if (to >= a.outputs) continue;
    float sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += partial[w][row][at];
    static_cast<bf16*>(a.out)[(row * a.heads + head) * a.outputs + to] = __float2bfloat16_rn(sum);
  }
}

template <int kRows>
void launch(const Args& args, cudaStream_t stream) {
  if (args.transposed) {
    const dim3 grid(static_cast<unsigned>((args.outputs + kWarp * kVector - 1) / (kWarp * kVector)),
                    static_cast<unsigned>(args.heads));
    launch_dependent("GEMV", multiply_columns<kRows>, {grid, kThreads, 0, stream}, args);
  } else {
    const int64_t outputs = kWarps * kOutputs, bytes = kRows * args.inputs * 2;
    const dim3 grid(static_cast<unsigned>((args.outputs + outputs - 1) / outputs), static_cast<unsigned>(args.heads));
    if (bytes > 48 * 1024) {
      const cudaError_t status = cudaFuncSetAttribute(multiply_rows<kRows>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                      static_cast<int>(bytes));
      if (status != cudaSuccess) cuda::refuse("GEMV", cudaGetErrorString(status));
    }
    launch_dependent("GEMV", multiply_rows<kRows>, {grid, kThreads, static_cast<size_t>(bytes), stream}, args);
  }
}

}  // namespace

void gemv(const Args& args, void* stream) {
  if (!width_fits(args.inputs)) cuda::refuse("GEMV", "the inputs are not a multiple of 8 up to 24576");
  const bool plain = args.norm == nullptr && args.bias == nullptr && args.residual == nullptr && !args.gated;
  if (!plain && (args.transposed || args.heads != 1)) cuda::refuse("GEMV", "more than a product of several heads");
  if (args.format != Format::bf16) return quantised_gemv(args, stream);
  const auto on = static_cast<cudaStream_t>(stream);
  switch (args.rows) {
    case 0: return;
    case 1: return launch<1>(args, on);
    case 2: return launch<2>(args, on);
    case 3: return launch<3>(args, on);
    case 4: return launch<4>(args, on);
    default: cuda::refuse("GEMV", "more than 4 rows");
  }
}

}  // namespace cepe::gemv_kernel
