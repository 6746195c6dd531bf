// The persistent kernel of a GEMV chain; docs/kernels/gemv_chain.md has the derivation. One CTA a multiprocessor goes
// through all products. A producer thread fills pipeline stages with weights by TMA and waits for nothing but free
// stages; eight consumer warps multiply each stage with x; an epilogue warp reduces their sums to outputs and publishes
// these to the other CTAs.
#include "ops/chain/gemv_chain_finish.cuh"
#include "ops/chain/gemv_chain_kernel.h"
#include "ops/chain/gemv_chain_multiply.cuh"
#include "ops/cuda/refuse.h"

namespace cepe::gemv_chain_kernel {
namespace {

// ---- Copying

// Asks for a norm's weights, which all blocks will want at once, each block for its part.
__device__ __forceinline__ void prefetch_norm(const Step& s) {
  if (s.norm == nullptr) return;
  for (int at = blockIdx.x * kChunk; at < s.inputs; at += gridDim.x * kChunk) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(s.norm + at));
  }
}

// Weights leave the second-level cache first: what stays is states of short contexts, outputs, and the kernels' own
// instructions.
__device__ __forceinline__ void copy_stage(const Step& s, const Tile& tile, int stage, char* to, uint64_t* barrier,
                                           uint64_t policy) {
  if (s.transposed) {
    arrive_expecting(barrier, static_cast<uint32_t>(s.inputs * kRowBytes));
    copy_box(to, s.weight, {0, 0, tile.in_head, tile.head}, barrier, policy);
    return;
  }
  const int first = tile.in_head * (s.gated ? kBoxRows : kTileRows), second = first + (s.gated ? s.outputs : kBoxRows);
  arrive_expecting(barrier, kStageBytes);
  copy_box(to, s.weight, {0, first, stage * kWarps, tile.head}, barrier, policy);
  copy_box(to + kBoxBytes, s.weight, {0, second, stage * kWarps, tile.head}, barrier, policy);
}

// One thread.
__device__ __forceinline__ void copy_weights(const Chain& chain, const Shared& shared) {
  const uint64_t policy = read_once();
  Place at, landed;
  int coming = 0;
  for (int i = 0; i < chain.count; ++i) {
    const Step& s = chain.steps[i];
    const Share share = shared.shares[i];
    prefetch_norm(s);
    if (i + 1 < chain.count) prefetch_map(chain.steps[i + 1].weight);
#pragma unroll 1
    for (Tile tile(s, share); tile.index < share.end; tile.advance(s, share)) {
#pragma unroll 1  // nvcc 13.0 miscounts the rounds that are left over when it unrolls this loop
      for (int stage = tile.first_stage; stage < tile.end_stage; ++stage) {
        wait(shared.empty + at.slot, at.parity ^ 1);
        const int most = i > *shared.multiplied ? kComingAhead : kComing;
        for (; coming >= most; --coming) {
          wait(shared.full + landed.slot, landed.parity);
          landed.advance(chain.stages);
        }
        ++coming;
        copy_stage(s, tile, stage, shared.ring + at.slot * kStageBytes, shared.full + at.slot, policy);
        at.advance(chain.stages);
      }
    }
  }
}

// ---- Multiplying

__device__ __forceinline__ void multiply_tiles(const Chain& chain, const Shared& shared) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  Place at;
  int done = 0;  // tiles, of all products
  for (int i = 0; i < chain.count; ++i) {
    const Step& s = chain.steps[i];
    const Share share = shared.shares[i];
    if (share.begin == share.end) continue;
    synchronise_group<kMultipliers>(1);  // what lies there is read no more
    stage_rows(s, share, chain.rows, shared, shared.squares + i * Shared::kSquares);
    synchronise_group<kMultipliers>(1);
    if (threadIdx.x == 0) *shared.multiplied = i;
#pragma unroll 1
    for (Tile tile(s, share); tile.index < share.end; tile.advance(s, share)) {
      const XRow x(s, shared, tile.head - share.head, chain.rows * s.group);
      Sums sums;
#pragma unroll 1
      for (int stage = tile.first_stage; stage < tile.end_stage; ++stage) {
        wait(shared.full + at.slot, at.parity);
        const uint32_t weights = shared_address(shared.ring + at.slot * kStageBytes);
        const int input = (stage * kWarps + warp) * kChunk;
        if (s.transposed)
          multiply_transposed(weights, s.inputs, x, sums);
        else if (input < s.inputs)
          multiply_chunk(weights, input, x, sums);
        __syncwarp();
        if (lane == 0) arrive(shared.empty + at.slot);
        at.advance(chain.stages);
      }
      hand_over(shared, done++, sums);
    }
  }
}

// Bounds of two blocks a multiprocessor hold registers down, not that there were room for two: beside the last blocks
// of the kernel before, it may begin to copy.
__global__ void __launch_bounds__(kThreads, 2) run_chain(const __grid_constant__ Chain chain) {
  extern __shared__ __align__(1024) char memory[];
  const Shared shared(memory, chain);
  trigger_dependents();
  if (threadIdx.x == 0) {
    prefetch_map(chain.steps[0].weight);
    for (int i = 0; i < chain.stages; ++i) init_barrier(shared.full + i, 1), init_barrier(shared.empty + i, kWarps);
    for (int i = 0; i < 2; ++i) init_barrier(shared.sums_there + i, kWarps), init_barrier(shared.sums_free + i, 1);
    init_barrier(shared.stamped, 1);
    *shared.multiplied = -1;
    publish_barriers();
  } else if (threadIdx.x >= kMultipliers && threadIdx.x - kMultipliers < chain.count) {
    const int step = threadIdx.x - kMultipliers;
    shared.shares[step] = share_of(chain.steps[step], blockIdx.x);
  }
  if (threadIdx.x < 8) shared.zeros[threadIdx.x] = __float2bfloat16_rn(0);
  for (int i = threadIdx.x; i < kMostProducts * Shared::kSquares; i += kThreads) shared.squares[i] = 0;
  __syncthreads();
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / kWarp, 0);
  if (warp < kWarps) {
    grid_dependency_sync();
    multiply_tiles(chain, shared);
  } else if (warp == kWarps) {
    if (threadIdx.x % kWarp == 0) copy_weights(chain, shared);  // weights wait for nobody
  } else {
    grid_dependency_sync();
    finish_tiles(chain, shared);
  }
}

// ---- The host's side

// All but the map and the words.
Step step_of(const Product& p) {
  Step s{};
  s.x = static_cast<const bf16*>(p.x), s.norm = static_cast<const bf16*>(p.norm),
  s.bias = static_cast<const bf16*>(p.bias);
  s.residual = static_cast<const bf16*>(p.residual), s.out = static_cast<bf16*>(p.out);
  s.eps = p.eps, s.transposed = p.transposed, s.gated = p.gated;
  s.heads = static_cast<int>(p.heads), s.group = static_cast<int>(p.group), s.inputs = static_cast<int>(p.inputs);
  s.outputs = static_cast<int>(p.gated ? p.outputs / 2 : p.outputs);
  const int tile = p.transposed ? kTransposedOutputs : p.gated ? kBoxRows : kTileRows;
  s.tiles_of_head = (s.outputs + tile - 1) / tile;
  s.tiles = s.heads * s.tiles_of_head;
  s.stages = p.transposed ? 1 : (s.inputs + kStageInputs - 1) / kStageInputs;
  const auto longest = [](int units) { return (units + multiprocessors() - 1) / multiprocessors(); };
  s.unit = longest(s.tiles) * s.stages == longest(s.tiles * s.stages) ? s.stages : 1;
  const int units = s.tiles * s.stages / s.unit;
  s.shares = EqualShares::of(units, multiprocessors());
  return s;
}

// x of all heads that a block's tiles may touch.
int x_bytes_of(const Step& s, int64_t rows) {
  int heads = 1;
  for (int block = 0; s.heads > 1 && block < multiprocessors(); ++block)
    heads = std::max(heads, share_of(s, block).heads);
  return static_cast<int>(rows) * s.group * heads * pitch_of(s) * 2;
}
int stages_for(int x_bytes) {
  return std::min(kMostStages, (kSharedBytes - Shared::kSmallBytes - x_bytes) / kStageBytes);
}

bool fits(const Product& p, int64_t rows) {
  constexpr int64_t kMost = int64_t{1} << 30;
  if (rows < 1 || p.heads < 1 || p.group < 1 || rows * p.group > kMostColumns) return false;
  if (p.inputs < 1 || p.inputs % 64 != 0 || p.inputs > kSharedBytes) return false;
  if (p.outputs < 1 || rows * p.group * p.heads * std::max(p.outputs, p.inputs) > kMost) return false;
  const bool plain = p.norm == nullptr && p.bias == nullptr && p.residual == nullptr && !p.gated;
  if (!plain && (p.transposed || p.heads != 1 || p.group != 1)) return false;
  if (p.gated && (p.residual != nullptr || p.outputs % 2 != 0)) return false;
  return !p.transposed || (p.inputs <= kLongestTransposed && p.outputs % 64 == 0);
}

// Where things lie in the workspace, in bytes: the launches' stamp, deposits, and words of outputs.
struct Workspace {
  int64_t deposits = 128, words, end;
  explicit Workspace(int64_t output_words) {
    words = deposits + kMostProducts * multiprocessors() * 4 * kWarp * static_cast<int64_t>(sizeof(Word));
    end = words + output_words * static_cast<int64_t>(sizeof(Word));
  }
};
int64_t words_of(const Product& p, int64_t rows) {
  return (rows * p.heads * p.group * p.outputs / (p.gated ? 2 : 1) + 3) / 4 * 2;
}

// The last product before this one that writes there; -1: none.
int writer_of(const Args& args, int product, const void* memory) {
  int i = product - 1;
  while (i >= 0 && (memory == nullptr || args.products[i].out != memory)) --i;
  return i;
}

// Whether a product that reads so many values from there reads what a product before it writes whole, or nothing of it.
// Words hold two outputs that follow each other.
bool reads_whole(const Args& args, int product, const void* memory, int64_t values) {
  const auto* const begin = static_cast<const bf16*>(memory);
  for (int i = 0; begin != nullptr && i < product; ++i) {
    const Product& p = args.products[i];
    const int64_t outputs = p.gated ? p.outputs / 2 : p.outputs, written = args.rows * p.heads * p.group * outputs;
    const auto* const out = static_cast<const bf16*>(p.out);
    if (begin + values <= out || out + written <= begin) continue;
    if (begin != out || values != written || outputs % 2 != 0) return false;
  }
  return true;
}

}  // namespace

bool fits(const Args& args) {
  if (!cuda::capability().hopper || args.count < 1 || args.count > kMostProducts) return false;
  int x_bytes = 0;
  for (int i = 0; i < args.count; ++i) {
    const Product& p = args.products[i];
    if (!fits(p, args.rows) || (p.out != nullptr && writer_of(args, i, p.out) >= 0)) return false;
    const int64_t vectors = args.rows * p.heads * p.group;
    if (!reads_whole(args, i, p.x, vectors * p.inputs) || !reads_whole(args, i, p.residual, vectors * p.outputs))
      return false;
    x_bytes = std::max(x_bytes, x_bytes_of(step_of(args.products[i]), args.rows));
  }
  return stages_for(x_bytes) >= kLeastStages;
}

int64_t workspace_bytes(const Args& args) {
  int64_t words = 0;
  for (int i = 0; i < args.count; ++i) words += words_of(args.products[i], args.rows);
  return Workspace(words).end;
}

void run(const Args& args, void* stream) {
  if (!fits(args)) cuda::refuse("GEMV chain", "its sizes are not those that it is made for");
  auto* const memory = static_cast<char*>(args.workspace);
  const Workspace workspace(0);
  auto* words = reinterpret_cast<Word*>(memory + workspace.words);
  Chain chain{};
  chain.launches = reinterpret_cast<uint32_t*>(memory),
  chain.deposits = reinterpret_cast<Word*>(memory + workspace.deposits);
  chain.count = args.count, chain.rows = static_cast<int>(args.rows);
  for (int i = 0; i < args.count; ++i) {
    const Product& p = args.products[i];
    Step& s = chain.steps[i] = step_of(p);
    s.weight =
        map_of_chunks({p.weight, p.heads, p.transposed ? p.inputs : p.outputs, p.transposed ? p.outputs : p.inputs},
                      p.transposed ? s.inputs : kBoxRows, p.transposed ? 1 : kWarps);
    chain.x_bytes = std::max(chain.x_bytes, x_bytes_of(s, args.rows));
    s.out_words = words;
    words += words_of(p, args.rows);
    const int of_x = writer_of(args, i, p.x), of_residual = writer_of(args, i, p.residual);
    if (of_x >= 0) s.x_words = chain.steps[of_x].out_words;
    if (of_residual >= 0) s.residual_words = chain.steps[of_residual].out_words;
  }
  chain.stages = stages_for(chain.x_bytes);
  const int bytes = chain.stages * kStageBytes + chain.x_bytes + Shared::kSmallBytes;
  const cudaError_t prepared =  // of the current device
      cudaFuncSetAttribute(run_chain, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  if (prepared != cudaSuccess) cuda::refuse("GEMV chain", cudaGetErrorString(prepared));
  launch_dependent(
      "GEMV chain", run_chain,
      {dim3(static_cast<unsigned>(multiprocessors())), kThreads, static_cast<size_t>(bytes), as_stream(stream)}, chain);
}

}  // namespace cepe::gemv_chain_kernel
