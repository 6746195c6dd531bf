// The epilogue warp of a CTA of the GEMV chain: it reduces the sums of the consumer warps to outputs, and publishes the
// outputs to the other CTAs. Included by gemv_chain_kernel.cu only.
#pragma once

#include "ops/chain/gemv_chain_layout.cuh"

namespace cepe::gemv_chain_kernel {

// Lane l holds, with g = l / 4 and t = l % 4,
//   sums.x, .y: output g of the tile, columns 2t and 2t + 1    sums.z, .w: output g + 8 (of a gated product: up, where
//   .x and .y are gate)

// The sum over the warps that share a tile's inputs; of a transposed matrix over the two warps of the same outputs.
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

// A lane's two columns of one product: the offset of each column's outputs, for head 0.
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
// A lane's two outputs in one tile (of a gated product: gate and up of one output). `of`: the output's number in its
// head; places[c]: the offset of output 0 of column c.
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

// The factor of RMSNorm that the sums of a column are multiplied by.
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
// Bias and residual, loaded while the tile is still being multiplied.
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

// Called by all lanes: two consecutive outputs are in lanes that are four apart.
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

// A tile that is split among CTAs is owned by the one in which it begins. The others write their partial tiles to the
// workspace at the beginning of their shares, long before the owner reaches the end of its share.
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

// A tile of a transposed matrix: four times 16 outputs; two warps have summed half of the inputs each.
__device__ __forceinline__ void finish_transposed(const Step& s, const Shared& shared, const Columns& columns,
                                                  const Tile& tile, int done) {
  wait(shared.sums_there + done % 2, done / 2 & 1);
  for (int quarter = 0; quarter < 4; ++quarter) {
    write_outputs(s, columns, Outputs(s, columns, tile, quarter), sum_of_warps(shared, done % 2, quarter, 4),
                  *shared.stamp);
  }
}

// Any other tile: its step, and the number of tiles that this CTA has done before.
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

// Reads the launch's epoch for all threads of the CTA.
__device__ __forceinline__ void read_stamp(const Chain& chain, const Shared& shared) {
  if (threadIdx.x % kWarp == 0) {
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(*shared.stamp) : "l"(chain.launches) : "memory");
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(chain.launches + 1) : "memory");
    arrive(shared.stamped);
  }
  __syncwarp();
}
// When all CTAs have read the epoch, one CTA advances it for the next launch.
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

}  // namespace cepe::gemv_chain_kernel
