// One pass over the states for few rows, on every GPU from compute capability 8.0 on. docs/kernels/latent_mma.md has
// the derivation. A CTA reads its share of the context in blocks of 16 tokens; each of its 8 warps has a slice of the
// width, of which it copies, scores (S = E Q^T) and adds (O = E^T P); the warps' parts of the scores meet in shared
// memory. In 8 bits a byte u stands for (u - 128) times its token's scale: u - 128 is exact in bfloat16, so products
// are those of bfloat16 states, and the scale is a factor of the token's scores and weights.
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "ops/cuda/ampere.cuh"
#include "ops/cuda/bf16_vector.cuh"
#include "ops/latent/latent_backends.h"
#include "ops/latent/latent_merge.cuh"
#include "ops/latent/latent_mma_layout.h"

namespace cepe::latent_kernel::on_ampere {
namespace {

using namespace ampere;
using namespace latent_mma;
using cuda::bf16;

constexpr float kLazy = 8.0f;  // the scale of a row's sum is renewed when its highest score grew by 2^8

struct Problem {
  const bf16* query;
  const char* states;   // in bfloat16, or bytes
  const float* scales;  // of the tokens, where states are bytes
  const bool* mask;
  Parts parts;
  int64_t tokens;
  float scale;  // of scores in powers of two
  int slots;    // of the ring
  bool eight_bits;
  bool inputs_ready;  // states may be read before the grid dependency sync
};

// Consecutive tokens of one context for one block of rows.
struct Piece {
  int64_t slot;         // of the partial in the workspace
  const char* states;   // of the first token
  const float* scales;  // of the first token, where states are bytes
  const bool* mask;     // of the first token, or null
  int tokens, blocks;
  const bf16* query;  // of the first row
  int rows;
};

// What the tiles [tile, end) of a share have of the pair that the first belongs to, and the tile after it.
struct Taken {
  Piece piece;
  int next;
};
template <class L>
__device__ __forceinline__ Taken take(const Problem& p, int reader, int tile, int end) {
  const int per_pair = p.parts.shares.tiles, pair = tile / per_pair, context = pair / p.parts.row_blocks;
  const int first = tile - pair * per_pair, tiles = min(end - tile, per_pair - first);
  const int row = (pair - context * p.parts.row_blocks) * p.parts.block_rows;
  const int64_t token = context * p.tokens + first * kTile;
  Piece piece;
  piece.tokens = min(tiles * kTile, static_cast<int>(p.tokens) - first * kTile);
  piece.blocks = (piece.tokens + kBlock - 1) / kBlock;
  piece.states = p.states + token * p.parts.width * L::state_bytes;
  if constexpr (L::eight_bits) piece.scales = p.scales + token;
  piece.mask = p.mask ? p.mask + token : nullptr;
  piece.slot = Parts::slot(reader, pair);
  piece.query = p.query + (context * p.parts.rows + row) * p.parts.width;
  piece.rows = min(p.parts.block_rows, static_cast<int>(p.parts.rows) - row);
  return {piece, tile + tiles};
}
// The same of the contexts of a table.
template <class L>
__device__ __forceinline__ Taken take_by_table(const Problem& p, int reader, int tile, int end) {
  const Table& table = p.parts.table;
  const int context = table.context_of(tile);
  const TableEntry& entry = table.entries[context];
  const int in_context = tile - static_cast<int>(table.first_tiles[context]), block = in_context / entry.tiles;
  const int first = in_context - block * entry.tiles, tiles = min(end - tile, entry.tiles - first);
  const int row = block * p.parts.block_rows;
  Piece piece;
  piece.tokens = min(tiles * kTile, entry.tokens - first * kTile), piece.blocks = (piece.tokens + kBlock - 1) / kBlock;
  piece.states =
      static_cast<const char*>(entry.data) + static_cast<int64_t>(first) * kTile * p.parts.width * L::state_bytes;
  if constexpr (L::eight_bits) piece.scales = entry.scales + first * kTile;
  piece.mask = entry.mask ? entry.mask + first * kTile : nullptr;
  piece.slot = Parts::slot(reader, entry.first_pair + block);
  piece.query = p.query + static_cast<int64_t>(entry.first_row + row) * p.parts.width;
  piece.rows = min(p.parts.block_rows, entry.rows - row);
  return {piece, tile + tiles};
}

struct Shared {
  char* ring;      // of this warp: slots x 16 tokens x its slice
  char* wide;      // of this warp, where states are bytes: wide_slots of widened blocks
  float* scores;   // (buffers, warps, rows, kScoreRow)
  bf16* weights;   // (buffers, rows, kWeightRow)
  float* factors;  // (buffers, rows): what the sums so far are multiplied by
  template <class L>
  __device__ static Shared of(char* memory, int slots, L) {
    Shared shared;
    shared.scores = reinterpret_cast<float*>(memory);
    shared.weights = reinterpret_cast<bf16*>(memory + L::buffers * L::score_bytes);
    shared.factors = reinterpret_cast<float*>(memory + L::buffers * (L::score_bytes + L::weight_bytes));
    shared.ring = memory + L::fixed_bytes + static_cast<int>(threadIdx.x) / 32 * slots * L::ring_slot_bytes;
    shared.wide = memory + L::buffer_bytes + static_cast<int>(threadIdx.x) / 32 * L::wide_slots * L::slot_bytes;
    return shared;
  }
};

// One row's softmax so far, of the kQuads lanes that share it; total is this lane's part.
struct Softmax {
  float highest, total;
  float scales[2];  // of states in bytes: of this lane's tokens of the block that is weighed next
};

// Starts the copy of a block's 16 tokens to its place in the ring; zeros past the piece's end. Every call commits a
// group of copies, an empty one where there is no such block.
template <class L>
__device__ __forceinline__ void copy_block(const Piece& piece, const Slice& slice, char* to, int block, int64_t width) {
  using State = std::conditional_t<L::eight_bits, uint8_t, bf16>;
  constexpr int kParts = L::state_bytes * L::steps;  // of 16 bytes in a token's slice
  constexpr int kValues = 16 / L::state_bytes;       // of such a part
  if (block < piece.blocks) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < kBlock * kParts / 32; ++i) {
      const auto [row, part] = slot_part<kParts>(i, lane);
      const int token = block * kBlock + row;
      const bool there = token < piece.tokens;
      const auto* const states = reinterpret_cast<const State*>(piece.states);
      const State* const from = states + (there ? token * width : 0) + slice.first * 16 + part * kValues;
      if (part < L::state_bytes * slice.steps)
        copy_16(shared_address(to + row * L::ring_row_bytes + part * 16), from, there);
    }
  }
  commit_copies();
}

// Widens a warp's slot of bytes. All are loaded first, also those of steps that the warp does not have, so that no load
// waits for a store.
template <class L>
__device__ __forceinline__ void widen_block(const Slice& slice, const char* from, char* to) {
  constexpr int kParts = 2 * L::steps;  // of 8 values in a token's slice
  const int lane = threadIdx.x % 32;
  uint2 x[L::steps];
#pragma unroll
  for (int i = 0; i < L::steps; ++i) {
    const auto [token, part] = slot_part<kParts>(i, lane);
    x[i] = *reinterpret_cast<const uint2*>(from + token * L::ring_row_bytes + part * 8);
  }
#pragma unroll
  for (int i = 0; i < L::steps; ++i) {
    const auto [token, part] = slot_part<kParts>(i, lane);
    const uint4 wide{two_of_bytes<0x4140>(x[i].x), two_of_bytes<0x4342>(x[i].x), two_of_bytes<0x4140>(x[i].y),
                     two_of_bytes<0x4342>(x[i].y)};
    if (part < 2 * slice.steps) *reinterpret_cast<uint4*>(to + token * L::row_bytes + part * 16) = wide;
  }
}

// What nothing is written to: steps that other warps have and this one does not are products with zeros.
template <class L>
__device__ __forceinline__ void clear_rest(const Slice& slice, char* slots_of_warp, int slots) {
  const int lane = threadIdx.x % 32, parts = 2 * (L::steps - slice.steps);
  for (int i = lane; i < slots * kBlock * parts; i += 32) {
    char* const row = slots_of_warp + i / parts * L::row_bytes;
    *reinterpret_cast<uint4*>(row + (2 * slice.steps + i % parts) * 16) = uint4{0, 0, 0, 0};
  }
}

template <class L>
__device__ __forceinline__ void load_query(const Piece& piece, const Slice& slice, int64_t width,
                                           uint32_t (&query)[L::steps][L::eights][2]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int n = 0; n < L::eights; ++n) {
    const int row = n * 8 + lane / 4;
    const bf16* const from = piece.query + row * width + slice.first * 16;
#pragma unroll
    for (int j = 0; j < L::steps; ++j) {
      const bool there = row < piece.rows && j < slice.steps;
#pragma unroll
      for (int i = 0; i < 2; ++i)
        query[j][n][i] = there ? *reinterpret_cast<const uint32_t*>(from + query_at(j, lane, i)) : 0;
    }
  }
}

// This warp's part of a block's scores.
template <class L>
__device__ __forceinline__ void score_block(const char* slot, float* to,
                                            const uint32_t (&query)[L::steps][L::eights][2]) {
  constexpr int kChains = L::eights <= 2 ? 2 : 1;  // of products that wait for each other
  const int lane = threadIdx.x % 32;
  const uint32_t tile = shared_address(slot) + score_tile(L::row_bytes, lane);
  float sums[kChains][L::eights][4] = {};
#pragma unroll
  for (int j = 0; j < L::steps; ++j) {
    uint32_t states[4];
    load_tiles<false>(states, tile + j * 32);
#pragma unroll
    for (int n = 0; n < L::eights; ++n) multiply_add(sums[j % kChains][n], states, query[j][n]);
  }
#pragma unroll
  for (int n = 0; n < L::eights; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float sum = sums[0][n][i];
      if constexpr (kChains == 2) sum += sums[1][n][i];
      to[score_at(n, lane, i)] = sum;
    }
  }
}

// The scales of this lane's tokens of a block. They are loaded while the block before is weighed, so nothing waits.
__device__ __forceinline__ void load_scales(const Piece& piece, int block, float (&scales)[2]) {
  const int token = block * kBlock + static_cast<int>(threadIdx.x) % kQuads * 2;
#pragma unroll
  for (int i = 0; i < 2; ++i) scales[i] = token + i >= 0 && token + i < piece.tokens ? piece.scales[token + i] : 0;
}

// Adds the warps' parts of a block's scores, takes their exponentials, and writes the weights and the row's factor. A
// block that is not the piece's has no real tokens.
template <class L>
__device__ __forceinline__ void weigh_block(const Piece& piece, float scale, int block, const float* scores,
                                            bf16* weights, float* factors, Softmax& so_far) {
  const int row = threadIdx.x / kQuads, quad = threadIdx.x % kQuads, token = block * kBlock + quad * 2;
  if (L::rows < kThreads / kQuads && row >= L::rows) return;  // whole warps
  bool real[2];
#pragma unroll
  for (int i = 0; i < 2; ++i)
    real[i] = token + i >= 0 && token + i < piece.tokens && (!piece.mask || piece.mask[token + i]);
  float of_token[2] = {1, 1};  // a padding token's scale is not used, whatever it is
  if constexpr (L::eight_bits) {
    of_token[0] = real[0] ? so_far.scales[0] : 1, of_token[1] = real[1] ? so_far.scales[1] : 1;
    load_scales(piece, block + 1, so_far.scales);
  }
  float score[2] = {};
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    const auto part = *reinterpret_cast<const float2*>(scores + (w * L::rows + row) * kScoreRow + quad * 2);
    score[0] += part.x, score[1] += part.y;
  }
  float highest = so_far.highest;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if constexpr (L::eight_bits) score[i] *= of_token[i];
    score[i] = real[i] ? score[i] * scale : -INFINITY;
    highest = fmaxf(highest, score[i]);
  }
#pragma unroll
  for (int lanes = 1; lanes < kQuads; lanes *= 2) highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, lanes));
  if (!(highest - so_far.highest > kLazy)) highest = so_far.highest;
  const float shift = highest == -INFINITY ? 0 : highest, factor = exp2f(so_far.highest - shift);
  so_far.total *= factor, so_far.highest = highest;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    score[i] = exp2f(score[i] - shift);
    float counted = score[i];
    if constexpr (L::eight_bits) {
      // As it is rounded, else a token that has nearly all of the weight would be off by its scale's rounding.
      score[i] = __bfloat162float(__float2bfloat16_rn(score[i] * of_token[i]));
      counted = __fdividef(score[i], of_token[i]);
    }
    so_far.total += counted;
  }
  *reinterpret_cast<__nv_bfloat162*>(weights + row * kWeightRow + quad * 2) = __floats2bfloat162_rn(score[0], score[1]);
  if (quad == 0) factors[row] = factor;
}

// sums (slice x rows) = sums * factors + (slice x 16 tokens) (16 tokens x rows)
template <class L>
__device__ __forceinline__ void add_block(const char* slot, const bf16* weights, const float* factors,
                                          float (&sums)[L::steps][L::eights][4]) {
  const int lane = threadIdx.x % 32;
  uint32_t weight[L::eights][2];
  bool renewed = false;
#pragma unroll
  for (int n = 0; n < L::eights; ++n) {
#pragma unroll
    for (int i = 0; i < 2; ++i) weight[n][i] = *reinterpret_cast<const uint32_t*>(weights + weight_at(n, lane, i));
    const auto factor = *reinterpret_cast<const float2*>(factors + n * 8 + lane % 4 * 2);
    renewed |= factor.x != 1 || factor.y != 1;
  }
  if (__any_sync(~0u, renewed)) {
#pragma unroll
    for (int n = 0; n < L::eights; ++n) {
      const auto factor = *reinterpret_cast<const float2*>(factors + n * 8 + lane % 4 * 2);
#pragma unroll
      for (int j = 0; j < L::steps; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[j][n][i] *= i % 2 ? factor.y : factor.x;
      }
    }
  }
  const uint32_t tile = shared_address(slot) + sum_tile(L::row_bytes, lane);
#pragma unroll
  for (int j = 0; j < L::steps; ++j) {
    uint32_t states[4];
    load_tiles<true>(states, tile + j * 32);
#pragma unroll
    for (int n = 0; n < L::eights; ++n) multiply_add(sums[j][n], states, weight[n]);
  }
}

template <class L>
__device__ __forceinline__ void write_part(const Parts& parts, const Piece& piece, const Slice& slice, Softmax so_far,
                                           const float (&sums)[L::steps][L::eights][4]) {
  const int lane = threadIdx.x % 32, row = threadIdx.x / kQuads;
  auto* const to = reinterpret_cast<float4*>(parts.sums_of(piece.slot));
#pragma unroll
  for (int j = 0; j < L::steps; ++j) {
    if (j >= slice.steps) continue;
#pragma unroll
    for (int n = 0; n < L::eights; ++n)
      to[part_at(slice.first + j, n, L::eights, lane)] = {sums[j][n][0], sums[j][n][1], sums[j][n][2], sums[j][n][3]};
  }
#pragma unroll
  for (int lanes = 1; lanes < kQuads; lanes *= 2) so_far.total += __shfl_xor_sync(~0u, so_far.total, lanes);
  if (row < L::rows && threadIdx.x % kQuads == 0) {
    parts.highest_of(piece.slot)[row] = so_far.highest;
    parts.total_of(piece.slot)[row] = so_far.total;
  }
}

// A place in the ring, or among the widened blocks.
struct Place {
  int slot = 0;
  template <class L>
  __device__ __forceinline__ char* in_ring(const Shared& shared, L) const {
    return shared.ring + slot * L::ring_slot_bytes;
  }
  template <class L>  // where products read it
  __device__ __forceinline__ char* of(const Shared& shared, L) const {
    return (L::eight_bits ? shared.wide : shared.ring) + slot * L::slot_bytes;
  }
  __device__ __forceinline__ void advance(int slots) { slot = slot + 1 == slots ? 0 : slot + 1; }
};

// The blocks of a piece. One after another: score block i, weigh it, add it, with barriers between. Pipelined: between
// two barriers block i is scored, i - 1 weighed and i - 2 added, which do not wait for each other; scores and weights
// have two buffers then, that of a block by the parity of its number. Before the first block and past the last there
// are none: they are scored (whatever lies there) and weighed (no real tokens, so nothing changes), but not added.
// Bytes are widened right before they are scored, and their slot of the ring is filled again at once.
template <class L>
__device__ __forceinline__ void read_piece(const Problem& p, const Piece& piece, const Slice& slice,
                                           const Shared& shared) {
  const int64_t width = p.parts.width;
  const int places = L::eight_bits ? L::wide_slots : p.slots;
  Place copied, scored, added;
  for (int block = 0; block < p.slots; ++block) {
    copy_block<L>(piece, slice, copied.in_ring(shared, L{}), block, width);
    copied.advance(p.slots);
  }
  cuda::grid_dependency_sync();
  uint32_t query[L::steps][L::eights][2];
  load_query<L>(piece, slice, width, query);
  float sums[L::steps][L::eights][4] = {};
  Softmax so_far{-INFINITY, 0};
  if constexpr (L::eight_bits) load_scales(piece, -L::lag / 2, so_far.scales);
  const int pending = p.slots - 1 - (L::eight_bits ? 0 : L::lag);
  for (int i = 0; i < piece.blocks + L::lag; ++i) {
    const int now = L::pipelined ? i & 1 : 0, other = L::pipelined ? now ^ 1 : 0;
    wait_copies(pending);
    __syncwarp();
    if constexpr (L::eight_bits) {
      widen_block<L>(slice, copied.in_ring(shared, L{}), scored.of(shared, L{}));
      __syncwarp();  // the block is widened, and the warp is done with its place in the ring
      copy_block<L>(piece, slice, copied.in_ring(shared, L{}), i + p.slots, width);
      copied.advance(p.slots);
    }
    score_block<L>(
        scored.of(shared, L{}),
        shared.scores + now * (L::score_bytes / 4) + static_cast<int>(threadIdx.x) / 32 * L::rows * kScoreRow, query);
    scored.advance(places);
    if (!L::pipelined) __syncthreads();
    weigh_block<L>(piece, p.scale, i - L::lag / 2, shared.scores + other * (L::score_bytes / 4),
                   shared.weights + other * (L::weight_bytes / 2), shared.factors + other * L::rows, so_far);
    if (!L::pipelined) __syncthreads();
    if (i >= L::lag) {
      add_block<L>(added.of(shared, L{}), shared.weights + now * (L::weight_bytes / 2), shared.factors + now * L::rows,
                   sums);
      if constexpr (!L::eight_bits) {
        __syncwarp();  // the warp is done with this block's place in the ring
        copy_block<L>(piece, slice, added.of(shared, L{}), i - L::lag + p.slots, width);
      }
      added.advance(places);
    }
    if (L::pipelined) __syncthreads();
  }
  write_part<L>(p.parts, piece, slice, so_far, sums);
}

template <class L>
__global__ void __launch_bounds__(kThreads, 1) read_states(const Problem p) {
  extern __shared__ __align__(128) char memory[];
  const int reader = blockIdx.x, warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
  const bool table = p.parts.table.entries != nullptr;
  const Slice slice = slice_of(static_cast<int>(p.parts.width), warp);
  const Shared shared = Shared::of(memory, p.slots, L{});
  cuda::trigger_dependents();
  L::eight_bits ? clear_rest<L>(slice, shared.wide, L::wide_slots) : clear_rest<L>(slice, shared.ring, p.slots);
  if (table || !p.inputs_ready) cuda::grid_dependency_sync();
  const Shares shares = p.parts.shares_now();
  if (reader >= shares.readers) return;
  const int end = shares.begin(reader + 1);
  for (int tile = shares.begin(reader); tile < end;) {
    const Taken taken = table ? take_by_table<L>(p, reader, tile, end) : take<L>(p, reader, tile, end);
    read_piece<L>(p, taken.piece, slice, shared);
    tile = taken.next;
    wait_copies<0>();
    __syncthreads();  // all warps are done with the buffers
  }
}

// ---- The host's side

// How a problem is cut.
struct Cut {
  int block_rows, row_blocks;
  Shares shares;
  int64_t part_rows;  // of all partials
};
Cut cut_of(const Args& a) {
  Cut cut{};
  const int64_t tiles = tiles_of(a.tokens);
  cut.block_rows = a.table ? a.shape->block_rows : block_rows_for(a.rows);
  cut.row_blocks = static_cast<int>((a.rows + cut.block_rows - 1) / cut.block_rows);
  const int64_t pairs = a.contexts * cut.row_blocks;
  if (a.table)
    cut.shares.readers = most_readers();  // the table says how many of them have work
  else
    cut.shares = Shares::of(static_cast<int>(tiles), pairs * tiles, most_readers());
  cut.part_rows = Parts::slots(cut.shares.readers, pairs) * cut.block_rows;
  return cut;
}

Problem problem_of(const Args& args, const Cut& cut) {
  Problem p{};
  p.query = static_cast<const bf16*>(args.query), p.states = static_cast<const char*>(args.states);
  p.eight_bits = args.table ? args.shape->eight_bits : args.scales != nullptr, p.scales = args.scales;
  p.mask = args.mask, p.tokens = args.tokens, p.scale = args.scale * 1.44269504f;
  p.inputs_ready = args.inputs_ready && !args.table;
  p.parts.sums = args.scratch, p.parts.statistics = args.scratch + cut.part_rows * args.width;
  p.parts.form = PartsForm::registers, p.parts.out = args.out;
  p.parts.contexts = args.contexts, p.parts.rows = args.rows, p.parts.width = args.width;
  p.parts.block_rows = cut.block_rows, p.parts.row_blocks = cut.row_blocks, p.parts.shares = cut.shares;
  if (args.table) p.parts.table = table_in(args.table, args.contexts);
  return p;
}

template <class L>
void launch(Problem p, int readers, cudaStream_t stream) {
  p.slots = L::slots(cuda::capability().shared_bytes);
  const int bytes = L::bytes(p.slots);
  check(cudaFuncSetAttribute(read_states<L>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  cuda::launch_dependent("latent attention", read_states<L>,
                         {dim3(static_cast<unsigned>(readers)), kThreads, static_cast<size_t>(bytes), stream}, p);
  launch_merge(p.parts, stream);
}

template <int kSteps, int kEights, bool kEightBits>
void launch(const Problem& p, int readers, cudaStream_t stream) {
  using Pipelined = Layout<kSteps, kEights, true, kEightBits>;
  using Serial = Layout<kSteps, kEights, false, kEightBits>;
  const int bytes = cuda::capability().shared_bytes;
  if (Pipelined::fits(bytes)) return launch<Pipelined>(p, readers, stream);
  if (!Serial::fits(bytes))
    cuda::refuse("latent attention", "a block of this GPU has less than 92 KB of shared memory");
  launch<Serial>(p, readers, stream);
}

template <int kSteps>
void launch_states(const Problem& p, int readers, cudaStream_t stream) {
  const bool few = p.parts.block_rows == 16;
  if (p.eight_bits)
    return few ? launch<kSteps, 2, true>(p, readers, stream) : launch<kSteps, 4, true>(p, readers, stream);
  few ? launch<kSteps, 2, false>(p, readers, stream) : launch<kSteps, 4, false>(p, readers, stream);
}

}  // namespace

int most_readers() {
  int device = 0, count = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

int block_rows_for(int64_t rows) { return rows <= 16 ? 16 : 32; }

int64_t scratch_floats(const Args& args) { return cut_of(args).part_rows * (args.width + 2); }

void latent_attention(const Args& args, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  const Cut cut = cut_of(args);
  const Problem p = problem_of(args, cut);
  const int readers = cut.shares.readers;
  if (args.width <= 512) return launch_states<4>(p, readers, on);
  if (args.width <= 768) return launch_states<6>(p, readers, on);
  launch_states<8>(p, readers, on);
}

}  // namespace cepe::latent_kernel::on_ampere
