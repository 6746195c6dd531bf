// The blocks are GotoBLAS's (Goto and van de Geijn, 2008): some groups of inputs of the piece's outputs are unpacked
// into panels in L2, and a tile of sums stays in registers.
#include "ops/cpu/gemm.h"

#include <hwy/aligned_allocator.h>

#include <algorithm>
#include <cstring>

#include "ops/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/gemm.cc"
#include <hwy/foreach_target.h>

#include "ops/cpu/whole-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cepe::cpu::HWY_NAMESPACE {

// A tile of sums: of 16 registers they take 6 twice, in whole numbers and in float32, of 32 they take 12 twice.
constexpr int kVectors = kLanes == 1 ? 4 : 2, kMostRows = kRegisters == 16 ? 3 : 6;
constexpr int64_t kPanel = kVectors * kLanes;
constexpr int64_t kGroupPairs = kGroup / 2;
static_assert(kGemmOutputs % kPanel == 0 && kGemmUnit % kPanel == 0);

// Of kPanel outputs. Two neighbouring inputs of an output lie in 32 bits.
struct Panel {
  HWY_ALIGN int32_t pairs[kGemmDepth][kGroupPairs][kPanel];
  HWY_ALIGN float scales[kGemmDepth][kPanel];  // int4: a number is scale * (code - 8) + middle
  HWY_ALIGN float middles[kGemmDepth][kPanel];
};

struct Groups {
  int64_t first, count;
};

// kLanes outputs, which lie in one tile.
HWY_INLINE void unpack_int4(const Gemm& gemm, int64_t output, Groups groups, int64_t column, Panel& to) {
  const hn::RebindToUnsigned<Floats> bits;
  const int64_t lane = output % kTileRows, all = gemm.inputs / kGroup, tile = output / kTileRows * all;
  const auto* const values = static_cast<const uint8_t*>(gemm.values) + (tile + groups.first) * kGroupBytes;
  const auto* const scales = static_cast<const uint16_t*>(gemm.scales) + (tile + groups.first) * kGroupScales;
  for (int64_t g = 0; g < groups.count; ++g) {
    const uint16_t* const of_group = scales + g * kGroupScales + lane;
    const Vector scale = load_float16(of_group), least = load_float16(of_group + kTileRows);
    store(to.scales[g] + column, scale);
    store(to.middles[g] + column, hn::MulAdd(hn::Set(kFloats, 8.0f), scale, least));
    for (int64_t line = 0; line < 4; ++line) {
      auto words = hn::LoadU(bits, reinterpret_cast<const uint32_t*>(values + g * kGroupBytes + 64 * line) + lane);
      for (int64_t i = 0; i < 4; ++i, words = hn::ShiftRight<4>(words)) {
        store_shorts(less_8(shorts_of(hn::And(words, hn::Set(bits, 0x000f000f)))), to.pairs[g][4 * line + i] + column);
      }
    }
  }
}

// Four outputs, zeros where there is none.
HWY_INLINE void unpack_int8(const Gemm& gemm, int64_t output, Groups groups, int64_t column, Panel& to) {
  const auto* const values = static_cast<const int8_t*>(gemm.values) + output * gemm.inputs + groups.first * kGroup;
  for (int64_t g = 0; g < groups.count; ++g) {
    for (int64_t pair = 0; pair < kGroupPairs; pair += kLanes) {
      Vector rows[4];  // of bits
      for (int64_t o = 0; o < 4; ++o) {
        const int8_t* const from = values + o * gemm.inputs + g * kGroup + 2 * pair;
        rows[o] = output + o < gemm.outputs ? as_vector(load_shorts(from)) : hn::Zero(kFloats);
      }
      store_columns(rows, reinterpret_cast<float*>(to.pairs[g][pair] + column), kPanel);
    }
  }
}

HWY_INLINE void unpack(const Gemm& gemm, int64_t output, Groups groups, Panel& to) {
  const bool int4 = gemm.format == MatrixFormat::int4;
  for (int64_t column = 0; column < kPanel && output + column < gemm.outputs; column += int4 ? kLanes : 4) {
    int4 ? unpack_int4(gemm, output + column, groups, column, to)
         : unpack_int8(gemm, output + column, groups, column, to);
  }
}

// Some rows of x from a group on.
struct Rows {
  const int16_t* whole;
  const float *steps, *sums;
  int64_t inputs;
};

// Where sums go: kPanel outputs of some rows, of which `outputs` are there.
struct Target {
  float* at;
  int64_t stride, outputs;
  const float* scales;  // int8: of the outputs
  bool add;             // to what stands there
};

HWY_INLINE void put(const Target& to, int64_t row, const Vector (&sums)[kVectors]) {
  float* const at = to.at + row * to.stride;
  if (to.outputs >= kPanel) {
    for (int v = 0; v < kVectors; ++v) {
      const Vector sum = to.scales ? hn::Mul(sums[v], load(to.scales + v * kLanes)) : sums[v];
      store(at + v * kLanes, to.add ? hn::Add(load(at + v * kLanes), sum) : sum);
    }
    return;
  }
  HWY_ALIGN float all[kPanel];
  for (int v = 0; v < kVectors; ++v) store(all + v * kLanes, sums[v]);
  for (int64_t o = 0; o < to.outputs; ++o) {
    const float sum = to.scales ? all[o] * to.scales[o] : all[o];
    at[o] = to.add ? at[o] + sum : sum;
  }
}

// A group of x's rows times one of the panel.
template <class DotOf, int kRows>
HWY_INLINE void multiply_group(const Rows& x, const int32_t (&pairs)[kGroupPairs][kPanel],
                               DotOf (&dots)[kRows][kVectors]) {
  const hn::RebindToUnsigned<Floats> bits;
  for (int64_t pair = 0; pair < kGroupPairs; ++pair) {
    Shorts weights[kVectors];
    for (int v = 0; v < kVectors; ++v)
      weights[v] = load_shorts(reinterpret_cast<const int16_t*>(pairs[pair] + v * kLanes));
    for (int r = 0; r < kRows; ++r) {
      uint32_t both = 0;
      std::memcpy(&both, x.whole + r * x.inputs + 2 * pair, sizeof(both));
      const Shorts factor = shorts_of(hn::Set(bits, both));
      for (int v = 0; v < kVectors; ++v) dots[r][v].add(weights[v], factor);
    }
  }
}

template <class DotOf, bool kInt4, int kRows>
HWY_INLINE void multiply_rows(Rows x, const Panel& panel, int64_t groups, const Target& to) {
  Vector sums[kRows][kVectors];
  for (auto& row : sums) {
    for (Vector& sum : row) sum = hn::Zero(kFloats);
  }
  for (int64_t g = 0; g < groups; ++g, x.whole += kGroup, ++x.steps, ++x.sums) {
    DotOf dots[kRows][kVectors];
    multiply_group<DotOf, kRows>(x, panel.pairs[g], dots);
    for (int r = 0; r < kRows; ++r) {
      const int64_t at = r * (x.inputs / kGroup);
      const Vector step = hn::Set(kFloats, x.steps[at]);
      for (int v = 0; v < kVectors; ++v) {
        const Vector scale = kInt4 ? hn::Mul(step, load(panel.scales[g] + v * kLanes)) : step;
        sums[r][v] = hn::MulAdd(dots[r][v].sums_of_pairs(), scale, sums[r][v]);
        if (!kInt4) continue;
        sums[r][v] = hn::MulAdd(hn::Set(kFloats, x.sums[at]), load(panel.middles[g] + v * kLanes), sums[r][v]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) put(to, r, sums[r]);
}

struct Pass {
  const Gemm& gemm;
  const Panel* panels;
  Groups groups;
  const GemmPiece& piece;
};

template <class DotOf, bool kInt4, int kRows>
void multiply_panels(const Pass& pass, int64_t row) {
  const Gemm& gemm = pass.gemm;
  const int64_t group = row * (gemm.inputs / kGroup) + pass.groups.first;
  const GemvInputs& all = *gemm.x;
  const Rows x = {all.whole.data() + group * kGroup, all.steps.data() + group, all.sums.data() + group, gemm.inputs};
  const GemmPiece& piece = pass.piece;
  for (int64_t at = 0; at < piece.outputs; at += kPanel) {
    const int64_t output = piece.first_output + at;
    const float* const scales = kInt4 ? nullptr : static_cast<const float*>(gemm.scales) + output;
    const Target to = {gemm.out + row * gemm.outputs + output, gemm.outputs, piece.outputs - at, scales,
                       pass.groups.first > 0};
    multiply_rows<DotOf, kInt4, kRows>(x, pass.panels[at / kPanel], pass.groups.count, to);
  }
}

template <class DotOf, bool kInt4>
void multiply_pass(const Pass& pass) {
  const int64_t end = pass.piece.first_row + pass.piece.rows;
  int64_t row = pass.piece.first_row;
  for (; row + kMostRows <= end; row += kMostRows) multiply_panels<DotOf, kInt4, kMostRows>(pass, row);
  for (; row + 2 <= end; row += 2) multiply_panels<DotOf, kInt4, 2>(pass, row);
  if (row < end) multiply_panels<DotOf, kInt4, 1>(pass, row);
}

template <class DotOf>
void multiply_all(const Gemm& gemm, const GemmPiece& piece, Panel* panels) {
  const int64_t groups = gemm.inputs / kGroup, passes = (groups + kGemmDepth - 1) / kGemmDepth;
  for (int64_t pass = 0; pass < passes; ++pass) {
    const int64_t first = groups * pass / passes;
    const Pass of = {gemm, panels, {first, groups * (pass + 1) / passes - first}, piece};
    for (int64_t at = 0; at < piece.outputs; at += kPanel) {
      unpack(gemm, piece.first_output + at, of.groups, panels[at / kPanel]);
    }
    gemm.format == MatrixFormat::int4 ? multiply_pass<DotOf, true>(of) : multiply_pass<DotOf, false>(of);
  }
}

// memory: of kGemmPanelBytes, aligned for any vector
void multiply(const Gemm& gemm, const GemmPiece& piece, void* memory, [[maybe_unused]] bool vnni) {
  static_assert(sizeof(Panel) * (kGemmOutputs / kPanel) == kGemmPanelBytes);
  auto* const panels = static_cast<Panel*>(memory);
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  if (vnni) return multiply_all<VnniDot>(gemm, piece, panels);
#endif
  multiply_all<Dot>(gemm, piece, panels);
}

}  // namespace cepe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cepe::cpu {

HWY_EXPORT(multiply);

void multiply_piece(const Gemm& gemm, const GemmPiece& piece) {
  static thread_local const hwy::AlignedFreeUniquePtr<uint8_t[]> memory =
      hwy::AllocateAligned<uint8_t>(kGemmPanelBytes);
  HWY_DYNAMIC_DISPATCH(multiply)(gemm, piece, memory.get(), vnni_products());
}

}  // namespace cepe::cpu
#endif
