// Weights in 8 and 4 bits: what rounding may cost, values that are kept exactly, products of few and of many rows.
#include "ops/gemv/quantised_weight.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "base/error.h"
#include "ops/cpu/targets.h"

namespace cepe {
namespace {

double relative(const at::Tensor& found, const at::Tensor& expected) {
  return ((found.to(at::kDouble) - expected.to(at::kDouble)).norm() / expected.to(at::kDouble).norm()).item<double>();
}

TEST(QuantisedWeight, RoundsToTheNearest) {
  at::manual_seed(1);
  const at::Tensor weight = at::randn({64, 96});
  const QuantisedWeight eight = quantise_weight(weight, WeightType::int8),
                        four = quantise_weight(weight, WeightType::int4);
  // A uniform error of one step's width has a standard deviation of step / sqrt(12).
  const at::Tensor step8 = weight.abs().amax(1, true) / 127;
  EXPECT_LE(((dequantise_weight(eight, at::kFloat) - weight).abs() / step8).max().item<double>(), 0.501);
  EXPECT_LT(relative(dequantise_weight(eight, at::kFloat), weight), 0.008);
  const double error = relative(dequantise_weight(four, at::kFloat), weight);
  EXPECT_LT(error, 0.09);  // a range of 4.2 in 15 steps: 0.081, and what the rounding of scale and least value adds
  EXPECT_GT(error, 0.05);
}

// Numbers and scales of every kind, some negative or subnormal in float16, against the formula in float32: 4 bits times
// 11 are exact there, so that the sum is the only rounding.
TEST(QuantisedWeight, Int4IsItsNumbersScaledExactly) {
  at::manual_seed(2);
  const at::Tensor numbers = at::randint(0, 16, {48, 3, 32}, at::kByte);
  const at::Tensor sizes = at::pow(2.0, at::randint(-24, 4, {48, 3, 2}).to(at::kFloat));
  const at::Tensor scales = (at::randn({48, 3, 2}) * sizes).to(at::kHalf), wide = scales.to(at::kFloat).unsqueeze(2);
  const at::Tensor expected = (numbers.to(at::kFloat) * wide.select(3, 0) + wide.select(3, 1)).view({48, 96});
  const QuantisedWeight packed = int4_weight(numbers.view({48, 96}), scales);
  for (const std::string& target : cpu::targets()) {
    cpu::use_target(target);
    EXPECT_TRUE(at::equal(dequantise_weight(packed, at::kFloat), expected)) << target;
  }
  cpu::use_target("");
}

// Groups whose least and greatest numbers are 0 and 15, as GGUF's own quantiser leaves them, are found again.
TEST(QuantisedWeight, KeepsTheValuesOfQ4_1Blocks) {
  at::manual_seed(2);
  const at::Tensor numbers = at::randint(0, 16, {32, 4, 32}, at::kFloat);
  numbers.select(2, 3).fill_(0);
  numbers.select(2, 9).fill_(15);
  const at::Tensor scale = (at::rand({32, 4, 1}) + 0.1).to(at::kHalf).to(at::kFloat);
  const at::Tensor least = at::randn({32, 4, 1}).to(at::kHalf).to(at::kFloat);
  const at::Tensor q4_1 = (numbers * scale + least).view({32, 128});
  EXPECT_TRUE(at::equal(dequantise_weight(quantise_weight(q4_1, WeightType::int4), at::kFloat), q4_1));
}

TEST(QuantisedWeight, StaysWithinWhatFloat16Holds) {
  at::Tensor weight = at::linspace(-1, 1, 16 * 32).view({16, 32}).clone();
  weight[0].mul_(1e9), weight[1].mul_(1e-8), weight[2].mul_(3e-5), weight[3].mul_(7e4), weight[4].mul_(1e38);
  weight[5][7] = INFINITY, weight[6][7] = -INFINITY, weight[12].mul_(1e9);
  const at::Tensor found = dequantise_weight(quantise_weight(weight, WeightType::int4), at::kFloat);
  EXPECT_TRUE(at::isfinite(found).all().item<bool>());
  const at::Tensor beyond = found.masked_select(weight < -65504), least = at::full_like(beyond, -65504);
  EXPECT_GT(beyond.numel(), 0);
  EXPECT_TRUE(at::equal(beyond, least));
  EXPECT_LE((found[1] - weight[1]).abs().max().item<float>(), 15 * 0x1p-25f) << "steps below 2^-24";
  EXPECT_LE((found[2] - weight[2]).abs().max().item<float>(), 17 * 0x1p-25f + 0x1p-23f) << "steps of four times that";
}

TEST(QuantisedWeight, ProductsAreThoseOfTheWidenedMatrix) {
  at::manual_seed(3);
  const at::Tensor weight = at::randn({80, 160});
  for (const WeightType type : {WeightType::int8, WeightType::int4}) {
    const QuantisedWeight packed = quantise_weight(weight, type);
    const at::Tensor wide = dequantise_weight(packed, at::kDouble);
    for (const int64_t rows : {1, 3, 8, 15, 16, 31, 32, 70}) {
      for (const auto dtype : {at::kFloat, at::kBFloat16}) {
        const at::Tensor x = at::randn({2, rows, 160}).to(dtype);
        const at::Tensor y = quantised_linear(x, packed);
        EXPECT_EQ(y.scalar_type(), dtype);
        EXPECT_EQ(y.sizes(), (at::IntArrayRef{2, rows, 80}));
        const double error = relative(y, at::linear(x.to(at::kDouble), wide));
        EXPECT_LT(error, 5e-3) << weight_type_name(type) << " " << rows;  // bfloat16 leaves 2^-9 of each factor
      }
    }
  }
}

// A matrix that is widened in parts, the last one smaller: by each thread for itself (40 rows), by all (300).
TEST(QuantisedWeight, ManyRowsTakeTheMatrixInParts) {
  at::manual_seed(5);
  for (const auto& [type, out] : {std::pair{WeightType::int8, 1003}, {WeightType::int4, 1008}}) {
    const QuantisedWeight packed = quantise_weight(at::randn({out, 1568}), type);
    const at::Tensor wide = dequantise_weight(packed, at::kDouble);
    for (const int64_t rows : {40, 300}) {
      const at::Tensor x = at::randn({rows, 1568});
      const at::Tensor found = quantised_linear(x, packed).to(at::kDouble);
      const at::Tensor error = (found - at::linear(x.to(at::kDouble), wide)).norm(2, {0}) / found.norm(2, {0});
      EXPECT_LT(error.max().item<double>(), 5e-3) << weight_type_name(type) << " " << rows;  // of each output
    }
  }
}

// The last token of each sequence.
TEST(QuantisedWeight, RowsMayLieApart) {
  at::manual_seed(4);
  const at::Tensor weight = at::randn({80, 160});
  for (const WeightType type : {WeightType::int8, WeightType::int4}) {
    const QuantisedWeight packed = quantise_weight(weight, type);
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      const at::Tensor x = at::randn({3, 7, 160}).to(dtype).narrow(1, 6, 1);
      EXPECT_TRUE(
          at::equal(quantised_linear(x, packed), quantised_linear(x.clone(at::MemoryFormat::Contiguous), packed)));
    }
  }
}

TEST(QuantisedWeight, ConstantGroupsAndZerosStay) {
  at::Tensor weight = at::zeros({16, 64});
  weight[1].fill_(0.75f);
  for (const WeightType type : {WeightType::int8, WeightType::int4}) {
    EXPECT_TRUE(at::allclose(dequantise_weight(quantise_weight(weight, type), at::kFloat), weight, 5e-3, 1e-6))
        << weight_type_name(type);
  }
}

TEST(QuantisedWeight, RefusesShapesThatDoNotFit) {
  EXPECT_FALSE(can_quantise(WeightType::int4, 16, 48));
  EXPECT_FALSE(can_quantise(WeightType::int4, 10, 64));
  EXPECT_TRUE(can_quantise(WeightType::int8, 10, 48));
  EXPECT_THROW(quantise_weight(at::randn({16, 48}), WeightType::int4), Error);
  EXPECT_THROW(quantised_linear(at::randn({1, 32}), quantise_weight(at::randn({16, 64}), WeightType::int8)), Error);
}

}  // namespace
}  // namespace cepe
