// One pass over the states for few rows. docs/kernels/latent_attention.md has the derivation. A reader is a cluster of
// one, two or four CTAs that share the width. One warpgroup scores tiles of 64 tokens (Q K^T), one weighs the scores
// (softmax), one adds the states (P V; two in 8 bits), and a producer thread issues the TMA loads.
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <limits>

#include "ops/cuda/hopper.cuh"
#include "ops/cuda/refuse.h"
#include "ops/latent/latent_backends.h"
#include "ops/latent/latent_int8.cuh"
#include "ops/latent/latent_int8_scores.cuh"
#include "ops/latent/latent_kernel.h"
#include "ops/latent/latent_merge.cuh"
#include "ops/latent/latent_reader.cuh"
#include "ops/latent/latent_scores.cuh"
#include "ops/latent/latent_sums.cuh"
#include "ops/latent/latent_table.cuh"

namespace cepe::latent_kernel::on_hopper {
namespace {

// One warp: the barriers of the ring; those of the query, and of what passes from group to group.
template <class L>
__device__ __forceinline__ void init_ring(const Shared<L>& shared) {
  static_assert(kMaxSlots <= 32);
  const int i = threadIdx.x % 32;
  if (i < L::slots) init_barrier(shared.full + i, 1), init_barrier(shared.empty + i, L::adders * kGroup / 32);
  publish_barriers();
}
template <class L>
__device__ __forceinline__ void init_query(const Shared<L>& shared) {
  if (threadIdx.x % 32 == 0) init_barrier(shared.query_there, 1);
  publish_barriers();
}
template <class L>
__device__ __forceinline__ void init_groups(const Shared<L>& shared) {
  const int i = threadIdx.x % 32;
  if (i < L::places) {
    init_barrier(shared.weights_there + i, kGroup / 32);
    init_barrier(shared.weights_free + i, L::adders * kGroup / 32);
    init_barrier(shared.part_there + i, kGroup / 32);
    init_barrier(shared.tokens_there + i, kTile / 32);
  }
  publish_barriers();
}

// The warpgroups' roles: scoring, weighing, adding, producing. What does not need the preceding kernel's results begins
// before the grid dependency sync. The first instructions of a kernel are slow (instruction cache misses), so nothing
// precedes the first loads of states and query that they do not need. A CTA may end before the others of its cluster:
// it has received all that they send it.
template <class L>
__device__ __forceinline__ void read_pieces(const Maps& maps, const Problem& p, const Shared<L>& shared, uint32_t rank,
                                            int role) {
  constexpr int kStart = 4;  // the barrier at which all but the copying group wait for each other
  const bool table = p.parts.table.entries != nullptr;
  if (role == 2 + L::adders) {
    if (warp_here() == 0) init_ring(shared);
    arrive_in_group<L::threads>(kStart);
    arrive_in_cluster();
    if (table || !p.inputs_ready) cudaGridDependencySynchronize();
    if constexpr (L::moves_registers) give_registers<kCopierRegisters>();
    if (threadIdx.x == (2 + L::adders) * kGroup) copy_tiles(maps, p, shared, static_cast<int>(rank));
    if constexpr (L::eight_bits) {
      if (warp_here() == 1 || warp_here() == 2) describe_tokens(maps, p, shared, threadIdx.x % kGroup - 32);
    }
    __syncwarp();
    wait_for_cluster();
    return;
  }
  if (role == 0 && warp_here() == 0) init_query(shared);
  if (role == 1 && warp_here() == 0) init_groups(shared);
  synchronise_group<L::threads>(kStart);
  arrive_in_cluster();
  if (!L::eight_bits && role == 0 && warp_here() == 0) {
    cudaGridDependencySynchronize();
    if (Walk walk(p); walk.more()) load_query(maps, p, shared, walk.next(maps, p), static_cast<int>(rank));
  }
  // Masks, too, and of bytes the queries and their scales.
  if (table || (role == 1 && !p.inputs_ready) || (L::eight_bits && role < 2)) cudaGridDependencySynchronize();
  if (role == 0) {  // in each branch, or the compiler does not count on the registers
    if constexpr (L::eight_bits) {
      take_registers<kByteScorerRegisters>();
      wait_for_cluster();
      score_byte_pieces(maps, p, shared, rank);
    } else {
      if constexpr (L::moves_registers) give_registers<kScorerRegisters>();
      score_pieces(maps, p, shared, rank);
    }
  } else if (role == 1) {
    if constexpr (L::eight_bits) {
      give_registers<kByteWeigherRegisters>();
      wait_for_cluster();
      weigh_byte_pieces(maps, p, shared, rank);
    } else {
      if constexpr (L::moves_registers) take_registers<kWeigherRegisters>();
      wait_for_cluster();
      weigh_pieces(maps, p, shared, rank);
    }
  } else {
    if constexpr (L::moves_registers) take_registers<L::eight_bits ? kByteAdderRegisters : kAdderRegisters>();
    wait_for_cluster();
    add_pieces(maps, p, shared, rank, role - 2);
  }
}

template <class L>
__global__ void __launch_bounds__(L::threads, 1)
    read_states(const __grid_constant__ Maps maps, const __grid_constant__ Problem p) {
  extern __shared__ __align__(1024) char memory[];
  const Shared<L> shared(memory);
  cudaTriggerProgrammaticLaunchCompletion();  // the merge may take its places; it waits there
  // Known to be the same in a warp.
  const uint32_t rank = L::blocks > 1 ? __shfl_sync(~0u, cluster_rank(), 0) : 0;
  const int role = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / kGroup, 0);
  if (threadIdx.x == 2 * kGroup && !p.parts.table.entries) prefetch_map(maps.states);
  if (!L::eight_bits && threadIdx.x == kGroup) prefetch_map(maps.query);
  read_pieces(maps, p, shared, rank, role);
}

// ---- The host's side

constexpr int kChunksOfBlock = 4;  // at most, of bfloat16; twice as many where two blocks share more than 512

// How a problem is cut.
bool eight_bits(const Args& a) { return a.table ? a.shape->eight_bits : a.scales != nullptr; }
struct Cut {
  int blocks, chunks, block_rows, row_blocks;  // of a reader; of a block in 8 bits; ...
  Shares shares;
};
Cut cut_of(const Args& a) {
  Cut cut{};
  const bool narrow = eight_bits(a);
  const int64_t tiles = tiles_of(a.tokens);
  cut.block_rows = a.table ? a.shape->block_rows : block_rows_for(a.rows, narrow);
  cut.row_blocks = static_cast<int>((a.rows + cut.block_rows - 1) / cut.block_rows);
  cut.blocks =
      a.table ? a.shape->reader_blocks : reader_blocks_for(a.width, narrow, cut.block_rows, a.contexts * a.tokens);
  const int64_t own = (a.width / kChunk + cut.blocks - 1) / cut.blocks;
  cut.chunks = static_cast<int>(own <= 2 ? 2 : own + own % 2);  // a slot holds two
  if (a.table)
    cut.shares.readers = most_readers(cut.blocks);  // the table says how many of them have work
  else
    cut.shares = Shares::of(static_cast<int>(tiles), a.contexts * cut.row_blocks * tiles, most_readers(cut.blocks));
  return cut;
}

// Where things lie in a call's scratch memory, in floats; each begins at a multiple of 4.
struct Scratch {
  int64_t statistics, query_scales, queries, end;
  Scratch(const Args& a, const Cut& cut) {
    const int64_t part_rows = Parts::slots(cut.shares.readers, a.contexts * cut.row_blocks) * cut.block_rows,
                  rows = a.contexts * a.rows;
    statistics = part_rows * a.width;
    query_scales = statistics + part_rows * 2;
    queries = query_scales + (eight_bits(a) ? (2 * rows + 3) / 4 * 4 : 0);
    end = queries + (eight_bits(a) ? rows * a.width / 2 : 0);
  }
};

template <class L>
Maps maps_of(const Args& args) {
  const int64_t contexts = args.table ? 1 : args.contexts, rows = args.contexts * args.rows / contexts;
  Maps maps{};
  if (!args.table) maps.states = map_of_states({args.states, contexts, args.tokens, args.width}, L::eight_bits);
  if (!L::eight_bits) maps.query = hopper::map_of_chunks({args.query, contexts, rows, args.width}, L::own_rows, 1);
  return maps;
}

// How the kernel is launched, with so many readers.
template <class L>
struct LaunchOf {
  cudaLaunchAttribute attributes[2] = {};
  cudaLaunchConfig_t config{};
  LaunchOf(int readers, cudaStream_t stream) {
    check(cudaFuncSetAttribute(read_states<L>, cudaFuncAttributeMaxDynamicSharedMemorySize, L::bytes));
    attributes[0].id = cudaLaunchAttributeClusterDimension;
    attributes[0].val.clusterDim.x = L::blocks;
    attributes[0].val.clusterDim.y = attributes[0].val.clusterDim.z = 1;
    attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[1].val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = dim3(static_cast<unsigned>(readers * L::blocks));
    config.blockDim = dim3(L::threads);
    config.dynamicSmemBytes = L::bytes;
    config.stream = stream;
    config.attrs = attributes;
    config.numAttrs = 2;
  }
  LaunchOf(const LaunchOf&) = delete;  // config points into it
};

template <class L>
void launch(const Args& args, const Cut& cut, cudaStream_t stream) {
  const Scratch scratch(args, cut);
  Problem p{};
  if (L::eight_bits) {
    auto* const query_scales = reinterpret_cast<QueryScale*>(args.scratch + scratch.query_scales);
    auto* const queries = reinterpret_cast<int8_t*>(args.scratch + scratch.queries);
    launch_prepare_queries(
        {static_cast<const __nv_bfloat16*>(args.query), queries, query_scales, args.contexts * args.rows, args.width},
        stream);
    p.queries = queries, p.query_scales = query_scales;
  }
  const Maps maps = maps_of<L>(args);
  p.mask = args.mask, p.scales = args.scales;
  p.tokens = args.tokens, p.scale = args.scale * 1.44269504f, p.blocks = cut.blocks;
  p.inputs_ready = args.inputs_ready && !args.table;
  p.read_once =
      args.table || args.contexts * args.tokens * args.width * (L::eight_bits ? 1 : 2) > dispatch::kLatentKeptBytes;
  p.parts.sums = args.scratch;
  p.parts.statistics = args.scratch + scratch.statistics;
  p.parts.out = args.out;
  p.parts.contexts = args.contexts, p.parts.rows = args.rows, p.parts.width = args.width;
  p.parts.block_rows = L::rows, p.parts.row_blocks = cut.row_blocks;
  p.parts.shares = cut.shares, p.parts.form = L::eight_bits ? PartsForm::byte_registers : PartsForm::registers;
  if (args.table) p.parts.table = table_in(args.table, args.contexts);
  const LaunchOf<L> launch(cut.shares.readers, stream);
  check(cudaLaunchKernelEx(&launch.config, read_states<L>, maps, p));
  launch_merge(p.parts, stream);
}

template <int kBlocks>
void launch_states(const Args& args, const Cut& cut, cudaStream_t stream) {
  if (cut.block_rows == 32) return launch<Layout<kChunksOfBlock, 32, false, kBlocks>>(args, cut, stream);
  launch<Layout<kChunksOfBlock, 64, false, kBlocks>>(args, cut, stream);
}
void launch_states(const Args& args, const Cut& cut, cudaStream_t stream) {
  if (cut.blocks == 1) return launch_states<1>(args, cut, stream);
  if (cut.blocks == 4) return launch_states<4>(args, cut, stream);
  if (args.width <= 2 * kChunksOfBlock * kChunk) return launch_states<2>(args, cut, stream);
  launch<Layout<2 * kChunksOfBlock, 32, false, 2>>(args, cut, stream);
}
template <int kChunks, int kBlocks>
void launch_byte_rows(const Args& args, const Cut& cut, cudaStream_t stream) {
  if (cut.block_rows == 16) return launch<Layout<kChunks, 16, true, kBlocks>>(args, cut, stream);
  launch<Layout<kChunks, 32, true, kBlocks>>(args, cut, stream);
}
void launch_bytes(const Args& args, const Cut& cut, cudaStream_t stream) {
  switch (cut.chunks + (cut.blocks == 2 ? 100 : 0)) {
    case 2: return launch_byte_rows<2, 1>(args, cut, stream);
    case 4: return launch_byte_rows<4, 1>(args, cut, stream);
    case 6: return launch_byte_rows<6, 1>(args, cut, stream);
    case 8: return launch_byte_rows<8, 1>(args, cut, stream);
    case 106: return launch_byte_rows<6, 2>(args, cut, stream);
    default: return launch_byte_rows<8, 2>(args, cut, stream);
  }
}

// Readers of four blocks that the present device runs at the same time: a cluster's blocks are neighbours, and 132
// multiprocessors need not hold 33 clusters.
int fours_at_once() {
  constexpr int kMaxDevices = 64;
  static std::array<std::atomic<int>, kMaxDevices> known{};
  int device = 0, count = 0;
  check(cudaGetDevice(&device));
  if (device < kMaxDevices && known[device] > 0) return known[device];
  const LaunchOf<Layout<kChunksOfBlock, 32, false, 4>> launch(1, nullptr);
  check(cudaOccupancyMaxActiveClusters(&count, read_states<Layout<kChunksOfBlock, 32, false, 4>>, &launch.config));
  count = std::max(count, 1);  // where there is no room for one, the launch says so
  if (device < kMaxDevices) known[device] = count;
  return count;
}

}  // namespace

int most_readers(int blocks) {
  if (blocks == 4) return fours_at_once();
  int device = 0, count = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count / blocks;
}

int reader_blocks_for(int64_t width, bool eight_bits, int block_rows, int64_t tokens) {
  const int64_t chunks = width / kChunk;
  if (eight_bits) return chunks > 8 ? 2 : 1;
  if (chunks > 8) return block_rows <= 32 && tokens >= dispatch::kLatentManyTokens ? 2 : 4;
  return chunks > 4 ? 2 : 1;
}

int block_rows_for(int64_t rows, bool eight_bits) {
  if (!eight_bits) return rows <= 32 ? 32 : 64;
  return rows <= 16 ? 16 : 32;
}

int64_t scratch_floats(const Args& args) { return Scratch(args, cut_of(args)).end; }

void latent_attention(const Args& args, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  const Cut cut = cut_of(args);
  if (eight_bits(args)) return launch_bytes(args, cut, on);
  launch_states(args, cut, on);
}

}  // namespace cepe::latent_kernel::on_hopper
