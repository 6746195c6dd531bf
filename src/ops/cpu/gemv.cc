// Products of few rows with a matrix that is read once.
#include "ops/cpu/gemv.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/cpu/gemv_avx512.h"
#include "ops/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/gemv.cc"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>

#include "ops/cpu/whole-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cepe::cpu::HWY_NAMESPACE {

// How far ahead of the arithmetic weights are asked for: the processor's own prefetching stops at pages of 4 KB.
constexpr int64_t kAhead = 4096;
// Vectors of a tile's 16 rows, and rows of x whose sums stay in registers.
constexpr int64_t kParts = kTileRows / kLanes;
constexpr int kMostRows = kRegisters == 16 ? 2 : 4;

// Sums of a tile: of kRows rows of x, 16 rows of the matrix.
template <int kRows>
using Sums = float[kRows][kTileRows];

template <class Element>
HWY_INLINE void widen_row(const Gemv& gemv, int64_t row, float* out) {
  const Element* const x = static_cast<const Element*>(gemv.x) + row * gemv.inputs;
  Vector squares = hn::Zero(kFloats);
  for (int64_t i = 0; i < gemv.inputs; i += kLanes) {
    const Vector v = load(x + i);
    squares = hn::MulAdd(v, v, squares);
    store(out + i, v);
  }
  if (!gemv.norm) return;
  const float mean = sum_of_lanes(squares) / static_cast<float>(gemv.inputs);
  const Vector scale = hn::Set(kFloats, 1 / std::sqrt(mean + gemv.eps));
  const Element* const norm = static_cast<const Element*>(gemv.norm);
  for (int64_t i = 0; i < gemv.inputs; i += kLanes) {
    store(out + i, hn::Mul(hn::Mul(load(out + i), scale), load(norm + i)));
  }
}

// A group's sum, and the group in 16 bits: x = step * whole. Where a number is not finite the step is not a number.
HWY_INLINE void round_group(const float* x, int16_t* whole, float& step, float& sum, int32_t& eights) {
  Vector added = hn::Zero(kFloats), most = hn::Zero(kFloats);
  for (int64_t i = 0; i < kGroup; i += kLanes) {
    const Vector v = load(x + i);
    added = hn::Add(added, v);
    most = hn::Max(most, hn::Abs(v));
  }
  sum = sum_of_lanes(added);
  const float greatest = max_of_lanes(most);
  step = greatest / 32767 + 0 * sum;
  const Vector steps_a_one = hn::Set(kFloats, greatest > 0 ? 32767 / greatest : 0.0f);
  const hn::Rebind<int16_t, Floats> shorts;
  const hn::RebindToSigned<Floats> integers;
  auto all = hn::Zero(integers);
  for (int64_t i = 0; i < kGroup; i += kLanes) {
    const auto rounded = hn::NearestInt(hn::Mul(load(x + i), steps_a_one));
    hn::StoreU(hn::DemoteTo(shorts, rounded), shorts, whole + i);
    all = hn::Add(all, rounded);
  }
  eights = 8 * hn::GetLane(hn::SumOfLanes(integers, all));
}

void round_some(const float* x, GemvInputs& made, int64_t begin, int64_t end) {
  for (int64_t group = begin; group < end; ++group) {
    const int64_t at = group * kGroup;
    round_group(x + at, made.whole.data() + at, made.steps[group], made.sums[group], made.eights[group]);
  }
}

void prepare_inputs(const Gemv& gemv, GemvInputs& made, bool narrow) {
  const int64_t numbers = gemv.rows * gemv.inputs;
  made.wide.resize(static_cast<size_t>(numbers));
  for (int64_t row = 0; row < gemv.rows; ++row) {
    float* const out = made.wide.data() + row * gemv.inputs;
    gemv.half ? widen_row<uint16_t>(gemv, row, out) : widen_row<float>(gemv, row, out);
  }
  if (narrow) {
    made.narrow.resize(static_cast<size_t>(numbers));
    for (int64_t i = 0; i < numbers; i += kLanes) store(made.narrow.data() + i, load(made.wide.data() + i));
  } else if (gemv.format != MatrixFormat::bfloat16) {
    made.make_room_in_16_bits(numbers);
    round_some(made.wide.data(), made, 0, numbers / kGroup);
  }
}

// One of the eight numbers of 0 to 15 that each 32 bits of a tile hold.
template <int kNibble>
HWY_INLINE Vector code(hn::Vec<hn::RebindToUnsigned<Floats>> words) {
  const hn::RebindToUnsigned<Floats> bits;
  const auto moved = hn::ShiftRight<4 * kNibble>(words);
  return hn::ConvertTo(kFloats, hn::BitCast(hn::RebindToSigned<Floats>(), hn::And(moved, hn::Set(bits, 15))));
}

// dots[r][part] += the codes of two neighbouring inputs times x's.
template <int kNibble, int kRows>
HWY_INLINE void add_codes(const hn::Vec<hn::RebindToUnsigned<Floats>> (&words)[kParts], const int16_t* x,
                          int64_t stride, Dot (&dots)[kRows][kParts]) {
  const hn::RebindToUnsigned<Floats> bits;
  Shorts pairs[kRows];
  for (int r = 0; r < kRows; ++r) {
    uint32_t pair = 0;
    std::memcpy(&pair, x + r * stride + 2 * kNibble, sizeof(pair));
    pairs[r] = shorts_of(hn::Set(bits, pair));
  }
  for (int64_t part = 0; part < kParts; ++part) {
    const auto codes = hn::And(hn::ShiftRight<4 * kNibble>(words[part]), hn::Set(bits, 0x000f000fu));
    for (int r = 0; r < kRows; ++r) dots[r][part].add(shorts_of(codes), pairs[r]);
  }
}

// x times the 16 rows of the matrix from `first` on; lanes are those. Both factors are whole numbers: codes of 4 bits
// and inputs of 16, whose 32 products of a group fit in 32 bits. What is multiplied is code - 8, so that the rounding
// of inputs counts half as much: the sum of codes less 8 times the inputs' sum.
template <int kRows>
HWY_INLINE void int4_tile(const Gemv& gemv, const GemvInputs& inputs, int64_t row, int64_t first, Sums<kRows>& sums) {
  const hn::RebindToUnsigned<Floats> bits;
  const int64_t groups = gemv.inputs / kGroup, stride = gemv.inputs;
  const uint8_t* values = static_cast<const uint8_t*>(gemv.values) + first * gemv.inputs / 2;
  const uint16_t* scales = static_cast<const uint16_t*>(gemv.scales) + first * groups * 2;
  const int16_t* x = inputs.whole.data() + row * stride;
  Vector sum[kRows][kParts];
  for (auto& parts : sum) {
    for (Vector& part : parts) part = hn::Zero(kFloats);
  }
  for (int64_t group = 0; group < groups; ++group, scales += kGroupScales) {
    for (int64_t line = 0; line < kGroupBytes; line += 64) hwy::Prefetch(values + kAhead + line);
    hwy::Prefetch(scales + kAhead / 8);
    Dot dots[kRows][kParts];
    for (int64_t line = 0; line < kGroupBytes; line += 64, x += 8, values += 64) {
      hn::Vec<hn::RebindToUnsigned<Floats>> words[kParts];
      for (int64_t part = 0; part < kParts; ++part) {
        words[part] = hn::LoadU(bits, reinterpret_cast<const uint32_t*>(values) + part * kLanes);
      }
      add_codes<0>(words, x, stride, dots), add_codes<1>(words, x, stride, dots);
      add_codes<2>(words, x, stride, dots), add_codes<3>(words, x, stride, dots);
    }
    for (int64_t part = 0; part < kParts; ++part) {
      const Vector scale = load_float16(scales + part * kLanes);
      const Vector least = load_float16(scales + kTileRows + part * kLanes);
      const Vector middle = hn::MulAdd(hn::Set(kFloats, 8.0f), scale, least);
      for (int r = 0; r < kRows; ++r) {
        const int64_t at = (row + r) * groups + group;
        const Vector step = hn::Mul(scale, hn::Set(kFloats, inputs.steps[at]));
        sum[r][part] = hn::MulAdd(step, dots[r][part].sums_of_pairs(inputs.eights[at]), sum[r][part]);
        sum[r][part] = hn::MulAdd(middle, hn::Set(kFloats, inputs.sums[at]), sum[r][part]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int64_t part = 0; part < kParts; ++part) store(sums[r] + part * kLanes, sum[r][part]);
  }
}

// x times 16 rows of 8 bits that lie one after another: lanes are inputs, and are added up at the end.
template <int kRows>
HWY_INLINE void int8_tile(const Gemv& gemv, const GemvInputs& inputs, int64_t row, int64_t first, Sums<kRows>& sums) {
  constexpr int kAtOnce = 4;
  const int64_t stride = gemv.inputs, groups = stride / kGroup;
  const int8_t* values = static_cast<const int8_t*>(gemv.values) + first * stride;
  const int16_t* const x = inputs.whole.data() + row * stride;
  const float* const steps = inputs.steps.data() + row * groups;
  for (int64_t at = 0; at < kTileRows; at += kAtOnce, values += kAtOnce * stride) {
    Vector total[kRows][kAtOnce];
    for (auto& of_row : total) {
      for (Vector& one : of_row) one = hn::Zero(kFloats);
    }
    for (int64_t group = 0; group < groups; ++group) {
      for (int k = 0; k < kAtOnce; ++k) {
        const int8_t* const weights = values + k * stride + group * kGroup;
        if (group % 2 == 0) hwy::Prefetch(weights + kAhead);
        Dot dots[kRows];
        for (int64_t i = 0; i < kGroup; i += kPairs) {
          const Shorts weight = load_shorts(weights + i);
          for (int r = 0; r < kRows; ++r) dots[r].add(weight, load_shorts(x + r * stride + group * kGroup + i));
        }
        for (int r = 0; r < kRows; ++r) {
          total[r][k] = hn::MulAdd(dots[r].sums(), hn::Set(kFloats, steps[r * groups + group]), total[r][k]);
        }
      }
    }
    for (int r = 0; r < kRows; ++r) store_sums(total[r], sums[r] + at);
  }
}

// The same in bfloat16.
template <int kRows>
HWY_INLINE void half_tile(const Gemv& gemv, const GemvInputs& inputs, int64_t row, int64_t first, Sums<kRows>& sums) {
  constexpr int kAtOnce = 4;
  const int64_t stride = gemv.inputs;
  const uint16_t* values = static_cast<const uint16_t*>(gemv.values) + first * stride;
  const float* const x = inputs.wide.data() + row * stride;
  for (int64_t at = 0; at < kTileRows; at += kAtOnce, values += kAtOnce * stride) {
    Vector dots[kRows][kAtOnce];
    for (int r = 0; r < kRows; ++r) {
      for (int k = 0; k < kAtOnce; ++k) dots[r][k] = hn::Zero(kFloats);
    }
    for (int64_t i = 0; i < stride; i += kLanes) {
      for (int k = 0; k < kAtOnce; ++k) {
        hwy::Prefetch(values + k * stride + i + kAhead / static_cast<int64_t>(sizeof(uint16_t)));
        const Vector weight = load(values + k * stride + i);
        for (int r = 0; r < kRows; ++r) dots[r][k] = hn::MulAdd(weight, load(x + r * stride + i), dots[r][k]);
      }
    }
    for (int r = 0; r < kRows; ++r) store_sums(dots[r], sums[r] + at);
  }
}

template <int kRows>
HWY_INLINE void tile(const Gemv& gemv, const GemvInputs& inputs, int64_t row, int64_t first, Sums<kRows>& sums) {
  switch (gemv.format) {
    case MatrixFormat::int4: int4_tile<kRows>(gemv, inputs, row, first, sums); break;
    case MatrixFormat::bfloat16: half_tile<kRows>(gemv, inputs, row, first, sums); break;
    case MatrixFormat::int8:
      int8_tile<kRows>(gemv, inputs, row, first, sums);
      for (int r = 0; r < kRows; ++r) {
        const float* const scales = static_cast<const float*>(gemv.scales) + first;
        for (int64_t i = 0; i < kTileRows; i += kLanes) {
          store(sums[r] + i, hn::Mul(load(sums[r] + i), load(scales + i)));
        }
      }
  }
}

// What becomes of a row's 16 sums: bias, SwiGLU (up not null), the residual addition.
template <class Element>
HWY_INLINE void finish(const Gemv& gemv, int64_t row, int64_t first, const float* sums, const float* up) {
  const int64_t width = gemv.gated ? gemv.outputs / 2 : gemv.outputs, at = row * width + first;
  const Element *const bias = static_cast<const Element*>(gemv.bias), *const residual =
                                                                          static_cast<const Element*>(gemv.residual);
  for (int64_t i = 0; i < kTileRows; i += kLanes) {
    Vector x = load(sums + i);
    if (bias) x = hn::Add(x, load(bias + first + i));
    if (up) {
      Vector factor = load(up + i);
      if (bias) factor = hn::Add(factor, load(bias + width + first + i));
      const Vector decay = exponential(hn::Neg(x));
      x = hn::Mul(hn::Div(x, hn::Add(hn::Set(kFloats, 1.0f), decay)), factor);
    }
    if (residual) x = hn::Add(x, load(residual + at + i));
    store(static_cast<Element*>(gemv.out) + at + i, x);
  }
}

void finish_row(const Gemv& gemv, int64_t row, int64_t first, const float* sums, const float* up) {
  gemv.half ? finish<uint16_t>(gemv, row, first, sums, up) : finish<float>(gemv, row, first, sums, up);
}

template <int kRows>
HWY_INLINE void multiply_rows(const Gemv& gemv, const GemvInputs& inputs, int64_t row, int64_t first) {
  HWY_ALIGN Sums<kRows> sums;
  HWY_ALIGN Sums<kRows> up;
  tile<kRows>(gemv, inputs, row, first, sums);
  if (gemv.gated) tile<kRows>(gemv, inputs, row, gemv.outputs / 2 + first, up);
  for (int r = 0; r < kRows; ++r) finish_row(gemv, row + r, first, sums[r], gemv.gated ? up[r] : nullptr);
}

void multiply(const Gemv& gemv, const GemvInputs& inputs, int64_t begin, int64_t end) {
  for (int64_t first = begin * kTileRows; first < end * kTileRows; first += kTileRows) {
    int64_t row = 0;
    for (; row + kMostRows <= gemv.rows; row += kMostRows) multiply_rows<kMostRows>(gemv, inputs, row, first);
    switch (gemv.rows - row) {
      case 1: multiply_rows<1>(gemv, inputs, row, first); break;
      case 2: multiply_rows<2>(gemv, inputs, row, first); break;
      case 3: multiply_rows<3>(gemv, inputs, row, first); break;
      default: break;
    }
  }
}

// Four neighbouring inputs of kLanes rows, `to` being the first row's.
template <int kNibble>
HWY_INLINE void widen_four(hn::Vec<hn::RebindToUnsigned<Floats>> words, Vector scale, Vector least, float* to) {
  const Vector inputs[4] = {
      hn::MulAdd(code<kNibble>(words), scale, least), hn::MulAdd(code<kNibble + 4>(words), scale, least),
      hn::MulAdd(code<kNibble + 1>(words), scale, least), hn::MulAdd(code<kNibble + 5>(words), scale, least)};
  store_columns(inputs, to, kGroup);
}

// A group of a tile becomes (16, kGroup).
HWY_INLINE void widen_group(const uint8_t* values, const uint16_t* scales, float* rows) {
  const hn::RebindToUnsigned<Floats> bits;
  for (int64_t first = 0; first < kTileRows; first += kLanes) {
    const Vector scale = load_float16(scales + first), least = load_float16(scales + kTileRows + first);
    for (int64_t i = 0; i < kGroup; i += 8) {
      const auto words = hn::LoadU(bits, reinterpret_cast<const uint32_t*>(values + 8 * i) + first);
      float* const to = rows + first * kGroup + i;
      widen_four<0>(words, scale, least, to), widen_four<2>(words, scale, least, to + 4);
    }
  }
}

// By way of the nearest cache: 16 rows some KB apart would share its ways.
void widen_tile(const uint8_t* values, const uint16_t* scales, int64_t inputs, float* out) {
  HWY_ALIGN float rows[kTileRows * kGroup];
  for (int64_t group = 0; group < inputs / kGroup; ++group, out += kGroup) {
    widen_group(values + group * kGroupBytes, scales + group * kGroupScales, rows);
    for (int64_t row = 0; row < kTileRows; ++row) {
      for (int64_t i = 0; i < kGroup; i += kLanes) store(out + row * inputs + i, load(rows + row * kGroup + i));
    }
  }
}

}  // namespace cepe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cepe::cpu {

HWY_EXPORT(prepare_inputs);
HWY_EXPORT(round_some);
HWY_EXPORT(multiply);
HWY_EXPORT(finish_row);
HWY_EXPORT(widen_tile);

namespace {

bool in_bfloat16(const Gemv& gemv) { return gemv.half && gemv.format == MatrixFormat::bfloat16 && bfloat16_products(); }

}  // namespace

void prepare(const Gemv& gemv, GemvInputs& inputs) {
  HWY_DYNAMIC_DISPATCH(prepare_inputs)(gemv, inputs, in_bfloat16(gemv));
}

void round_groups(const float* x, GemvInputs& made, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(round_some)(x, made, begin, end);
}

void multiply_tiles(const Gemv& gemv, const GemvInputs& inputs, int64_t begin, int64_t end) {
  if (!in_bfloat16(gemv)) return HWY_DYNAMIC_DISPATCH(multiply)(gemv, inputs, begin, end);
  alignas(64) float sums[kGemvRows][kTileRows], up[kGemvRows][kTileRows];
  for (int64_t first = begin * kTileRows; first < end * kTileRows; first += kTileRows) {
    avx512::tile(gemv, inputs, first, sums);
    if (gemv.gated) avx512::tile(gemv, inputs, gemv.outputs / 2 + first, up);
    for (int64_t r = 0; r < gemv.rows; ++r) {
      HWY_DYNAMIC_DISPATCH(finish_row)(gemv, r, first, sums[r], gemv.gated ? up[r] : nullptr);
    }
  }
}

void widen_int4_tile(const uint8_t* values, const uint16_t* scales, int64_t inputs, float* out) {
  HWY_DYNAMIC_DISPATCH(widen_tile)(values, scales, inputs, out);
}

void widen_int4_tile(const uint8_t* values, const uint16_t* scales, int64_t inputs, uint16_t* out) {
  avx512::widen_tile(values, scales, inputs, out);
}

void tile_int4(const Int4Matrix& matrix, uint8_t* values, uint16_t* scales, int64_t begin, int64_t end) {
  const auto [codes, pairs, outputs, inputs] = matrix;
  const int64_t groups = inputs / kGroup;
  for (int64_t at = begin * groups; at < end * groups; ++at) {
    const int64_t first = at / groups * kTileRows, group = at % groups;
    for (int64_t row = 0; row < kTileRows; ++row) {
      const uint8_t* const from = codes + (first + row) * inputs + group * kGroup;
      for (int64_t eighth = 0; eighth < 4; ++eighth) {
        uint8_t* const to = values + at * kGroupBytes + eighth * 64 + row * 4;
        const uint8_t* const x = from + 8 * eighth;
        to[0] = static_cast<uint8_t>(x[0] | x[2] << 4), to[1] = static_cast<uint8_t>(x[4] | x[6] << 4);
        to[2] = static_cast<uint8_t>(x[1] | x[3] << 4), to[3] = static_cast<uint8_t>(x[5] | x[7] << 4);
      }
      const uint16_t* const pair = pairs + ((first + row) * groups + group) * 2;
      scales[at * kGroupScales + row] = pair[0], scales[at * kGroupScales + kTileRows + row] = pair[1];
    }
  }
}

}  // namespace cepe::cpu
#endif
