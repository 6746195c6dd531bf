// docs/kernels/fused_gemm.md has the derivation. Clusters of two blocks walk through tiles of 256 rows x 256 columns
// of the product, of which each block computes 128 rows: a warpgroup copies x and the weights, of which each block
// fetches half for both, and two multiply, 64 rows each, and write what follows.
#include "ops/gemm/fused_gemm_kernel.h"

#include "ops/cuda/bf16_vector.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/tensor_map.cuh"
#include "ops/dispatch.h"

namespace cepe::fused_gemm_kernel {
namespace {

using namespace cuda;
using namespace hopper;

constexpr int kCluster = 2;
constexpr int kBoxRows = 128;  // of x for a block, of weights that one block fetches
constexpr int kColumns = 2 * kBoxRows;
constexpr int kBoxBytes = kBoxRows * kRowBytes;
constexpr int kStageBytes = 3 * kBoxBytes;  // 64 inputs: x, and the weights of both blocks
constexpr int kStages = 4;
constexpr int kGroup = 128;  // threads of a warpgroup
constexpr int kThreads = 3 * kGroup;
constexpr int kGroupRows = 64;
constexpr int kChunkBytes = kGroupRows * kRowBytes;  // 64 x 64 results
constexpr int kStagedBytes = 2 * 2 * kChunkBytes;    // two of each warpgroup
constexpr int kSharedBytes = kStages * kStageBytes + kStagedBytes + 1024;
constexpr int kSums = kGroupRows * kColumns / kGroup;  // of a thread

struct Maps {
  CUtensorMap x, weights[3], out;
};
struct Problem {
  int row_tiles, column_tiles, tiles;
  int steps;                        // of 64 inputs
  bool rows_first;                  // tiles that are computed at the same time share columns, else rows
  int ends[2];                      // of q and k, in boxes of outputs
  int rows, tokens, first, turned;  // turned: columns of q and k
  const float *cos, *sin;
};

// A tile of the cluster: which rows this block computes of it, and which columns.
struct Tile {
  int row, column;
  __device__ __forceinline__ Tile(const Problem& p, int index, uint32_t rank) {
    const int row_tile = p.rows_first ? index % p.row_tiles : index / p.column_tiles;
    row = (row_tile * kCluster + static_cast<int>(rank)) * kBoxRows;
    column = p.rows_first ? index / p.row_tiles : index % p.column_tiles;
  }
};

struct Shared {
  char *ring, *staged;
  uint64_t *full, *empty;  // (kStages)
};

// ---- Copying

// The box of weights that this block fetches: of gate or up, else of q, k or v.
struct Box {
  int matrix, row;
};
template <bool kGated>
__device__ __forceinline__ Box box_of(const Problem& p, int column, uint32_t rank) {
  if constexpr (kGated) return {static_cast<int>(rank), column * kBoxRows};
  const int box = column * kCluster + static_cast<int>(rank);
  const int matrix = box < p.ends[0] ? 0 : box < p.ends[1] ? 1 : 2;
  return {matrix, (box - (matrix == 0 ? 0 : p.ends[matrix - 1])) * kBoxRows};
}

// One thread. A stage may be overwritten when the warpgroups of both blocks have read it.
template <bool kGated>
__device__ __forceinline__ void copy_tiles(const Maps& maps, const Problem& p, const Shared& shared, uint32_t rank) {
  RingPlace<kStages> at;
  for (int index = blockIdx.x / kCluster; index < p.tiles; index += gridDim.x / kCluster) {
    const Tile tile(p, index, rank);
    const Box box = box_of<kGated>(p, tile.column, rank);
    const CUtensorMap& weights = maps.weights[box.matrix];
    for (int step = 0; step < p.steps; ++step) {
      wait_cluster(shared.empty + at.slot, at.parity ^ 1);
      char* const to = shared.ring + at.slot * kStageBytes;
      arrive_expecting(shared.full + at.slot, kStageBytes);
      copy_box(to, maps.x, {0, tile.row, step, 0}, shared.full + at.slot);
      copy_box_to_blocks(to + (1 + rank) * kBoxBytes, weights, {0, box.row, step, 0}, shared.full + at.slot, 3);
      at.advance();
    }
  }
}

// ---- Multiplying

// Says to both blocks that this warpgroup has read a stage.
__device__ __forceinline__ void release(const Shared& shared, int slot, uint32_t other) {
  if (threadIdx.x % kGroup != 0) return;
  arrive(shared.empty + slot);
  arrive_in_block(other + slot * sizeof(uint64_t));
}

// Sums of the warpgroup's 64 rows with 256 columns; other: the empty barriers of the other block.
__device__ __forceinline__ void multiply_steps(const Problem& p, const Shared& shared, int group, uint32_t other,
                                               RingPlace<kStages>& at, float (&d)[kSums]) {
  int last = -1;
  for (int step = 0; step < p.steps; ++step) {
    wait_cluster(shared.full + at.slot, at.parity);
    const uint32_t x = shared_address(shared.ring + at.slot * kStageBytes), weights = x + kBoxBytes;
    begin_products();
#pragma unroll
    for (int k = 0; k < kRowBytes; k += 32) {
      multiply(d, operand(x + group * kGroupRows * kRowBytes + k), operand(weights + k), step > 0 || k > 0);
    }
    commit_products();
    if (last >= 0) {
      wait_products<1>();
      release(shared, last, other);
    }
    last = at.slot;
    at.advance();
  }
  wait_products<0>();
  release(shared, last, other);
}

// ---- Turning heads

// What a thread's two rows of sums are turned by; heads of kHead values.
template <int kHead>
struct Turns {
  static constexpr int kGroups = kHead / 16;  // groups of 8 columns of half a head
  float2 cos[2][kGroups], sin[2][kGroups];

  __device__ __forceinline__ void load(const Problem& p, const Tile& tile, int row) {
    const int first = threadIdx.x % 4 * 2;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int at_row = tile.row + row + r * 8;
      const bool there = at_row < p.rows && tile.column * kColumns < p.turned;
      const int entry = (p.first + at_row % p.tokens) * (kHead / 2) + first;
#pragma unroll
      for (int j = 0; j < kGroups; ++j) {
        cos[r][j] = there ? __ldg(reinterpret_cast<const float2*>(p.cos + entry + j * 8)) : make_float2(1, 1);
        sin[r][j] = there ? __ldg(reinterpret_cast<const float2*>(p.sin + entry + j * 8)) : make_float2(0, 0);
      }
    }
  }
  __device__ __forceinline__ void apply(const Problem& p, const Tile& tile, float (&d)[kSums]) const {
#pragma unroll
    for (int head = 0; head < kColumns / kHead; ++head) {
      if (tile.column * kColumns + head * kHead >= p.turned) continue;
#pragma unroll
      for (int i = 0; i < 4 * kGroups; ++i) {
        float &a = d[head * 8 * kGroups + i], &b = d[head * 8 * kGroups + 4 * kGroups + i];
        const int r = i / 2 % 2;
        const float c = i % 2 == 0 ? cos[r][i / 4].x : cos[r][i / 4].y;
        const float s = i % 2 == 0 ? sin[r][i / 4].x : sin[r][i / 4].y;
        const float turned = a * c - b * s;
        b = b * c + a * s;
        a = turned;
      }
    }
  }
};
template <>
struct Turns<0> {
  __device__ __forceinline__ void load(const Problem&, const Tile&, int) {}
  __device__ __forceinline__ void apply(const Problem&, const Tile&, float (&)[kSums]) const {}
};

// ---- Writing

template <bool kGated>
__device__ __forceinline__ uint32_t result(const float (&d)[kSums], int at) {
  float x = d[at], y = d[at + 1];
  if constexpr (kGated) x *= sigmoid(x) * d[kSums / 2 + at], y *= sigmoid(y) * d[kSums / 2 + at + 1];
  const __nv_bfloat162 two = __floats2bfloat162_rn(x, y);
  return reinterpret_cast<const uint32_t&>(two);
}

// 64 columns at a time through shared memory, where the copy engine fetches one chunk while the next is written.
template <bool kGated>
__device__ __forceinline__ void write(const Maps& maps, const Tile& tile, int group, char* staged,
                                      const float (&d)[kSums]) {
  constexpr int kChunks = kColumns / kChunk / (kGated ? 2 : 1);
  const int lane = threadIdx.x % kWarp, row = threadIdx.x / kWarp % 4 * 16 + lane % 16;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    char* const to = staged + c % 2 * kChunkBytes;
    if (threadIdx.x % kGroup == 0) wait_stores_read<1>();
    synchronise_group<kGroup>(1 + group);
#pragma unroll
    for (int j = 0; j < 8; j += 2) {  // groups of 8 columns
      const int at = (c * 8 + j) * 4;
      uint32_t tiles[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) tiles[i] = result<kGated>(d, at + 2 * i);
      store_tiles(shared_address(to) + row * kRowBytes + ((j + lane / 16) ^ row % 8) * 16, tiles);
    }
    publish_to_async();
    synchronise_group<kGroup>(1 + group);
    if (threadIdx.x % kGroup == 0) {
      store_box(maps.out, {0, tile.row + group * kGroupRows, tile.column * kChunks + c, 0}, to);
      commit_stores();
    }
  }
}

// kHead: of the heads that are turned; 0: silu(gate) * up.
template <int kHead>
__global__ void __cluster_dims__(kCluster, 1, 1) __launch_bounds__(kThreads, 1)
    multiply_tiles(const __grid_constant__ Maps maps, const __grid_constant__ Problem p) {
  constexpr bool kGated = kHead == 0;
  extern __shared__ __align__(1024) char memory[];
  __shared__ uint64_t barriers[2 * kStages];
  char* const ring = memory + (1024 - shared_address(memory) % 1024) % 1024;
  const Shared shared{ring, ring + kStages * kStageBytes, barriers, barriers + kStages};
  const uint32_t rank = cluster_rank();
  const int role = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / kGroup, 0);
  trigger_dependents();
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) init_barrier(shared.full + i, 1), init_barrier(shared.empty + i, 2 * kCluster);
    publish_barriers();
  }
  arrive_in_cluster();
  wait_for_cluster();
  if (role == 0) {
    give_registers<40>();
    if (threadIdx.x == 0) {
      grid_dependency_sync();
      copy_tiles<kGated>(maps, p, shared, rank);
    }
  } else {
    take_registers<232>();
    const int group = role - 1;
    const int row = group * kGroupRows + static_cast<int>(threadIdx.x) / kWarp % 4 * 16 + threadIdx.x % kWarp / 4;
    const uint32_t other = address_in_block(shared.empty, rank ^ 1);
    char* const staged = shared.staged + group * 2 * kChunkBytes;
    RingPlace<kStages> at;
    float d[kSums];
    grid_dependency_sync();
    for (int index = blockIdx.x / kCluster; index < p.tiles; index += gridDim.x / kCluster) {
      const Tile tile(p, index, rank);
      Turns<kHead> turns;
      turns.load(p, tile, row);
      multiply_steps(p, shared, group, other, at, d);
      turns.apply(p, tile, d);
      write<kGated>(maps, tile, group, staged, d);
    }
    if (threadIdx.x % kGroup == 0) wait_stores();
  }
  __syncwarp();
  arrive_in_cluster();  // no block ends while the other one copies into it
  wait_for_cluster();
}

// ---- The host's side

int most_clusters() { return std::max(1, multiprocessors() / kCluster); }

template <int kHead>
void launch(const Maps& maps, Problem p, void* stream) {
  const cudaError_t prepared =  // of the current device
      cudaFuncSetAttribute(multiply_tiles<kHead>, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  if (prepared != cudaSuccess) cuda::refuse("fused GEMM", cudaGetErrorString(prepared));
  p.tiles = p.row_tiles * p.column_tiles;
  const int clusters = std::min(most_clusters(), p.tiles);
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(clusters * kCluster));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = kSharedBytes;
  config.stream = as_stream(stream);
  config.attrs = &attribute;
  config.numAttrs = 1;
  const cudaError_t status = cudaLaunchKernelEx(&config, multiply_tiles<kHead>, maps, p);
  if (status != cudaSuccess) cuda::refuse("fused GEMM", cudaGetErrorString(status));
}

constexpr int64_t kMost = int64_t{1} << 30;

Problem problem_of(int64_t rows, int64_t inputs, int64_t column_tiles, int64_t weight_rows) {
  Problem p{};
  p.rows = static_cast<int>(rows), p.steps = static_cast<int>(inputs / kChunk);
  p.row_tiles = static_cast<int>((rows + kCluster * kBoxRows - 1) / (kCluster * kBoxRows));
  p.column_tiles = static_cast<int>(column_tiles);
  p.rows_first = rows < weight_rows;  // the smaller of the two stays in the second-level cache
  return p;
}

bool sizes_fit(int64_t rows, int64_t inputs) {
  return cuda::capability().hopper && rows > 0 && rows < kMost && inputs > 0 && inputs % kChunk == 0 && inputs < kMost;
}

bool fill(int64_t rows, int64_t column_tiles) {
  constexpr int64_t kTileRows = kCluster * kBoxRows;
  static_assert(kTileRows == dispatch::kFusedGemmRows);
  return dispatch::fused_gemm_pays(rows, (rows + kTileRows - 1) / kTileRows * column_tiles, most_clusters());
}

}  // namespace

bool pays(const SwigluArgs& a) { return fill(a.rows, a.outputs / kBoxRows); }
bool pays(const RotaryArgs& a) { return fill(a.rows, (a.q_outputs + 2 * a.kv_outputs) / kColumns); }

bool fits(const SwigluArgs& a) {
  return sizes_fit(a.rows, a.inputs) && a.outputs > 0 && a.outputs % kBoxRows == 0 && a.outputs < kMost &&
         all_aligned(a.x, a.gate, a.up, a.out);
}

bool fits(const RotaryArgs& a) {
  const auto boxes = [&](int64_t outputs) { return outputs > 0 && outputs < kMost && outputs % kBoxRows == 0; };
  return sizes_fit(a.rows, a.inputs) && (a.head_size == 64 || a.head_size == 128) && a.tokens > 0 && a.tokens < kMost &&
         a.first >= 0 && a.first < kMost && (a.first + a.tokens) * (a.head_size / 2) < kMost && boxes(a.q_outputs) &&
         boxes(a.kv_outputs) && a.q_outputs % kColumns == 0 && all_aligned(a.x, a.q, a.k, a.v, a.out, a.cos, a.sin);
}

void swiglu_gemm(const SwigluArgs& a, void* stream) {
  if (a.rows == 0) return;
  if (!fits(a)) cuda::refuse("fused GEMM", "its sizes are not those that it is made for");
  Maps maps;
  maps.x = map_of_chunks({a.x, 1, a.rows, a.inputs}, kBoxRows, 1);
  maps.weights[0] = map_of_chunks({a.gate, 1, a.outputs, a.inputs}, kBoxRows, 1);
  maps.weights[1] = maps.weights[2] = map_of_chunks({a.up, 1, a.outputs, a.inputs}, kBoxRows, 1);
  maps.out = map_of_chunks({a.out, 1, a.rows, a.outputs}, kGroupRows, 1);
  launch<0>(maps, problem_of(a.rows, a.inputs, a.outputs / kBoxRows, 2 * a.outputs), stream);
}

void rotary_gemm(const RotaryArgs& a, void* stream) {
  if (a.rows == 0) return;
  if (!fits(a)) cuda::refuse("fused GEMM", "its sizes are not those that it is made for");
  const int64_t outputs = a.q_outputs + 2 * a.kv_outputs;
  Maps maps;
  maps.x = map_of_chunks({a.x, 1, a.rows, a.inputs}, kBoxRows, 1);
  maps.weights[0] = map_of_chunks({a.q, 1, a.q_outputs, a.inputs}, kBoxRows, 1);
  maps.weights[1] = map_of_chunks({a.k, 1, a.kv_outputs, a.inputs}, kBoxRows, 1);
  maps.weights[2] = map_of_chunks({a.v, 1, a.kv_outputs, a.inputs}, kBoxRows, 1);
  maps.out = map_of_chunks({a.out, 1, a.rows, outputs}, kGroupRows, 1);
  Problem p = problem_of(a.rows, a.inputs, outputs / kColumns, outputs);
  p.ends[0] = static_cast<int>(a.q_outputs / kBoxRows);
  p.ends[1] = p.ends[0] + static_cast<int>(a.kv_outputs / kBoxRows);
  p.tokens = static_cast<int>(a.tokens), p.first = static_cast<int>(a.first);
  p.turned = static_cast<int>(a.q_outputs + a.kv_outputs), p.cos = a.cos, p.sin = a.sin;
  if (a.head_size == 64) return launch<64>(maps, p, stream);
  launch<128>(maps, p, stream);
}

}  // namespace cepe::fused_gemm_kernel
