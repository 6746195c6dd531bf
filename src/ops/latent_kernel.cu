// One pass over the states for few rows. docs/kernels/latent_attention.md has the derivation; names here follow it: a
// reader is a block, or two that share the width; its first warpgroup scores tiles of 64 tokens, its second adds them,
// and one thread keeps the copies coming.
#include "ops/latent_kernel.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>

#include "ops/fused.h"
#include "ops/hopper.cuh"
#include "ops/latent_int8.cuh"
#include "ops/latent_int8_scores.cuh"
#include "ops/latent_merge.cuh"
#include "ops/latent_reader.cuh"
#include "ops/latent_scores.cuh"
#include "ops/latent_table.cuh"

namespace cepe::latent_kernel {
namespace {

template <class L>
__device__ __forceinline__ void write_sums(const Parts& parts, const Piece& piece, int rank, int adder,
                                           const float (&sums)[L::sum_tiles][L::values]) {
  const int thread = threadIdx.x % kGroup, warp = thread / 32, lane = thread % 32;
  float* const to = parts.sums_of(piece.slot);
  if constexpr (L::eight_bits) {
#pragma unroll
    for (int i_word = 0; i_word < L::own_words; ++i_word) {
      const int word = adder * L::own_words + i_word;
      if (word >= L::chunks / 2) break;
      const int64_t column = rank * L::chunks * kChunk + (warp * (L::chunks / 2) + word) * 32 + lane / 4 * 4;
#pragma unroll
      for (int i = 0; i < L::values; i += i % 4 == 0 ? 1 : 3) {
        const int row = i / 4 * 8 + 2 * (lane % 4) + i % 2;
        const float4 four{sums[2 * i_word][i], sums[2 * i_word][i + 2], sums[2 * i_word + 1][i], sums[2 * i_word + 1][i + 2]};
        if (column < parts.width && row < piece.rows) *reinterpret_cast<float4*>(to + row * parts.width + column) = four;
      }
    }
  } else {
#pragma unroll
    for (int chunk = 0; chunk < L::chunks; ++chunk) {
#pragma unroll
      for (int i = 0; i < L::values; ++i) {
        const int row = i / 4 * 8 + 2 * (lane % 4) + i % 2;
        const int64_t column = (rank * L::chunks + chunk) * kChunk + warp * 16 + lane / 4 + i % 4 / 2 * 8;
        if (column < parts.width && row < piece.rows) to[row * parts.width + column] = sums[chunk][i];
      }
    }
  }
}

// The products of a tile's weights and states, bfloat16 from shared memory.
template <class L>
__device__ __forceinline__ void add_chunks(const Shared<L>& shared, RingPlace<L::slots>& at, uint64_t weights, bool first,
                                           float (&sums)[L::chunks][L::values]) {
  int previous = 0;
#pragma unroll
  for (int chunk = 0; chunk < L::chunks; ++chunk) {
    begin_products();
    const uint64_t states = operand(shared_address(shared.ring + at.slot * kSlotBytes));
#pragma unroll
    for (int k = 0; k < kTile / 16; ++k) multiply<1>(sums[chunk], states + k * 128, weights + k * 2, !(first && k == 0));
    commit_products();
    if (chunk > 0) {
      wait_products<1>();
      if (threadIdx.x % 32 == 0) arrive(shared.empty + previous);
    }
    previous = at.slot;
    at.advance();
  }
  wait_products<0>();
  if (threadIdx.x % 32 == 0) arrive(shared.empty + previous);
}

// The same for bytes, which pass through registers. The 32 values of a group are a word of four to a lane, rows lane / 4 and
// lane / 4 + 8 of two products. A warp has chunks / 2 groups of its block's width, and an adder own_words of those of each warp.
template <class L>
struct AddedWords {
  static constexpr int kWords = L::chunks / 2, kOwn = L::own_words;
  int slot[kOwn], early_place[kOwn], late_place[kOwn];  // which slot of a tile, and where in it: see load_words()
  const char *early[kOwn], *late[kOwn];                 // the same of the present tile
  Words next[kOwn];

  __device__ __forceinline__ explicit AddedWords(int adder) {
    const int warp = threadIdx.x % kGroup / 32, lane = threadIdx.x % 32, x = lane % 4 + lane % 2 * 4;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      // A word that is none is the warp's first.
      const bool has = kWords % L::adders == 0 || adder * kOwn + i < kWords;
      const int group = warp * kWords + (has ? adder * kOwn + i : 0), column = group % 4 * 32 + lane / 4 * 4;
      slot[i] = group / 4;
      early_place[i] = place_in_slot(x, column), late_place[i] = place_in_slot(x ^ 4, column);
    }
  }
  // The tile's first words, once they are there.
  __device__ __forceinline__ void begin(const Shared<L>& shared, const RingPlace<L::slots>& at) {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      RingPlace<L::slots> place = at;
      place.skip(slot[i]);
      if (i == 0 || kWords % 4 != 0) wait(shared.full + place.slot, place.parity);  // otherwise all are in one slot
      early[i] = shared.ring + place.slot * kSlotBytes + early_place[i];
      late[i] = shared.ring + place.slot * kSlotBytes + late_place[i];
    }
#pragma unroll
    for (int i = 0; i < kOwn; ++i) load(i, 0);
  }
  __device__ __forceinline__ void load(int i, int first_token) { next[i] = load_words(early[i], late[i], first_token); }
};
// more: another tile follows, whose first words are loaded meanwhile.
template <class L>
__device__ __forceinline__ void add_bytes(const Shared<L>& shared, RingPlace<L::slots>& at, uint64_t weights, bool first,
                                          bool more, AddedWords<L>& words, float (&sums)[L::sum_tiles][L::values]) {
  const int lane = threadIdx.x % 32;
  uint32_t values[2][2][4];  // of a word, in turn: while the products of one run, the next is prepared
#pragma unroll
  for (int k = 0; k < kTile / 16; ++k) {
#pragma unroll
    for (int i = 0; i < L::own_words; ++i) {
      auto& a = values[(k * L::own_words + i) % 2];
      values_of(words.next[i], a);
      if (k + 1 < kTile / 16) words.load(i, (k + 1) * 16);
      begin_products();
      // Also of a word that is none: its sums are not written, and a condition would make the products wait for each other.
      multiply_registers(sums[2 * i], a[0], weights + k * 2, !(first && k == 0));
      multiply_registers(sums[2 * i + 1], a[1], weights + k * 2, !(first && k == 0));
      commit_products();
      if (k + 1 < kTile / 16 || i + 1 < L::own_words) wait_products<1>();
    }
  }
  __syncwarp();
  if (lane < L::tile_slots) {
    RingPlace<L::slots> place = at;
    place.skip(lane);
    arrive(shared.empty + place.slot);
  }
  at.skip(L::tile_slots);
  if (more) words.begin(shared, at);
  wait_products<0>();
}

// sums = sums * factors, where a row's highest score grew by much.
template <class L>
__device__ __forceinline__ void renew_sums(const float* factors, float (&sums)[L::sum_tiles][L::values]) {
  const int lane = threadIdx.x % 32;
  if (!__any_sync(~0u, factors[lane % L::rows] != 1)) return;
  float factor[L::columns];
#pragma unroll
  for (int i = 0; i < L::columns; ++i) factor[i] = factors[i / 2 * 8 + 2 * (lane % 4) + i % 2];
#pragma unroll
  for (int chunk = 0; chunk < L::sum_tiles; ++chunk) {
#pragma unroll
    for (int i = 0; i < L::values; ++i) sums[chunk][i] *= factor[i / 4 * 2 + i % 2];
  }
}

// An adding warpgroup's work: sums (width x rows) = sums * factors + (width x 64 tokens) (64 tokens x rows) for each tile.
template <class L>
__device__ __forceinline__ void add_pieces(const Maps& maps, const Problem& p, const Shared<L>& shared, uint32_t rank, int adder) {
  RingPlace<L::slots> at;
  RingPlace<L::weight_places> weights_at;
  float sums[L::sum_tiles][L::values] = {};
  for_each_piece(maps, p, [&](const Piece& piece) {
    for (int i = 0; i < piece.tiles; ++i) {
      wait(shared.weights_there + weights_at.slot, weights_at.parity);
      if (i > 0) renew_sums<L>(shared.factors + weights_at.slot * L::rows, sums);
      const uint64_t weights = operand(shared_address(shared.weights + weights_at.slot * L::weight_bytes));
      add_chunks(shared, at, weights, i == 0, sums);
      if (threadIdx.x % 32 == 0) arrive(shared.weights_free + weights_at.slot);
      weights_at.advance();
    }
    write_sums<L>(p.parts, piece, static_cast<int>(rank), adder, sums);
  });
}
// The same where states are in 8 bits. Another block may write some of the weights.
template <class L>
__device__ __forceinline__ void add_byte_pieces(const Maps& maps, const Problem& p, const Shared<L>& shared, uint32_t rank, int adder) {
  const int lane = threadIdx.x % 32;
  RingPlace<L::slots> at;
  RingPlace<L::weight_places> weights_at;
  AddedWords<L> words(adder);
  float sums[L::sum_tiles][L::values] = {};
  for_each_piece(maps, p, [&](const Piece& piece) {
    words.begin(shared, at);
    for (int i = 0; i < piece.tiles; ++i) {
      wait_cluster(shared.weights_there + weights_at.slot, weights_at.parity);
      if (L::split) publish_to_async();
      if (i > 0) renew_sums<L>(shared.factors + weights_at.slot * L::rows, sums);
      const int place = __shfl_sync(~0u, weights_at.slot, 0);  // which the compiler then keeps once for a warp
      const uint64_t weights = operand(shared_address(shared.weights + place * L::weight_bytes));
      add_bytes(shared, at, weights, i == 0, i + 1 < piece.tiles, words, sums);
      if (lane < L::writers) arrive_in_block(address_in_block(shared.weights_free + weights_at.slot, rank ^ lane));
      weights_at.advance();
    }
    write_sums<L>(p.parts, piece, static_cast<int>(rank), adder, sums);
  });
}

template <class L>
__device__ __forceinline__ void init_barriers(const Shared<L>& shared) {
  for (int i = 0; i < L::slots; ++i) init_barrier(shared.full + i, 1), init_barrier(shared.empty + i, L::adders * kGroup / 32);
  for (int i = 0; i < L::weight_places; ++i) {
    init_barrier(shared.weights_there + i, L::eight_bits ? kGroup / 32 : kGroup);
    init_barrier(shared.weights_free + i, L::writers * L::adders * kGroup / 32);
  }
  for (int i = 0; i < L::places; ++i) init_barrier(shared.part_there + i, 1);
  init_barrier(shared.query_there, 1);
  publish_barriers();
}

template <class L>
__global__ void __launch_bounds__(L::threads, 1) read_states(const __grid_constant__ Maps maps, const __grid_constant__ Problem p) {
  extern __shared__ __align__(1024) char memory[];
  const Shared<L> shared(memory);
  cudaTriggerProgrammaticLaunchCompletion();  // the merge may take its places; it waits there
  const uint32_t rank = p.blocks == 2 ? cluster_rank() : 0;
  if (threadIdx.x == 0) {
    if (!p.parts.table.entries) prefetch_map(maps.states);
    prefetch_map(maps.query);
    init_barriers(shared);
  }
  __syncthreads();
  arrive_in_cluster();
  const int role = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / kGroup, 0);  // known to be the same in a warp
  const bool copies = role > L::adders;
  if (!copies || !p.settled) cudaGridDependencySynchronize();
  if (role == 0) {
    if constexpr (L::eight_bits) take_registers<kScorerRegisters>();
    wait_for_cluster();  // the other block's barriers are there
    if constexpr (L::eight_bits) score_byte_pieces(maps, p, shared, rank);
    else score_pieces(maps, p, shared, rank);
  } else if (role <= L::adders) {
    if constexpr (L::eight_bits) take_registers<kAdderRegisters>();
    if (L::split) wait_for_cluster();
    if constexpr (L::eight_bits) add_byte_pieces(maps, p, shared, rank, role - 1);
    else add_pieces(maps, p, shared, rank, role - 1);
  } else {
    if constexpr (L::eight_bits) give_registers<kCopierRegisters>();
    if (L::split) wait_for_cluster();
    if (threadIdx.x == (1 + L::adders) * kGroup) copy_tiles(maps, p, shared, static_cast<int>(rank));
    __syncwarp();
  }
  if (L::split) arrive_in_cluster();  // a block's memory is there until the other has arrived at its barriers
  if (L::split || role > 0) wait_for_cluster();
}

// ---- The host's side

// How a problem is cut.
bool eight_bits(const Args& a) { return a.table ? a.shape->eight_bits : a.scales != nullptr; }
struct Cut {
  int blocks, chunks, block_rows, row_blocks;  // of a reader, of a block, ...
  Shares shares;
};
Cut cut_of(const Args& a) {
  Cut cut{};
  const int64_t chunks = a.width / kChunk;
  cut.blocks = blocks_of_reader(a.width);
  const int64_t own = (chunks + cut.blocks - 1) / cut.blocks;
  cut.chunks = static_cast<int>(own <= 2 ? 2 : own <= 4 ? 4 : own);
  if (eight_bits(a)) cut.chunks += cut.chunks % 2;  // a slot holds two
  cut.block_rows = a.table ? a.shape->block_rows : block_rows_for(a.rows);
  cut.row_blocks = static_cast<int>((a.rows + cut.block_rows - 1) / cut.block_rows);
  if (a.table) {  // which says how many of them have work
    cut.shares.readers = most_readers(a.width);
  } else {
    cut.shares.tiles = static_cast<int>((a.tokens + kTile - 1) / kTile);
    cut.shares.total = a.contexts * cut.row_blocks * cut.shares.tiles;
    cut.shares.readers = readers_for(cut.shares.total, a.width);
  }
  return cut;
}

// Where things lie in a call's scratch memory, in floats; each begins at a multiple of 4.
struct Scratch {
  int64_t statistics, query_scales, queries, end;
  Scratch(const Args& a, const Cut& cut) {
    const int64_t part_rows = Parts::slots(cut.shares.readers, a.contexts * cut.row_blocks) * cut.block_rows, rows = a.contexts * a.rows;
    statistics = part_rows * a.width;
    query_scales = statistics + part_rows * 2;
    queries = query_scales + (eight_bits(a) ? (2 * rows + 3) / 4 * 4 : 0);
    end = queries + (eight_bits(a) ? rows * a.width / 2 : 0);
  }
};

template <class L>
Maps maps_of(const Args& args, const void* queries) {
  const int64_t contexts = args.table ? 1 : args.contexts, rows = args.contexts * args.rows / contexts;
  Maps maps{};
  if (!args.table) maps.states = map_of_states({args.states, contexts, args.tokens, args.width}, L::eight_bits);
  maps.query = L::eight_bits ? hopper::map_of_bytes({queries, 2 * contexts, rows, args.width}, L::own_rows)
                             : hopper::map_of_chunks({args.query, contexts, rows, args.width}, L::rows, L::chunks);
  return maps;
}

template <class L>
void launch(const Args& args, const Cut& cut, cudaStream_t stream) {
  const Scratch scratch(args, cut);
  auto* const query_scales = reinterpret_cast<QueryScale*>(args.scratch + scratch.query_scales);
  if (L::eight_bits) {
    const int64_t contexts = args.table ? 1 : args.contexts;
    launch_prepare_queries({static_cast<const __nv_bfloat16*>(args.query), reinterpret_cast<int8_t*>(args.scratch + scratch.queries),
                            query_scales, contexts, args.contexts * args.rows / contexts, args.width}, stream);
  }
  const Maps maps = maps_of<L>(args, args.scratch + scratch.queries);
  Problem p{};
  p.mask = args.mask, p.scales = args.scales, p.query_scales = query_scales;
  p.tokens = args.tokens, p.scale = args.scale * 1.44269504f, p.blocks = cut.blocks;
  p.settled = args.settled && !args.table;
  p.parts.sums = args.scratch;
  p.parts.statistics = args.scratch + scratch.statistics;
  p.parts.out = args.out;
  p.parts.contexts = args.contexts, p.parts.rows = args.rows, p.parts.width = args.width;
  p.parts.block_rows = L::rows, p.parts.row_blocks = cut.row_blocks;
  p.parts.shares = cut.shares;
  if (args.table) p.parts.table = table_in(args.table, args.contexts);
  check(cudaFuncSetAttribute(read_states<L>, cudaFuncAttributeMaxDynamicSharedMemorySize, L::bytes));
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim.x = static_cast<unsigned>(cut.blocks);
  attributes[0].val.clusterDim.y = attributes[0].val.clusterDim.z = 1;
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(cut.shares.readers * cut.blocks));
  config.blockDim = dim3(L::threads);
  config.dynamicSmemBytes = L::bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = 2;
  check(cudaLaunchKernelEx(&config, read_states<L>, maps, p));
  launch_merge(p.parts, true, stream);
}

template <int kChunks, bool kEightBits, int kBlocks>
void launch_rows(const Args& args, const Cut& cut, cudaStream_t stream) {
  switch (cut.block_rows) {
    case 8: return launch<Layout<kChunks, 8, kEightBits, kBlocks>>(args, cut, stream);
    case 16: return launch<Layout<kChunks, 16, kEightBits, kBlocks>>(args, cut, stream);
    default: return launch<Layout<kChunks, 32, kEightBits, kBlocks>>(args, cut, stream);
  }
}
void launch_bytes(const Args& args, const Cut& cut, cudaStream_t stream) {
  switch (cut.chunks + (cut.blocks == 2 ? 100 : 0)) {
    case 2: return launch_rows<2, true, 1>(args, cut, stream);
    case 4: return launch_rows<4, true, 1>(args, cut, stream);
    case 6: return launch_rows<6, true, 1>(args, cut, stream);
    case 8: return launch_rows<8, true, 1>(args, cut, stream);
    case 106: return launch_rows<6, true, 2>(args, cut, stream);
    default: return launch_rows<8, true, 2>(args, cut, stream);
  }
}

}  // namespace

int block_rows_for(int64_t rows) { return rows <= 8 ? 8 : rows <= 16 ? 16 : 32; }

int64_t scratch_floats(const Args& args) { return Scratch(args, cut_of(args)).end; }

void latent_attention(const Args& args, void* stream) {
  if (!width_fits(args.width)) fused::refuse("latent attention", "the width is not a multiple of 64 up to 1024");
  if (!args.table && args.tokens < 1) fused::refuse("latent attention", "the context has no tokens");
  if (args.contexts == 0 || args.rows == 0) return;
  const auto on = static_cast<cudaStream_t>(stream);
  const Cut cut = cut_of(args);
  if (eight_bits(args)) return launch_bytes(args, cut, on);
  switch (cut.chunks) {
    case 2: return launch_rows<2, false, 0>(args, cut, on);
    case 4: return launch_rows<4, false, 0>(args, cut, on);
    case 5: return launch_rows<5, false, 0>(args, cut, on);
    case 6: return launch_rows<6, false, 0>(args, cut, on);
    case 7: return launch_rows<7, false, 0>(args, cut, on);
    default: return launch_rows<8, false, 0>(args, cut, on);
  }
}

}  // namespace cepe::latent_kernel
