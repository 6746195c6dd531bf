// The CPU's kernels against their formulas in double precision, one number at a time, for each instruction set that
// this processor has. Without LibTorch, so that scripts/check_aarch64.sh runs it for another processor.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "ops/cpu/attention.h"
#include "ops/cpu/gemm.h"
#include "ops/cpu/gemv.h"
#include "ops/cpu/targets.h"

namespace cepe::cpu {
namespace {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

Floats random(int64_t count, uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  Floats made(static_cast<size_t>(count));
  for (float& x : made) x = normal(engine);
  return made;
}

uint16_t half(float x) {  // to nearest, ties to even
  const auto bits = std::bit_cast<uint32_t>(x);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
float wide(uint16_t x) { return std::bit_cast<float>(static_cast<uint32_t>(x) << 16); }

double wide_float16(uint16_t x) {  // by the definition of its bits
  const int exponent = x >> 10 & 31, mantissa = x & 1023;
  const double size = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return x & 0x8000 ? -size : size;
}

// The norm of the difference to the norm of what is expected.
double error_of(const Floats& found, const Doubles& expected) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += (found[i] - expected[i]) * (found[i] - expected[i]), size += expected[i] * expected[i];
  }
  return std::sqrt(difference / size);
}

class EachTarget : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { use_target(GetParam()); }
  void TearDown() override { use_target(""); }
};

INSTANTIATE_TEST_SUITE_P(Kernels, EachTarget, testing::ValuesIn(targets()),
                         [](const auto& info) { return info.param; });

TEST(Targets, TheWidestIsInUseUnlessAnotherIsAskedFor) {
  ASSERT_FALSE(targets().empty());
  EXPECT_EQ(target(), targets().front());
  use_target(targets().back());
  EXPECT_EQ(target(), targets().back());
  use_target("");
  EXPECT_EQ(target(), targets().front());
}

struct Attention {
  int64_t rows, width, tokens;
  Floats query, k, v;  // (rows, width), (tokens, width) twice
  std::vector<char> real;

  Attention(int64_t rows, int64_t width, int64_t tokens)
      : rows(rows),
        width(width),
        tokens(tokens),
        query(random(rows * width, 1)),
        k(random(tokens * width, 2)),
        v(random(tokens * width, 3)),
        real(static_cast<size_t>(tokens)) {
    for (float& x : query) x *= 2 / std::sqrt(static_cast<float>(width));
    for (size_t t = 0; t < real.size(); ++t) real[t] = t % 3 != 1 && t >= 69;
  }

  Doubles formula() const {
    Doubles out(static_cast<size_t>(rows * width));
    for (int64_t r = 0; r < rows; ++r) {
      Doubles p(static_cast<size_t>(tokens));
      for (int64_t t = 0; t < tokens; ++t) {
        double score = 0;
        for (int64_t i = 0; i < width; ++i) score += static_cast<double>(query[r * width + i]) * k[t * width + i];
        p[t] = real[t] ? std::exp(score) : 0;
      }
      const double total = std::accumulate(p.begin(), p.end(), 0.0);
      for (int64_t t = 0; t < tokens; ++t) {
        for (int64_t i = 0; i < width; ++i) out[r * width + i] += p[t] / total * v[t * width + i];
      }
    }
    return out;
  }
};

// What a pass over a context leaves, over its totals.
struct Pass {
  Pass(const Attention& of, int64_t width)
      : query(static_cast<size_t>(of.rows * width)),
        sum(query.size()),
        highest(static_cast<size_t>(of.rows), -std::numeric_limits<float>::infinity()),
        total(static_cast<size_t>(of.rows)),
        real(reinterpret_cast<const bool*>(of.real.data())),
        rows{of.rows, width, query.data(), sum.data(), highest.data(), total.data()} {
    for (int64_t r = 0; r < of.rows; ++r) {
      std::copy_n(of.query.data() + r * of.width, of.width, query.data() + r * width);
    }
  }
  Floats result(const Attention& of) const {
    Floats out;
    for (int64_t r = 0; r < of.rows; ++r) {
      for (int64_t i = 0; i < of.width; ++i) out.push_back(sum[r * rows.width + i] / total[r]);
    }
    return out;
  }
  Floats query, sum, highest, total;
  const bool* real;
  AttentionRows rows;
};

TEST_P(EachTarget, LatentAttentionEqualsTheFormula) {
  for (const auto& [rows, width, tokens] :
       {std::array<int64_t, 3>{9, 576, 200}, {1, 16, 71}, {29, 256, 130}, {4, 33, 128}}) {
    Attention given(rows, width, tokens);
    const auto found = [&](const StateSpan& span) {
      Pass pass(given, padded_width(width));
      Floats scratch(static_cast<size_t>(kBlock * padded_width(width)));
      read_states(pass.rows, span, scratch.data());
      return pass.result(given);
    };
    const bool* const real = reinterpret_cast<const bool*>(given.real.data());
    given.v = given.k;
    EXPECT_LT(error_of(found({given.k.data(), StateType::float32, width, tokens, real}), given.formula()), 4e-6);
    std::vector<uint16_t> halves;
    std::vector<uint8_t> bytes;
    const Floats scales(static_cast<size_t>(tokens), 0.03f);
    for (const float x : given.k) halves.push_back(half(x)), bytes.push_back(static_cast<uint8_t>(128 + x / 0.03f));
    for (size_t i = 0; i < given.k.size(); ++i) given.k[i] = given.v[i] = wide(halves[i]);
    EXPECT_LT(error_of(found({halves.data(), StateType::bfloat16, width, tokens, real}), given.formula()), 4e-6);
    for (size_t i = 0; i < given.k.size(); ++i) given.k[i] = given.v[i] = static_cast<float>(bytes[i] - 128) * 0.03f;
    EXPECT_LT(error_of(found({bytes.data(), StateType::bytes, width, tokens, real, scales.data()}), given.formula()),
              4e-6);
  }
}

// What the others' partial results are merged with must stay what it was.
TEST_P(EachTarget, TokensThatAreAllHiddenLeaveNothing) {
  Attention given(3, 32, 70);
  std::fill(given.real.begin(), given.real.end(), false);
  Pass pass(given, padded_width(32));
  Floats scratch(static_cast<size_t>(kBlock * padded_width(32)));
  read_states(pass.rows, {given.k.data(), StateType::float32, 32, 70, pass.real}, scratch.data());
  EXPECT_EQ(pass.highest, Floats(3, -std::numeric_limits<float>::infinity()));
  EXPECT_EQ(pass.total, Floats(3, 0.0f));
  EXPECT_EQ(pass.sum, Floats(pass.sum.size(), 0.0f));
}

// Keys transposed in blocks; values; both padded with zeros. convert: a number and its token -> an element.
template <class Element, class Convert>
std::pair<std::vector<Element>, std::vector<Element>> kept(const Attention& given, Convert convert) {
  const int64_t blocks = (given.tokens + kBlock - 1) / kBlock, width = given.width;
  std::vector<Element> k(static_cast<size_t>(blocks * kBlock * width)), v(k.size());
  for (int64_t t = 0; t < given.tokens; ++t) {
    for (int64_t i = 0; i < width; ++i) {
      k[t / kBlock * kBlock * width + i * kBlock + t % kBlock] = convert(given.k[t * width + i]);
      v[t * width + i] = convert(given.v[t * width + i]);
    }
  }
  return {k, v};
}

TEST_P(EachTarget, ContextAttentionEqualsTheFormula) {
  for (const auto& [rows, width, tokens] :
       {std::array<int64_t, 3>{3, 64, 200}, {1, 128, 71}, {29, 16, 130}, {7, 80, 128}}) {
    Attention given(rows, width, tokens);
    const bool* const real = reinterpret_cast<const bool*>(given.real.data());
    const auto found = [&](const KeyValueSpan& span) {
      Pass pass(given, width);
      read_keys_values(pass.rows, span);
      return pass.result(given);
    };
    const auto [k, v] = kept<float>(given, [](float x) { return x; });
    EXPECT_LT(error_of(found({k.data(), v.data(), KeyValueType::float32, tokens, real}), given.formula()), 4e-6);
    const auto [k_half, v_half] = kept<uint16_t>(given, half);
    const auto [k_byte, v_byte] = kept<int8_t>(given, [](float x) { return static_cast<int8_t>(x * 25); });
    Attention rounded = given;
    for (float& x : rounded.k) x = wide(half(x));
    for (float& x : rounded.v) x = wide(half(x));
    EXPECT_LT(error_of(found({k_half.data(), v_half.data(), KeyValueType::bfloat16, tokens, real}), rounded.formula()),
              4e-6);
    Floats k_scales = random(static_cast<int64_t>(k.size()) / width, 4);
    const Floats v_scales = random(static_cast<int64_t>(k.size()) / width, 5);
    for (float& scale : k_scales) scale /= 25;
    for (int64_t i = 0; i < tokens * width; ++i) {
      rounded.k[i] = static_cast<float>(static_cast<int8_t>(given.k[i] * 25)) * k_scales[i / width];
      rounded.v[i] = static_cast<float>(static_cast<int8_t>(given.v[i] * 25)) * v_scales[i / width];
    }
    EXPECT_LT(error_of(found({k_byte.data(), v_byte.data(), KeyValueType::int8, tokens, real, k_scales.data(),
                              v_scales.data()}),
                       rounded.formula()),
              4e-6);
  }
}

// A matrix in each format, and what it stands for.
struct Matrix {
  MatrixFormat format;
  int64_t outputs, inputs;
  std::vector<uint8_t> bytes;
  std::vector<uint16_t> halves;
  Floats scales;
  Doubles numbers;

  Matrix(MatrixFormat format, int64_t outputs, int64_t inputs) : format(format), outputs(outputs), inputs(inputs) {
    const Floats drawn = random(outputs * inputs, 6);
    if (format == MatrixFormat::bfloat16) {
      for (const float x : drawn) halves.push_back(half(x)), numbers.push_back(wide(half(x)));
    } else if (format == MatrixFormat::int8) {
      for (int64_t row = 0; row < outputs; ++row) scales.push_back(0.01f * static_cast<float>(row + 1));
      for (size_t i = 0; i < drawn.size(); ++i) {
        bytes.push_back(static_cast<uint8_t>(static_cast<int8_t>(drawn[i] * 30)));
        numbers.push_back(static_cast<int8_t>(bytes[i]) * static_cast<double>(scales[i / inputs]));
      }
    } else {
      make_int4(drawn);
    }
  }
  void make_int4(const Floats& drawn) {
    std::vector<uint8_t> codes;
    std::vector<uint16_t> pairs;
    for (int64_t group = 0; group < outputs * inputs / kGroup; ++group) {
      const int scale = group % 5 == 4 ? 0x0155 : 0x2e66 + 50 * static_cast<int>(group % 7);  // 2e-5: subnormal; 0.1
      const int least = 0x3000 + static_cast<int>(std::abs(drawn[group]) * 500);              // from 0.125 on
      pairs.push_back(static_cast<uint16_t>(scale));
      pairs.push_back(static_cast<uint16_t>(least | (drawn[group] < 0 ? 0x8000 : 0)));
    }
    for (size_t i = 0; i < drawn.size(); ++i) {
      codes.push_back(static_cast<uint8_t>(i * 7 % 16));
      const uint16_t* const pair = &pairs[i / kGroup * 2];
      numbers.push_back(codes[i] * wide_float16(pair[0]) + wide_float16(pair[1]));
    }
    bytes.resize(drawn.size() / 2), halves.resize(pairs.size());
    tile_int4({codes.data(), pairs.data(), outputs, inputs}, bytes.data(), halves.data(), 0, outputs / kTileRows);
  }
  Gemv gemv() const {
    const bool int4 = format == MatrixFormat::int4;
    return {.format = format,
            .values = format == MatrixFormat::bfloat16 ? static_cast<const void*>(halves.data()) : bytes.data(),
            .scales = int4 ? static_cast<const void*>(halves.data()) : scales.data(),
            .inputs = inputs,
            .outputs = outputs};
  }
};

// x is rounded to 16 bits in groups for int4 and int8, not for bfloat16.
TEST_P(EachTarget, ProductsEqualTheFormula) {
  for (const MatrixFormat format : {MatrixFormat::int4, MatrixFormat::int8, MatrixFormat::bfloat16}) {
    const double tolerance = format == MatrixFormat::bfloat16 ? 2e-6 : 5e-5;
    const Matrix matrix(format, 64, 160);
    for (int64_t rows = 1; rows <= kGemvRows; ++rows) {
      const Floats x = random(rows * 160, 7), bias = random(64, 8), residual = random(rows * 64, 9);
      Floats out(residual.size());
      Doubles expected(residual.size());
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t o = 0; o < 64; ++o) {
          double sum = static_cast<double>(bias[o]) + residual[r * 64 + o];
          for (int64_t i = 0; i < 160; ++i) sum += x[r * 160 + i] * matrix.numbers[o * 160 + i];
          expected[r * 64 + o] = sum;
        }
      }
      Gemv gemv = matrix.gemv();
      gemv.x = x.data(), gemv.out = out.data(), gemv.rows = rows, gemv.bias = bias.data(),
      gemv.residual = residual.data();
      GemvInputs inputs;
      prepare(gemv, inputs);
      multiply_tiles(gemv, inputs, 0, 1), multiply_tiles(gemv, inputs, 1, gemv.tiles());
      EXPECT_LT(error_of(out, expected), tolerance) << static_cast<int>(format) << ", rows " << rows;
    }
  }
}

// Instruction sets add up in different orders. In a process that has asked for none before, also with
// ATEN_CPU_CAPABILITY=avx2 (CMakeLists.txt), which takes the widest one away.
TEST(Targets, KernelsBeginWithTheOneThatIsNamed) {
  const char* const set = std::getenv("ATEN_CPU_CAPABILITY");
  if (set && std::string(set) == "avx2") {
    EXPECT_NE(target(), "AVX3");
  }
  const Matrix matrix(MatrixFormat::bfloat16, 64, 160);
  const Floats x = random(160, 7);
  const auto product = [&] {
    Floats out(64);
    Gemv gemv = matrix.gemv();
    gemv.x = x.data(), gemv.out = out.data(), gemv.rows = 1;
    GemvInputs inputs;
    prepare(gemv, inputs);
    multiply_tiles(gemv, inputs, 0, gemv.tiles());
    return out;
  };
  const Floats found = product();
  use_target(target());
  EXPECT_EQ(found, product()) << target();
  use_target("");
}

TEST_P(EachTarget, NormAndGateAroundAProductInBfloat16) {
  const Matrix matrix(MatrixFormat::int8, 64, 96);
  const Floats drawn = random(96, 10);
  std::vector<uint16_t> x, norm(96, half(0.75f)), out(32);
  double squares = 0;
  for (const float number : drawn) x.push_back(half(number)), squares += wide(half(number)) * wide(half(number));
  Doubles both(64), expected(32);
  for (int64_t o = 0; o < 64; ++o) {
    for (int64_t i = 0; i < 96; ++i)
      both[o] += wide(x[i]) * 0.75 / std::sqrt(squares / 96 + 1e-5) * matrix.numbers[o * 96 + i];
  }
  for (int64_t o = 0; o < 32; ++o) expected[o] = both[o] / (1 + std::exp(-both[o])) * both[32 + o];
  Gemv gemv = matrix.gemv();
  gemv.half = gemv.gated = true, gemv.x = x.data(), gemv.out = out.data(), gemv.rows = 1;
  gemv.norm = norm.data(), gemv.eps = 1e-5f;
  GemvInputs inputs;
  prepare(gemv, inputs);
  multiply_tiles(gemv, inputs, 0, gemv.tiles());
  Floats found;
  for (const uint16_t number : out) found.push_back(wide(number));
  EXPECT_LT(error_of(found, expected), 4e-3);
}

TEST_P(EachTarget, TilesOfInt4Widen) {
  const Matrix matrix(MatrixFormat::int4, 16, 96);
  Floats found(16 * 96);
  widen_int4_tile(matrix.bytes.data(), matrix.halves.data(), 96, found.data());
  EXPECT_LT(error_of(found, matrix.numbers), 1e-6);
}

// Two passes over the inputs; of outputs and rows some are left: a part of a panel, with 8 bits of a vector.
TEST_P(EachTarget, ProductsOfManyRowsEqualTheFormula) {
  for (const bool int4 : {true, false}) {
    const int64_t outputs = kGemmOutputs + (int4 ? 48 : 39), inputs = 320, rows = 23;
    const Matrix matrix(int4 ? MatrixFormat::int4 : MatrixFormat::int8, outputs, inputs);
    const Floats x = random(rows * inputs, 7);
    Floats out(rows * outputs, 9);
    Doubles expected(out.size());
    for (int64_t i = 0; i < rows * outputs; ++i) {
      const int64_t row = i / outputs * inputs, output = i % outputs * inputs;
      for (int64_t k = 0; k < inputs; ++k) expected[i] += x[row + k] * matrix.numbers[output + k];
    }
    GemvInputs whole;
    whole.make_room_in_16_bits(rows * inputs);
    for (const int64_t half : {0, 1}) round_groups(x.data(), whole, half * rows * 5, (half + 1) * rows * 5);
    const Gemv gemv = matrix.gemv();
    const Gemm gemm = {gemv.format, &whole, gemv.values, gemv.scales, out.data(), inputs, outputs};
    for (const auto& [first, count] : {std::pair{kGemmOutputs, outputs - kGemmOutputs}, {int64_t{0}, kGemmOutputs}}) {
      multiply_piece(gemm, {0, 1, first, count}), multiply_piece(gemm, {1, rows - 1, first, count});
    }
    EXPECT_LT(error_of(out, expected), 5e-5) << int4;
  }
}

// 70 tokens of one head among three: a whole block of keys and a part of one.
TEST_P(EachTarget, KeysAndValuesIn8Bits) {
  const int64_t tokens = 70, width = 32, stride = 96;
  const Floats numbers = random(tokens * stride, 9);
  std::vector<int8_t> keys(2 * kBlock * width), values(tokens * width);
  Floats key_scales(tokens), value_scales(tokens);
  const Int8Source from{numbers.data() + width, tokens, width, stride};
  write_int8_keys(from, keys.data(), key_scales.data());
  write_int8_values(from, values.data(), value_scales.data());
  for (int64_t t = 0; t < tokens; ++t) {
    float most = 0;
    for (int64_t i = 0; i < width; ++i) most = std::max(most, std::abs(from.numbers[t * stride + i]));
    ASSERT_FLOAT_EQ(value_scales[t], most / 127);
    ASSERT_EQ(key_scales[t], value_scales[t]);
    for (int64_t i = 0; i < width; ++i) {
      const int8_t value = values[t * width + i];
      ASSERT_LE(std::abs(value * value_scales[t] - from.numbers[t * stride + i]), 0.501f * value_scales[t]);
      ASSERT_EQ(keys[t / kBlock * kBlock * width + i * kBlock + t % kBlock], value) << t << " " << i;
    }
  }
}

}  // namespace
}  // namespace cepe::cpu
