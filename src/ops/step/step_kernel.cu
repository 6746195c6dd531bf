#include <cmath>
#include <cstdint>

#include "ops/cuda/bf16_vector.cuh"
#include "ops/cuda/cluster.cuh"
#include "ops/step/step_kernel.h"

namespace cepe::step_kernel {
namespace {

using namespace cepe::cuda;

constexpr float kLog2E = 1.4426950408889634f;

// ---------------------------------------------------------------------------------------------- attention
//
// A cluster of blocks holds one sequence's key-value head and up to ROWS of the query heads that read it; each block
// takes an equal part of the cached tokens. In a block LANES lanes, 8 columns each, hold one token: THREADS / LANES
// streams of tokens, each with a softmax of its own (Milakov & Gimelshein 2018, arXiv 1805.02867). The streams are
// merged in shared memory, the blocks through the cluster's.

constexpr int kThreads = 128;
constexpr int kUnroll = 4;      // tokens of a stream that are loaded together
constexpr int kMostSplits = 8;  // the largest cluster that every device allows

// exp2(x - top), 0 for an x of -infinity, whatever the top.
__device__ __forceinline__ float weight_of(float x, float top) { return x == -INFINITY ? 0.f : exp2f(x - top); }

template <int LANES>
__device__ __forceinline__ float stream_sum(float x) {
#pragma unroll
  for (int offset = LANES / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

__device__ __forceinline__ void load_float8(const float* p, float (&f)[kVector]) {
#pragma unroll
  for (int i = 0; i < kVector; i += 4) {
    const float4 four = __ldg(reinterpret_cast<const float4*>(p + i));
    f[i] = four.x, f[i + 1] = four.y, f[i + 2] = four.z, f[i + 3] = four.w;
  }
}

// Eight columns, from `at`, of a head that is normalised where `norm` is given, and rotated. All lanes of a warp call
// it; `active`: the lane's columns exist (else zeros).
template <int LANES>
__device__ __forceinline__ void turned(const AttentionArgs& a, const bf16* head, const void* norm, int64_t position,
                                       int at, bool active, float (&out)[kVector]) {
  const int size = static_cast<int>(a.head_size), half = size / 2;
  const bool first = at < half;
  const int partner = first ? at + half : at - half;
  float own[kVector] = {}, other[kVector] = {}, cosine[kVector] = {}, sine[kVector] = {};
  if (active) {
    unpack(load(head + at), own);
    unpack(load(head + partner), other);
    const int64_t entry = position * half + (first ? at : partner);
    load_float8(a.cos + entry, cosine);
    load_float8(a.sin + entry, sine);
  }
  if (norm != nullptr) {
    float squares = 0.f;
#pragma unroll
    for (int i = 0; i < kVector; ++i) squares += own[i] * own[i];
    const float rstd = rsqrtf(stream_sum<LANES>(squares) / size + a.eps);
    if (active) {
      float own_weight[kVector], other_weight[kVector];
      unpack(load(static_cast<const bf16*>(norm) + at), own_weight);
      unpack(load(static_cast<const bf16*>(norm) + partner), other_weight);
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        own[i] *= rstd * own_weight[i];
        other[i] *= rstd * other_weight[i];
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    out[i] = own[i] * cosine[i] + (first ? -other[i] : other[i]) * sine[i];
  }
}

// What a stream, a block or a cluster has read so far for some rows; columns of the sums are spread over lanes.
template <int ROWS>
struct Softmax {
  float max[ROWS], sum[ROWS], out[ROWS][kVector];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      max[r] = -INFINITY;
      sum[r] = 0.f;
#pragma unroll
      for (int i = 0; i < kVector; ++i) out[r][i] = 0.f;
    }
  }
};

// Adds UNROLL tokens whose keys and values a stream has loaded; `present[u]` is the same in all its lanes.
template <int LANES, int ROWS, int UNROLL>
__device__ __forceinline__ void add_tokens(const float (&q)[ROWS][kVector], const Vector (&k)[UNROLL],
                                           const Vector (&v)[UNROLL], const bool (&present)[UNROLL],
                                           Softmax<ROWS>& state) {
  float scores[ROWS][UNROLL];
#pragma unroll
  for (int u = 0; u < UNROLL; ++u) {
    float key[kVector];
    unpack(k[u], key);
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      float dot = 0.f;
#pragma unroll
      for (int i = 0; i < kVector; ++i) dot += q[r][i] * key[i];
      scores[r][u] = dot;
    }
  }
#pragma unroll
  for (int r = 0; r < ROWS; ++r) {
    float top = state.max[r];
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
      const float score = stream_sum<LANES>(scores[r][u]);
      scores[r][u] = present[u] ? score : -INFINITY;
      top = fmaxf(top, scores[r][u]);
    }
    const float kept = weight_of(state.max[r], top);
    state.max[r] = top;
    state.sum[r] *= kept;
#pragma unroll
    for (int i = 0; i < kVector; ++i) state.out[r][i] *= kept;
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
      scores[r][u] = weight_of(scores[r][u], top);
      state.sum[r] += scores[r][u];
    }
  }
#pragma unroll
  for (int u = 0; u < UNROLL; ++u) {
    float value[kVector];
    unpack(v[u], value);
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
#pragma unroll
      for (int i = 0; i < kVector; ++i) state.out[r][i] += scores[r][u] * value[i];
    }
  }
}

// One cluster's place in the problem.
struct Place {
  int sequence, kv_head, first_row, rows;  // rows: of this cluster, at most ROWS
  int64_t position;
};

template <int ROWS>
__device__ __forceinline__ Place place_of(const AttentionArgs& a) {
  const int shared = static_cast<int>(a.heads / a.kv_heads), row_blocks = (shared + ROWS - 1) / ROWS;
  Place place;
  place.sequence = blockIdx.z;
  place.kv_head = blockIdx.y / row_blocks;
  place.first_row = blockIdx.y % row_blocks * ROWS;
  place.rows = min(ROWS, shared - place.first_row);
  place.position = a.positions[place.sequence];
  return place;
}

// The token itself, by the first block's first warp: into the cache, and into the first stream's softmax.
template <int LANES, int ROWS>
__device__ __forceinline__ void add_own_token(const AttentionArgs& a, const Place& place, const bf16* row,
                                              const float (&q)[ROWS][kVector], Softmax<ROWS>& state) {
  const int size = static_cast<int>(a.head_size), at = threadIdx.x % LANES * kVector;
  const bool active = at < size;
  const bf16* key = row + (a.heads + place.kv_head) * size;
  const bf16* value = key + a.kv_heads * size;
  float turned_key[kVector];
  turned<LANES>(a, key, a.k_norm, place.position, at, active, turned_key);
  const float zeros[kVector] = {};
  const bool mine = threadIdx.x < LANES;
  const Vector k[1] = {pack(turned_key)}, v[1] = {active ? load(value + at) : pack(zeros)};
  const bool present[1] = {mine};
  add_tokens<LANES, ROWS, 1>(q, k, v, present, state);
  if (mine && active && place.first_row == 0) {
    const int64_t slot = ((place.sequence * a.capacity + place.position) * a.kv_heads + place.kv_head) * size + at;
    store(static_cast<bf16*>(a.k_cache) + slot, k[0]);
    store(static_cast<bf16*>(a.v_cache) + slot, v[0]);
  }
}

// Cached tokens of a sequence's key-value head, up to `end`, spread over the block's streams; kRound of them at a time.
template <int LANES>
struct CachedTokens {
  static constexpr int kStreams = kThreads / LANES, kRound = kStreams * kUnroll;
  const bf16 *keys, *values;
  int64_t stride, end;
  bool active;

  struct Loaded {
    Vector k[kUnroll], v[kUnroll];
    bool present[kUnroll];
  };

  __device__ __forceinline__ CachedTokens(const AttentionArgs& a, const Place& place, int64_t end)
      : stride(a.kv_heads * a.head_size), end(end) {
    const int at = threadIdx.x % LANES * kVector;
    const int64_t head = place.sequence * a.capacity * stride + place.kv_head * a.head_size + at;
    keys = static_cast<const bf16*>(a.k_cache) + head, values = static_cast<const bf16*>(a.v_cache) + head;
    active = at < a.head_size;
  }
  __device__ __forceinline__ void load(Loaded& to, int64_t start) const {
    const float zeros[kVector] = {};
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int64_t token = start + u * kStreams + threadIdx.x / LANES;
      to.present[u] = token < end;
      const bool loads = to.present[u] && active;
      to.k[u] = loads ? cuda::load(keys + token * stride) : pack(zeros);
      to.v[u] = loads ? cuda::load(values + token * stride) : pack(zeros);
    }
  }
};

template <int LANES, int ROWS>
struct SharedParts {
  static constexpr int kStreams = kThreads / LANES, kColumns = LANES * kVector;
  float out[kStreams][ROWS][kColumns];
  float max[kStreams][ROWS], sum[kStreams][ROWS];
  // The block's, which the cluster reads.
  float block_out[ROWS][kColumns];
  float block_max[ROWS], block_sum[ROWS];
};

template <int LANES, int ROWS>
__device__ __forceinline__ void merge_streams(const Softmax<ROWS>& state, int size, SharedParts<LANES, ROWS>& parts) {
  constexpr int kStreams = kThreads / LANES;
  const int stream = threadIdx.x / LANES, at = threadIdx.x % LANES * kVector;
#pragma unroll
  for (int r = 0; r < ROWS; ++r) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) parts.out[stream][r][at + i] = state.out[r][i];
    if (at == 0) parts.max[stream][r] = state.max[r], parts.sum[stream][r] = state.sum[r];
  }
  __syncthreads();
  for (int item = threadIdx.x; item < ROWS * size; item += kThreads) {
    const int r = item / size, column = item % size;
    float top = -INFINITY, sum = 0.f, out = 0.f;
#pragma unroll
    for (int s = 0; s < kStreams; ++s) top = fmaxf(top, parts.max[s][r]);
#pragma unroll
    for (int s = 0; s < kStreams; ++s) {
      const float weight = weight_of(parts.max[s][r], top);
      out += weight * parts.out[s][r][column];
      sum += weight * parts.sum[s][r];
    }
    parts.block_out[r][column] = out;
    if (column == 0) parts.block_max[r] = top, parts.block_sum[r] = sum;
  }
}

// Each block writes its share of the rows' columns.
template <int LANES, int ROWS>
__device__ __forceinline__ void merge_blocks(const AttentionArgs& a, const Place& place,
                                             SharedParts<LANES, ROWS>& parts) {
  const Cluster cluster;
  const int blocks = cluster.blocks(), rank = cluster.rank();
  const int size = static_cast<int>(a.head_size);
  const int64_t first_head = place.kv_head * (a.heads / a.kv_heads) + place.first_row;
  bf16* to = static_cast<bf16*>(a.out) + (place.sequence * a.heads + first_head) * size;
  for (int item = rank * kThreads + threadIdx.x; item < place.rows * size; item += blocks * kThreads) {
    const int r = item / size, column = item % size;
    float maxima[kMostSplits], sums[kMostSplits], outs[kMostSplits];  // all on their way at once
#pragma unroll
    for (int b = 0; b < kMostSplits; ++b) {
      const bool there = b < blocks;
      maxima[b] = there ? *cluster.in_block(&parts.block_max[r], b) : -INFINITY;
      sums[b] = there ? *cluster.in_block(&parts.block_sum[r], b) : 0.f;
      outs[b] = there ? *cluster.in_block(&parts.block_out[r][column], b) : 0.f;
    }
    float top = -INFINITY, sum = 0.f, out = 0.f;
#pragma unroll
    for (int b = 0; b < kMostSplits; ++b) top = fmaxf(top, maxima[b]);
#pragma unroll
    for (int b = 0; b < kMostSplits; ++b) {
      const float weight = weight_of(maxima[b], top);
      out += weight * outs[b];
      sum += weight * sums[b];
    }
    to[item] = __float2bfloat16_rn(out / sum);
  }
}

// Blocks for which a multiprocessor must have registers. With one row that holds a block to 96 a thread, of which two
// fit beside a block of a GEMV chain; with more rows it is what they need.
template <int ROWS>
constexpr int kLeastBlocks = ROWS == 1   ? 5
                             : ROWS <= 4 ? 3
                                         : 2;

template <int LANES, int ROWS>
__global__ void __launch_bounds__(kThreads, kLeastBlocks<ROWS>) attention_kernel(const AttentionArgs a) {
  __shared__ SharedParts<LANES, ROWS> parts;
  trigger_dependents();
  grid_dependency_sync();
  const Cluster cluster;
  const int blocks = cluster.blocks(), rank = cluster.rank();
  const int size = static_cast<int>(a.head_size), at = threadIdx.x % LANES * kVector;
  const Place place = place_of<ROWS>(a);
  const int64_t first_head = place.kv_head * (a.heads / a.kv_heads) + place.first_row;
  if (place.position < 0 || place.position >= a.capacity) {  // the whole cluster leaves
    bf16* to = static_cast<bf16*>(a.out) + (place.sequence * a.heads + first_head) * size;
    for (int i = threadIdx.x; i < place.rows * size; i += kThreads) to[i] = __float2bfloat16_rn(NAN);
    return;
  }
  using Tokens = CachedTokens<LANES>;
  const int64_t share = (place.position + blocks - 1) / blocks, begin = rank * share;
  const Tokens tokens(a, place, min(begin + share, place.position));
  typename Tokens::Loaded now;
  tokens.load(now, begin);  // on its way while queries are turned
  const bf16* row = static_cast<const bf16*>(a.qkv) + place.sequence * (a.heads + 2 * a.kv_heads) * size;
  const float scale = kLog2E * rsqrtf(static_cast<float>(size));
  float q[ROWS][kVector];
#pragma unroll
  for (int r = 0; r < ROWS; ++r) {
    const bool active = at < size && r < place.rows;
    turned<LANES>(a, row + (first_head + (active ? r : 0)) * size, a.q_norm, place.position, at, active, q[r]);
#pragma unroll
    for (int i = 0; i < kVector; ++i) q[r][i] *= scale;
  }
  Softmax<ROWS> state;
  state.clear();
  if (rank == 0 && threadIdx.x < kWarp) add_own_token<LANES, ROWS>(a, place, row, q, state);
  for (int64_t start = begin; start < tokens.end; start += Tokens::kRound) {  // the same for the whole block
    if (start > begin) tokens.load(now, start);
    add_tokens<LANES, ROWS, kUnroll>(q, now.k, now.v, now.present, state);
  }
  merge_streams<LANES, ROWS>(state, size, parts);
  cluster.synchronise();
  merge_blocks<LANES, ROWS>(a, place, parts);
  cluster.synchronise();  // no block ends while another reads its shared memory
}

// Blocks of a cluster: twice the multiprocessors in all, each with some tokens to read when the cache is full. Without
// clusters one block reads all tokens.
int splits_of(const AttentionArgs& a, int64_t clusters) {
  if (!capability().dependent_launch) return 1;
  const auto enough = [&](int splits) {
    return clusters * splits >= 2 * multiprocessors() || dispatch::kStepTokensOfABlock * splits >= a.capacity;
  };
  int splits = kMostSplits;
  while (splits > 1 && enough(splits / 2)) splits /= 2;
  return splits;
}

template <int LANES, int ROWS>
void launch_attention(const AttentionArgs& args, cudaStream_t stream) {
  const int64_t heads = args.kv_heads * ((args.heads / args.kv_heads + ROWS - 1) / ROWS);
  const int splits = splits_of(args, heads * args.batch);
  cudaLaunchAttribute attributes[2] = {};
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = static_cast<unsigned>(splits);
  attributes[1].val.clusterDim.y = attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(splits), static_cast<unsigned>(heads), static_cast<unsigned>(args.batch));
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = 2 * dependent_attributes(attributes[0]);  // clusters where there are dependent launches
  const cudaError_t status = cudaLaunchKernelEx(&config, attention_kernel<LANES, ROWS>, args);
  if (status != cudaSuccess) cuda::refuse("step attention", cudaGetErrorString(status));
}

template <int LANES>
void launch_for_rows(const AttentionArgs& args, cudaStream_t stream) {
  const int64_t shared = args.heads / args.kv_heads;
  const bool few = args.batch * args.heads <= 2 * multiprocessors() && args.capacity <= dispatch::kStepShortCache;
  if (shared == 1 || few) return launch_attention<LANES, 1>(args, stream);
  if (shared <= 4) return launch_attention<LANES, 4>(args, stream);
  launch_attention<LANES, 8>(args, stream);
}

// ---------------------------------------------------------------------------------------------- SwiGLU

__global__ void __launch_bounds__(256) swiglu_kernel(const SwigluArgs a) {
  const int64_t vectors = a.width / kVector, step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  trigger_dependents();
  grid_dependency_sync();
  for (int64_t item = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; item < a.rows * vectors;
       item += step) {
    const int64_t row = item / vectors, at = item % vectors * kVector;
    const bf16* from = static_cast<const bf16*>(a.gate_up) + row * 2 * a.width + at;
    float gate[kVector], up[kVector];
    unpack(load(from), gate);
    unpack(load(from + a.width), up);
#pragma unroll
    for (int i = 0; i < kVector; ++i) gate[i] *= sigmoid(gate[i]) * up[i];
    store(static_cast<bf16*>(a.out) + item * kVector, pack(gate));
  }
}

}  // namespace

void attention(const AttentionArgs& a, void* stream) {
  if (a.batch == 0) return;
  const bool sizes = head_size_fits(a.head_size) && a.kv_heads > 0 && a.heads % a.kv_heads == 0 && a.capacity > 0;
  if (!sizes) cuda::refuse("step attention", "the head size or the number of heads does not fit");
  const bool pointers = all_aligned(a.qkv, a.cos, a.sin, a.k_cache, a.v_cache, a.out, a.q_norm, a.k_norm);
  if (!pointers) cuda::refuse("step attention", "a pointer is not aligned to 16 bytes");
  if (a.batch > 65535 || a.heads > 65535) cuda::refuse("step attention", "the batch is too large for a grid");
  if (a.head_size <= 64) return launch_for_rows<8>(a, as_stream(stream));
  if (a.head_size <= 128) return launch_for_rows<16>(a, as_stream(stream));
  launch_for_rows<32>(a, as_stream(stream));
}

void swiglu(const SwigluArgs& a, void* stream) {
  if (a.rows * a.width == 0) return;
  const bool pieces = a.width % kVector == 0 && all_aligned(a.gate_up, a.out);
  if (!pieces) cuda::refuse("step swiglu", "rows are not 16-byte pieces");
  const auto blocks = static_cast<unsigned>(blocks_for(a.rows * a.width / kVector, 256));
  launch_dependent("step swiglu", swiglu_kernel, {dim3(blocks), 256, 0, as_stream(stream)}, a);
}

}  // namespace cepe::step_kernel
