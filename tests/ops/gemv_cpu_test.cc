// Products of few rows on a CPU, with packed matrices and with bfloat16 ones, against formulas in float64 without
// tiles, for each instruction set that this processor has.
#include "ops/gemv/gemv_cpu.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "ops/cpu/targets.h"
#include "ops/gemv/gemv.h"
#include "ops/gemv/quantised_weight.h"

namespace cepe {
namespace {

// bfloat16 rounds a result to 2^-9 of itself; a normed input is rounded too, which each output averages over.
constexpr double kTolerance = 6e-3;

double relative(const at::Tensor& found, const at::Tensor& expected) {
  return ((found.to(at::kDouble) - expected).norm() / expected.norm()).item<double>();
}

at::Tensor half(const at::Tensor& x) { return x.to(at::kBFloat16); }
at::Tensor wide(const at::Tensor& x) { return x.to(at::kDouble); }

struct Kernel {
  WeightType type;  // stored: bfloat16
  std::string target;
};

std::vector<Kernel> kernels(const std::vector<WeightType>& types) {
  std::vector<Kernel> all;
  for (const WeightType type : types) {
    for (const std::string& target : cpu::targets()) all.push_back({type, target});
  }
  return all;
}

std::string name_of(const testing::TestParamInfo<Kernel>& info) {
  return weight_type_name(info.param.type) + ("_" + info.param.target);
}

class GemvCpu : public testing::TestWithParam<Kernel> {
 protected:
  void SetUp() override {
    at::manual_seed(21);
    cpu::use_target(GetParam().target);
  }
  void TearDown() override { cpu::use_target(""); }
  QuantisedWeight packed(const at::Tensor& matrix) const { return quantise_weight(matrix, GetParam().type); }
};
class GemvCpuBfloat16 : public GemvCpu {};

TEST_P(GemvCpu, EqualsTheFormula) {
  for (const auto& [outputs, inputs] : {std::pair<int64_t, int64_t>{16, 32}, {96, 576}, {1056, 64}, {64, 1536}}) {
    const QuantisedWeight weight = packed(at::randn({outputs, inputs}));
    const at::Tensor matrix = dequantise_weight(weight, at::kDouble);
    for (int64_t rows = 1; rows <= cpu::kGemvRows; ++rows) {
      const at::Tensor x = half(at::randn({rows, inputs}) * at::exp(at::randn({rows, 1})));
      EXPECT_TRUE(gemv_applies(x, weight));
      // Element by element: no row and no column may be another's.
      const at::Tensor found = gemv(x, weight), expected = wide(x).matmul(matrix.t());
      const at::Tensor size = wide(x).abs().matmul(matrix.abs().t());  // what rounding can be measured by
      EXPECT_LT(((wide(found) - expected).abs() / size).max().item<double>(), 4e-3) << outputs << " x " << inputs;
      EXPECT_LT(relative(found, expected), kTolerance);
    }
  }
}

TEST_P(GemvCpu, TakesInWhatStandsAround) {
  const QuantisedWeight weight = packed(at::randn({96, 160}) / 8);
  const at::Tensor matrix = dequantise_weight(weight, at::kDouble);
  for (const int64_t rows : {1, 3, 4}) {
    const at::Tensor x = half(at::randn({rows, 160}) * 3), norm = half(at::rand({160}) + 0.5);
    const at::Tensor bias = half(at::randn({96})), residual = half(at::randn({rows, 96}));
    const at::Tensor normed = wide(x) / (wide(x).square().mean(-1, true) + 1e-5).sqrt() * wide(norm);
    const at::Tensor plain = wide(x).matmul(matrix.t()), merged = normed.matmul(matrix.t()) + wide(bias);
    const auto error = [&](const GemvOptions& options, const at::Tensor& expected) {
      return relative(gemv(x, weight, options), expected);
    };
    EXPECT_LT(error({.bias = bias}, plain + wide(bias)), kTolerance);
    EXPECT_LT(error({.residual = residual}, plain + wide(residual)), kTolerance);
    EXPECT_LT(error({.norm = norm, .eps = 1e-5, .bias = bias}, merged), kTolerance);
    const at::Tensor gate = merged.narrow(1, 0, 48), up = merged.narrow(1, 48, 48);
    const at::Tensor gated = gate / (1 + (-gate).exp()) * up;
    EXPECT_LT(error({.norm = norm, .eps = 1e-5, .bias = bias, .gated = true}, gated), kTolerance);
    EXPECT_THROW(gemv(x, weight, {.residual = residual, .gated = true}), Error);
    EXPECT_THROW(gemv(x, weight, {.bias = bias.to(at::kFloat)}), Error);
  }
}

// e^-gate beyond what float32 holds, both ways. Each gate has a group of its own: a great number next to it would take
// the digits of a small one.
TEST_P(GemvCpu, GatesOfAnySize) {
  at::Tensor matrix = at::zeros({32, 16 * 32});
  for (int64_t i = 0; i < 16; ++i) matrix[i][32 * i] = 1, matrix[16 + i][32 * i] = i % 2 ? 1 : -1;
  const QuantisedWeight weight = packed(matrix);
  const at::Tensor x = half(at::tensor(
      {-1e4f, -200.f, -100.f, -80.f, -20.f, -3.f, -0.5f, 0.f, 1e-3f, 0.5f, 3.f, 20.f, 80.f, 100.f, 200.f, 1e4f}));
  const at::Tensor padded = at::zeros({1, 16 * 32}, x.options());
  padded.view({16, 32}).select(1, 0).copy_(x);
  const at::Tensor m = dequantise_weight(weight, at::kDouble), both = wide(padded).matmul(m.t());
  const at::Tensor gate = both.narrow(1, 0, 16), up = both.narrow(1, 16, 16);
  const at::Tensor expected = gate / (1 + (-gate).exp()) * up;
  EXPECT_TRUE(at::allclose(wide(gemv(padded, weight, {.gated = true})), expected, 8e-3, 1e-6));
}

TEST_P(GemvCpu, MergedMatricesAreViewsAndGiveTheSame) {
  QuantisedWeight a = packed(at::randn({32, 96})), b = packed(at::randn({48, 96}));
  const at::Tensor x = half(at::randn({2, 96})), apart = at::cat({gemv(x, a), gemv(x, b)}, 1);
  const at::Tensor matrix = dequantise_weight(b, at::kFloat);
  const auto all = merge_quantised({&a, &b});
  ASSERT_TRUE(all.has_value());
  EXPECT_TRUE(b.values.is_alias_of(all->values) && b.scales.is_alias_of(all->scales));
  EXPECT_TRUE(at::equal(gemv(x, *all), apart));
  EXPECT_TRUE(at::equal(gemv(x, b), apart.narrow(1, 32, 48)));
  EXPECT_TRUE(at::equal(dequantise_weight(b, at::kFloat), matrix));
}

TEST_P(GemvCpu, WhatDoesNotFitTakesAnotherWay) {
  const QuantisedWeight weight = packed(at::randn({48, 64}));
  const at::Tensor x = at::randn({5, 64});
  EXPECT_FALSE(gemv_applies(half(x), weight)) << "five rows";
  EXPECT_FALSE(gemv_applies(x.narrow(0, 0, 1).to(at::kDouble), weight)) << "float64";
  EXPECT_FALSE(gemv_applies(half(x).narrow(0, 0, 2).t().contiguous().t(), weight)) << "columns";
  const at::Tensor expected = wide(half(x)).matmul(dequantise_weight(weight, at::kDouble).t());
  EXPECT_LT(relative(gemv(half(x), weight), expected), kTolerance);
  EXPECT_LT(relative(quantised_linear(half(x), weight), expected), kTolerance);
  // 24 columns of gate are no whole tiles.
  const at::Tensor gate = expected.narrow(1, 0, 24), up = expected.narrow(1, 24, 24);
  const at::Tensor gated = gate / (1 + (-gate).exp()) * up;
  const at::Tensor found = gemv(half(x).narrow(0, 0, 2), weight, {.gated = true});
  EXPECT_LT(relative(found, gated.narrow(0, 0, 2)), 2 * kTolerance);
}

// float32 around the product: nothing is rounded but what is multiplied, in groups, to 16 bits. The greatest of 32
// normal numbers is some 2.1 deviations: steps of 2.1 / 32767 round to 1.9e-5 of a deviation.
TEST_P(GemvCpu, InFloat32EqualsTheFormula) {
  const QuantisedWeight weight = packed(at::randn({96, 576}) / 8);
  const at::Tensor matrix = dequantise_weight(weight, at::kDouble);
  const double tolerance = 5e-5;
  for (int64_t rows = 1; rows <= cpu::kGemvRows; ++rows) {
    const at::Tensor x = at::randn({rows, 576}), norm = at::rand({576}) + 0.5, bias = at::randn({96});
    const at::Tensor residual = at::randn({rows, 96}), plain = wide(x).matmul(matrix.t());
    EXPECT_LT(relative(gemv(x, weight), plain), tolerance);
    EXPECT_LT(relative(gemv(x, weight, {.residual = residual}), plain + wide(residual)), tolerance);
    const at::Tensor normed = wide(x) / (wide(x).square().mean(-1, true) + 1e-5).sqrt() * wide(norm);
    const at::Tensor merged = normed.matmul(matrix.t()) + wide(bias);
    const at::Tensor gate = merged.narrow(1, 0, 48), up = merged.narrow(1, 48, 48);
    const GemvOptions options{.norm = norm, .eps = 1e-5, .bias = bias, .gated = true};
    EXPECT_LT(relative(gemv(x, weight, options), gate / (1 + (-gate).exp()) * up), tolerance);
  }
  for (const int64_t rows : {6, 70, 4101}) {  // the last more than are rounded at once
    const at::Tensor x = at::randn({rows, 576});
    EXPECT_LT(relative(quantised_linear(x, weight), wide(x).matmul(matrix.t())), tolerance) << rows;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, GemvCpu, testing::ValuesIn(kernels({WeightType::int8, WeightType::int4})), name_of);

INSTANTIATE_TEST_SUITE_P(Types, GemvCpuBfloat16, testing::ValuesIn(kernels({WeightType::stored})), name_of);

TEST_P(GemvCpuBfloat16, EqualsTheFormulaWithWhatStandsAround) {
  at::manual_seed(23);
  for (const auto& [outputs, inputs] : {std::pair<int64_t, int64_t>{32, 32}, {96, 576}, {1056, 64}, {64, 1536}}) {
    const at::Tensor weight = half(at::randn({outputs, inputs}) / 8), norm = half(at::rand({inputs}) + 0.5);
    const at::Tensor bias = half(at::randn({outputs}));
    for (int64_t rows = 1; rows <= cpu::kGemvRows; ++rows) {
      const at::Tensor x = half(at::randn({rows, inputs}) * at::exp(at::randn({rows, 1})));
      const at::Tensor residual = half(at::randn({rows, outputs}));
      EXPECT_TRUE(gemv_applies(x, weight));
      const at::Tensor plain = wide(x).matmul(wide(weight).t());
      const at::Tensor size = wide(x).abs().matmul(wide(weight).abs().t());
      EXPECT_LT(((wide(gemv(x, weight)) - plain).abs() / size).max().item<double>(), 4e-3);
      EXPECT_LT(relative(gemv(x, weight, {.residual = residual}), plain + wide(residual)), kTolerance);
      const at::Tensor normed = wide(x) / (wide(x).square().mean(-1, true) + 1e-5).sqrt() * wide(norm);
      const at::Tensor merged = normed.matmul(wide(weight).t()) + wide(bias);
      const at::Tensor gate = merged.narrow(1, 0, outputs / 2), up = merged.narrow(1, outputs / 2, outputs / 2);
      const GemvOptions options{.norm = norm, .eps = 1e-5, .bias = bias, .gated = true};
      EXPECT_LT(relative(gemv(x, weight, options), gate / (1 + (-gate).exp()) * up), kTolerance);
    }
  }
}

TEST_P(GemvCpuBfloat16, WhatDoesNotFitTakesAnotherWay) {
  const at::Tensor weight = half(at::randn({48, 64})), x = half(at::randn({2, 64}));
  EXPECT_FALSE(gemv_applies(half(at::randn({5, 64})), weight)) << "five rows";
  EXPECT_FALSE(gemv_applies(x.to(at::kFloat), weight.to(at::kFloat))) << "float32";
  EXPECT_FALSE(gemv_applies(x, half(at::randn({64, 48})).t())) << "columns";
  EXPECT_FALSE(gemv_applies(x, weight.narrow(0, 0, 40))) << "no whole tiles";
  EXPECT_FALSE(gemv_applies(x, weight.detach().requires_grad_())) << "a gradient is wanted";
  const at::Tensor expected = wide(x).matmul(wide(weight).t());
  EXPECT_LT(relative(gemv(x, weight.narrow(0, 0, 40)), expected.narrow(1, 0, 40)), kTolerance);
  const at::Tensor gate = expected.narrow(1, 0, 24), up = expected.narrow(1, 24, 24);  // no whole tiles of gate
  EXPECT_LT(relative(gemv(x, weight, {.gated = true}), gate / (1 + (-gate).exp()) * up), 2 * kTolerance);
}

// The order of the tiles, from its description alone.
TEST(Int4Tiles, LieAsDescribed) {
  at::manual_seed(22);
  const int64_t outputs = 32, inputs = 64;
  const at::Tensor codes = at::randint(0, 16, {outputs, inputs}, at::kByte);
  const at::Tensor pairs = at::randn({outputs, inputs / 32, 2}).to(at::kHalf);
  at::Tensor values = at::empty({outputs * inputs / 2}, at::kByte);
  at::Tensor scales = at::empty({outputs * inputs / 16}, at::kHalf);
  const auto bits = [](const at::Tensor& t) { return static_cast<uint16_t*>(t.mutable_data_ptr()); };
  gemv_cpu::tile_int4({codes.const_data_ptr<uint8_t>(), bits(pairs), outputs, inputs},
                      values.mutable_data_ptr<uint8_t>(), bits(scales));
  for (int64_t row = 0; row < outputs; ++row) {
    for (int64_t i = 0; i < inputs; ++i) {
      const int64_t tile = row / 16 * (inputs / 32) + i / 32, eighth = i % 32 / 8, parity = i % 2, nibble = i % 8 / 2;
      const int64_t at = tile * 256 + eighth * 64 + row % 16 * 4 + parity * 2 + nibble / 2;
      const int found = values[at].item<uint8_t>() >> (nibble % 2 ? 4 : 0) & 15;
      ASSERT_EQ(found, codes[row][i].item<uint8_t>()) << row << " " << i;
      const at::Tensor scale = scales[tile * 32 + row % 16], least = scales[tile * 32 + 16 + row % 16];
      ASSERT_TRUE(at::equal(at::stack({scale, least}), pairs[row][i / 32]));
    }
  }
  const gemv_cpu::Int4Tiles tiles{values.const_data_ptr<uint8_t>(), bits(scales), outputs, inputs};
  const at::Tensor by_input = pairs.to(at::kDouble).repeat_interleave(32, 1);
  const at::Tensor expected = codes.to(at::kDouble) * by_input.select(2, 0) + by_input.select(2, 1);
  for (const std::string& target : cpu::targets()) {
    cpu::use_target(target);
    at::Tensor whole = at::empty({outputs, inputs}), half = at::empty({outputs, inputs}, at::kBFloat16);
    gemv_cpu::widen_int4(tiles, whole.mutable_data_ptr<float>());
    EXPECT_TRUE(at::allclose(whole.to(at::kDouble), expected, 1e-5, 1e-6)) << target;
    if (!cpu::bfloat16_products()) continue;
    gemv_cpu::widen_int4(tiles, bits(half));
    EXPECT_TRUE(at::allclose(half.to(at::kDouble), expected, 4e-3, 1e-6)) << target;
  }
  cpu::use_target("");
}

}  // namespace
}  // namespace cepe
