// docs/kernels/product_chain.md has the derivation; names here follow it. One block a multiprocessor walks through all
// products. One thread keeps copies of weights coming into a ring of stages and does not wait for anybody but the ring;
// eight warps multiply what has come with x; one warp adds up their sums, finishes the outputs and hands them to the
// other blocks.
#include "ops/product_chain_kernel.h"

#include "ops/product_chain_layout.cuh"

namespace cepe::product_chain_kernel {
namespace {

// ---- Copying

// Asks for a norm's weights, which all blocks will want at once, each block for its part.
__device__ __forceinline__ void prefetch_norm(const Step& s) {
  if (s.norm == nullptr) return;
  for (int at = blockIdx.x * kChunk; at < s.inputs; at += gridDim.x * kChunk) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(s.norm + at));
  }
}

__device__ __forceinline__ void copy_stage(const Step& s, const Tile& tile, int stage, char* to, uint64_t* barrier) {
  if (s.transposed) {
    arrive_expecting(barrier, static_cast<uint32_t>(s.inputs * kRowBytes));
    copy_box(to, s.weight, {0, 0, tile.in_head, tile.head}, barrier);
    return;
  }
  const int first = tile.in_head * (s.gated ? kBoxRows : kTileRows), second = first + (s.gated ? s.outputs : kBoxRows);
  arrive_expecting(barrier, kStageBytes);
  copy_box(to, s.weight, {0, first, stage * kWarps, tile.head}, barrier);
  copy_box(to + kBoxBytes, s.weight, {0, second, stage * kWarps, tile.head}, barrier);
}

// One thread.
__device__ __forceinline__ void copy_weights(const Chain& chain, const Shared& shared) {
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
        copy_stage(s, tile, stage, shared.ring + at.slot * kStageBytes, shared.full + at.slot);
        at.advance(chain.stages);
      }
    }
  }
}

// ---- Multiplying

__host__ __device__ inline int pitch_of(const Step& s) { return s.inputs + 8; }  // rows of x begin at different banks

// What is asked for of a row at a time.
template <typename X>
struct Asked {
  X x;
  Vector norm;
};
__device__ __forceinline__ int warps_of_row(int rows) { return rows <= 1 ? 8 : rows <= 2 ? 4 : rows <= 4 ? 2 : 1; }
// What a lane takes of a row, kAhead vectors at a time; load(at) asks for a vector, take(asked, at) waits for it.
template <typename Load, typename Take>
__device__ __forceinline__ void for_vectors(int vectors, int sharing, Load load, Take take) {
  constexpr int kAhead = 2;
  const int step = sharing * kWarp;
  for (int begin = threadIdx.x % step; begin < vectors; begin += step * kAhead) {
    decltype(load(0)) asked[kAhead];
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      if (begin + u * step < vectors) asked[u] = load(begin + u * step);
    }
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      if (begin + u * step < vectors) take(asked[u], begin + u * step);
    }
  }
}
// Waits until words here and there in x have come, so that not all threads of all blocks ask for theirs again and
// again, which would take from the weights' bandwidth. One warp.
__device__ __forceinline__ void wait_for_words(const Step& s, int place, uint32_t stamp) {
  const Word* const word = s.x_words + (place + threadIdx.x % kWarp * (s.inputs / kWarp / 2 * 2)) / 2;
  Word found;
  do asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(found) : "l"(word) : "memory");
  while (!has(found, stamp));
}
// Rows of x into shared memory, for the heads of this block's tiles, by all multiplying warps; several share a row
// where there are few. Times the norm's weights where there are some: what is left of the norm is one factor a column,
// from the squares.
__device__ __forceinline__ void stage_rows(const Step& s, const Share& share, int rows, const Shared& shared,
                                           float* squares) {
  const int columns = rows * s.group, staged = share.heads * columns, sharing = warps_of_row(staged),
            warp = threadIdx.x / kWarp;
  if (s.x_words != nullptr) wait(shared.stamped, 0);
  const uint32_t stamp = s.x_words != nullptr ? *shared.stamp : 0;
  if (s.x_words != nullptr) {
    if (warp == 0) wait_for_words(s, share.head * s.group * s.inputs, stamp);
    synchronise_group<kMultipliers>(1);
  }
  for (int row = warp / sharing; row < staged; row += kWarps / sharing) {
    const int in_head = staged == columns ? row : row % columns,
              head = share.head + (staged == columns ? 0 : row / columns);
    const int vector =
        s.group == 1 ? in_head * s.heads + head : (in_head / s.group * s.heads + head) * s.group + in_head % s.group;
    const int place = vector * s.inputs;
    bf16* const to = shared.x + row * pitch_of(s);
    float sum = 0;
    const auto norm_at = [&](int at) { return s.norm != nullptr ? load(s.norm + at * kVector) : Vector{}; };
    const auto put = [&](Vector v, const Vector& norm, int at) {
      if (s.norm != nullptr) {
        float f[kVector], weights[kVector];
        unpack(v, f);
        unpack(norm, weights);
#pragma unroll
        for (int k = 0; k < kVector; ++k) sum += f[k] * f[k], f[k] *= weights[k];
        v = pack(f);
      }
      store(to + at * kVector, v);
    };
    if (s.x_words != nullptr) {
      const Word* const words = s.x_words + place / 2;
      for_vectors(
          s.inputs / kVector, sharing,
          [&](int at) {
            return Asked<Words>{ask_for(words + at * 4), norm_at(at)};
          },
          [&](const Asked<Words>& a, int at) { put(values_of(a.x, words + at * 4, stamp), a.norm, at); });
    } else {
      for_vectors(
          s.inputs / kVector, sharing,
          [&](int at) {
            return Asked<Vector>{load_fresh(s.x + place + at * kVector), norm_at(at)};
          },
          [&](const Asked<Vector>& a, int at) { put(a.x, a.norm, at); });
    }
    if (s.norm == nullptr) continue;
    sum = warp_sum(sum);
    if (threadIdx.x % kWarp == 0) squares[in_head * kWarps + warp % sharing] = sum;
  }
}

template <bool kTransposed>
__device__ __forceinline__ void load_matrices(uint32_t (&to)[4], uint32_t address) {
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
  }
}
// d (16 x 8) += a (16 x 16) b (16 x 8)
__device__ __forceinline__ void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Where a lane reads x for a product's column `lane % 8`: eight inputs from 8 (lane / 8) on; zeros where there is no
// column.
struct XRow {
  uint32_t address;
  uint32_t there;  // all bits or none

  __device__ __forceinline__ XRow(const Step& s, const Shared& shared, int head_here, int columns) {
    const int lane = threadIdx.x % kWarp, column = lane % 8;
    there = column < columns ? ~0u : 0u;
    address =
        shared_address(there ? shared.x + (head_here * columns + column) * pitch_of(s) + lane / 8 * 8 : shared.zeros);
  }
  __device__ __forceinline__ uint32_t at(int input) const {
    return address + (static_cast<uint32_t>(input * 2) & there);
  }
};

// Sums of 16 outputs (rows) by 8 columns each, twice: products in turn, so that one need not wait for the one before.
struct Sums {
  float of[2][4] = {};
};

// 16 outputs times one chunk of inputs: what a warp does of a stage.
__device__ __forceinline__ void multiply_chunk(uint32_t stage, int input, const XRow& x, Sums& sums) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const uint32_t rows = stage + lane / 8 % 2 * kBoxBytes + warp * (kBoxRows * kRowBytes) + lane % 8 * kRowBytes;
  uint32_t a[4][4], b[2][4];
#pragma unroll
  for (int k = 0; k < 4; ++k) load_matrices<false>(a[k], rows + ((2 * k + lane / 16 ^ lane % 8) << 4));
#pragma unroll
  for (int half = 0; half < 2; ++half) load_matrices<false>(b[half], x.at(input + half * 32));
#pragma unroll
  for (int k = 0; k < 4; ++k) multiply_add(sums.of[k % 2], a[k], b[k / 2][k % 2 * 2], b[k / 2][k % 2 * 2 + 1]);
}

// Of 64 outputs of a transposed matrix the 16 of warp % 4, and half of the inputs, in steps of 32.
__device__ __forceinline__ void multiply_transposed(uint32_t stage, int inputs, const XRow& x, Sums& sums) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
#pragma unroll 1
  for (int input = warp / 4 * 32; input < inputs; input += 64) {
    uint32_t a[2][4], b[4];
    load_matrices<false>(b, x.at(input));
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const int row = input + k * 16 + lane / 16 * 8 + lane % 8, part = warp % 4 * 2 + lane / 8 % 2;
      load_matrices<true>(a[k], stage + row * kRowBytes + ((part ^ row % 8) << 4));
    }
#pragma unroll
    for (int k = 0; k < 2; ++k) multiply_add(sums.of[k], a[k], b[2 * k], b[2 * k + 1]);
  }
}

// Hands a tile's sums of this warp to the finishing one.
__device__ __forceinline__ void hand_over(const Shared& shared, int done, const Sums& sums) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, place = done % 2;
  wait(shared.sums_free + place, (done / 2 & 1) ^ 1);
  const auto &a = sums.of[0], &b = sums.of[1];
  shared.sums[(place * kWarps + warp) * kWarp + lane] = make_float4(a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]);
  __syncwarp();
  if (lane == 0) arrive(shared.sums_there + place);
}

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

// ---- Finishing: lane l holds, with g = l / 4 and t = l % 4,
//   sums.x, .y: output g of the tile, columns 2t and 2t + 1    sums.z, .w: output g + 8 (of a gated product what it
//   multiplies)

// The sum over the warps that took part of a tile's inputs; of a transposed matrix over the two of the same outputs.
__device__ __forceinline__ float4 sum_of_warps(const Shared& shared, int place, int first, int step) {
  float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) {
    if (warp % step != first) continue;
    const float4 part = shared.sums[(place * kWarps + warp) * kWarp + threadIdx.x % kWarp];
    sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
  }
  return sum;
}

// A lane's two columns in one product: where their outputs begin, before heads are counted.
struct Columns {
  int begin[2];
  bool there[2];

  __device__ __forceinline__ Columns(const Step& s, int columns) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int column = threadIdx.x % 4 * 2 + c;
      there[c] = column < columns;
      const int vector = s.group == 1 ? column * s.heads : column / s.group * s.heads * s.group + column % s.group;
      begin[c] = vector * s.outputs;
    }
  }
};
// Its two outputs in one tile (of a gated product once, and what it multiplies): `of` in a head; places[c] is that of
// output 0.
struct Outputs {
  int of[2];
  bool there[2];
  int places[2];

  __device__ __forceinline__ Outputs(const Step& s, const Columns& columns, const Tile& tile, int quarter) {
    const int tile_outputs = s.transposed ? kTransposedOutputs : s.gated ? kBoxRows : kTileRows;
    of[0] = tile.in_head * tile_outputs + quarter * kTileRows + threadIdx.x % kWarp / 4;
    of[1] = of[0] + (s.gated ? 0 : kBoxRows);
#pragma unroll
    for (int c = 0; c < 2; ++c)
      places[c] = columns.begin[c] + tile.head * s.group * s.outputs, there[c] = of[c] < s.outputs;
  }
};

// What norms leave for the sums of a lane's columns.
__device__ __forceinline__ float norm_factor(const Step& s, const float* squares, int column) {
  const float4* const of = reinterpret_cast<const float4*>(squares + column * kWarps);
  const float4 a = of[0], b = of[1];
  return rsqrtf(((a.x + a.y) + (a.z + a.w) + ((b.x + b.y) + (b.z + b.w))) / static_cast<float>(s.inputs) + s.eps);
}

__device__ __forceinline__ float residual_at(const Step& s, int place, uint32_t stamp) {
  if (s.residual_words == nullptr) {
    return __bfloat162float(__ushort_as_bfloat16(__ldcg(reinterpret_cast<const unsigned short*>(s.residual + place))));
  }
  Word word;
  do {
    asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(word) : "l"(s.residual_words + place / 2) : "memory");
  } while (!has(word, stamp));
  return __uint_as_float(place % 2 == 0 ? static_cast<uint32_t>(word) << 16
                                        : static_cast<uint32_t>(word) & 0xffff0000u);
}
// The addends of sums, which wait for nobody: loaded while the tile is being multiplied.
__device__ __forceinline__ float4 addends(const Step& s, const Columns& columns, const Outputs& o, uint32_t stamp) {
  float of[2][2] = {};
  if (s.bias == nullptr && s.residual == nullptr) return make_float4(0, 0, 0, 0);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      if (!o.there[half] || !columns.there[c]) continue;
      if (s.bias != nullptr)
        of[half][c] += __bfloat162float(s.bias[o.of[half] + (s.gated && half == 1 ? s.outputs : 0)]);
      if (s.residual != nullptr) of[half][c] += residual_at(s, o.places[c] + o.of[half], stamp);
    }
  }
  return make_float4(of[0][0], of[0][1], of[1][0], of[1][1]);
}

// All lanes: two outputs that follow each other lie in lanes that are four apart.
__device__ __forceinline__ void write_outputs(const Step& s, const Columns& columns, const Outputs& o,
                                              const float4& sum, uint32_t stamp) {
  float of[2][2] = {{sum.x, sum.y}, {sum.z, sum.w}};
  if (s.gated) {
#pragma unroll
    for (int c = 0; c < 2; ++c) of[0][c] *= sigmoid(of[0][c]) * of[1][c];
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (half == 1 && s.gated) continue;
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const float next = __shfl_down_sync(~0u, of[half][c], 4);
      if (!o.there[half] || !columns.there[c]) continue;
      const int place = o.places[c] + o.of[half];
      const __nv_bfloat162 two = __floats2bfloat162_rn(of[half][c], next);
      if (place % 2 == 0) store_word(s.out_words + place / 2, reinterpret_cast<const uint32_t&>(two), stamp);
      s.out[place] = two.x;
    }
  }
}

__device__ __forceinline__ void add(float4& to, const float4& x) { to.x += x.x, to.y += x.y, to.z += x.z, to.w += x.w; }

// A tile that begins in one block and ends in others is finished by the first: the others leave their sums in memory at
// the beginning of their shares, long before it comes to its end.
__device__ __forceinline__ Word* deposit_of(const Chain& chain, int step, int block) {
  return chain.deposits + (step * static_cast<int>(gridDim.x) + block) * (4 * kWarp) + threadIdx.x % kWarp * 2;
}
__device__ __forceinline__ void deposit(const Chain& chain, int step, const float4& sums, uint32_t stamp) {
  Word* const to = deposit_of(chain, step, blockIdx.x);
  store_word(to, __float_as_uint(sums.x), stamp);
  store_word(to + 1, __float_as_uint(sums.y), stamp);
  store_word(to + 2 * kWarp, __float_as_uint(sums.z), stamp);
  store_word(to + 2 * kWarp + 1, __float_as_uint(sums.w), stamp);
}
__device__ __forceinline__ float4 deposits_of(const Chain& chain, int step, const Tile& tile, uint32_t stamp) {
  const Step& s = chain.steps[step];
  const int tile_end = (tile.index + 1) * s.stages;
  float4 sum = make_float4(0, 0, 0, 0);
  for (int block = blockIdx.x + 1; begin_of_share(s, block) < tile_end; ++block) {
    const Word* const from = deposit_of(chain, step, block);
    Words words;
    do words = ask_for(from, 2 * kWarp);
    while (!words.all_have(stamp));
    const auto value = [&](int i) { return __uint_as_float(static_cast<uint32_t>(words.of[i])); };
    add(sum, make_float4(value(0), value(1), value(2), value(3)));
  }
  return sum;
}

// A transposed matrix's tile: four times 16 outputs, of which two warps have summed half of the inputs each.
__device__ __forceinline__ void finish_transposed(const Step& s, const Shared& shared, const Columns& columns,
                                                  const Tile& tile, int done) {
  wait(shared.sums_there + done % 2, done / 2 & 1);
  for (int quarter = 0; quarter < 4; ++quarter) {
    write_outputs(s, columns, Outputs(s, columns, tile, quarter), sum_of_warps(shared, done % 2, quarter, 4),
                  *shared.stamp);
  }
}

// Any other tile. The step it is of, and the number of tiles before it.
struct Progress {
  int step, done;
};
__device__ __forceinline__ void finish_tile(const Chain& chain, const Shared& shared, const Columns& columns,
                                            const Tile& tile, const Progress& at) {
  const int step = at.step, done = at.done;
  const Step& s = chain.steps[step];
  const uint32_t stamp = *shared.stamp;
  const bool owns = tile.first_stage == 0;
  const Outputs o(s, columns, tile, 0);
  float4 added = make_float4(0, 0, 0, 0), elsewhere = added;
  if (owns) added = addends(s, columns, o, stamp);
  if (owns && tile.end_stage < s.stages) elsewhere = deposits_of(chain, step, tile, stamp);
  wait(shared.sums_there + done % 2, done / 2 & 1);
  float4 sums = sum_of_warps(shared, done % 2, 0, 1);
  if (!owns) return deposit(chain, step, sums, stamp);
  add(sums, elsewhere);
  if (s.norm != nullptr) {
    const float* const squares = shared.squares + step * Shared::kSquares;
    const float first = norm_factor(s, squares, threadIdx.x % 4 * 2),
                second = norm_factor(s, squares, threadIdx.x % 4 * 2 + 1);
    sums.x *= first, sums.y *= second, sums.z *= first, sums.w *= second;
  }
  add(sums, added);
  write_outputs(s, columns, o, sums, stamp);
}

// The launch's stamp for all threads of the block.
__device__ __forceinline__ void read_stamp(const Chain& chain, const Shared& shared) {
  if (threadIdx.x % kWarp == 0) {
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(*shared.stamp) : "l"(chain.launches) : "memory");
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(chain.launches + 1) : "memory");
    arrive(shared.stamped);
  }
  __syncwarp();
}
// When all blocks have read it, one sets that of the next launch.
__device__ __forceinline__ void renew_stamp(const Chain& chain, uint32_t stamp) {
  if (blockIdx.x != 0 || threadIdx.x % kWarp != 0) return;
  uint32_t read;
  do {
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(read) : "l"(chain.launches + 1) : "memory");
  } while (read != gridDim.x);
  chain.launches[0] = stamp + 1 == 0 ? 1 : stamp + 1, chain.launches[1] = 0;  // 0 is what new memory holds
}

__device__ __forceinline__ void finish_tiles(const Chain& chain, const Shared& shared) {
  read_stamp(chain, shared);
  int done = 0;
  for (int i = 0; i < chain.count; ++i) {
    const Step& s = chain.steps[i];
    const Share share = shared.shares[i];
    const Columns columns(s, chain.rows * s.group);
    if (i + 1 == chain.count) renew_stamp(chain, *shared.stamp);
#pragma unroll 1
    for (Tile tile(s, share); tile.index < share.end; tile.advance(s, share), ++done) {
      if (s.transposed)
        finish_transposed(s, shared, columns, tile, done);
      else
        finish_tile(chain, shared, columns, tile, {i, done});
      __syncwarp();
      if (threadIdx.x % kWarp == 0) arrive(shared.sums_free + done % 2);
    }
  }
}

__global__ void __launch_bounds__(kThreads, 1) run_chain(const __grid_constant__ Chain chain) {
  extern __shared__ __align__(1024) char memory[];
  const Shared shared(memory, chain);
  let_next_start();
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
    wait_for_earlier();
    multiply_tiles(chain, shared);
  } else if (warp == kWarps) {
    if (threadIdx.x % kWarp == 0) copy_weights(chain, shared);  // weights wait for nobody
  } else {
    wait_for_earlier();
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
  s.share = s.tiles * s.stages / multiprocessors(), s.longer_shares = s.tiles * s.stages % multiprocessors();
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
  if (args.count < 1 || args.count > kMostProducts) return false;
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
  if (!fits(args)) fused::refuse("product chain", "its sizes are not those that it is made for");
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
    s.weight = latent_kernel::map_of_chunks(
        {p.weight, p.heads, p.transposed ? p.inputs : p.outputs, p.transposed ? p.outputs : p.inputs},
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
  static const cudaError_t prepared =
      cudaFuncSetAttribute(run_chain, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  if (prepared != cudaSuccess) fused::refuse("product chain", cudaGetErrorString(prepared));
  launch_early(
      "product chain", run_chain,
      {dim3(static_cast<unsigned>(multiprocessors())), kThreads, static_cast<size_t>(bytes), as_stream(stream)}, chain);
}

}  // namespace cepe::product_chain_kernel
