// Weights in 8 and 4 bits: what rounding may cost, values of GGUF's blocks kept, products of few and of many rows.
#include "ops/gemv/quantised_weight.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"

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
  EXPECT_LT(error, 0.09);  // a range of 4.2 in 15 steps: 0.081, and what bfloat16 leaves of scale and zero
  EXPECT_GT(error, 0.05);
}

// What Q4_0 and Q4_1 hold is found again: only scale and zero are rounded, to 2^-9 of themselves.
TEST(QuantisedWeight, KeepsTheValuesOfGgufBlocks) {
  at::manual_seed(2);
  const at::Tensor codes = at::randint(0, 16, {32, 4, 32}, at::kFloat);
  codes.select(2, 3).fill_(0);
  codes.select(2, 9).fill_(15);
  const at::Tensor scale = at::rand({32, 4, 1}) + 0.1, least = at::randn({32, 4, 1});
  const at::Tensor q4_1 = (codes * scale + least).view({32, 128});
  EXPECT_LT(relative(dequantise_weight(quantise_weight(q4_1, WeightType::int4), at::kFloat), q4_1), 5e-3);
  const at::Tensor signs = at::where(at::rand({32, 4, 1}) < 0.5, at::ones({1}), -at::ones({1}));
  const at::Tensor q4_0 = ((codes.clamp_max(14) - 8) * scale * signs).view({32, 128});  // the least is the extreme
  EXPECT_LT(relative(dequantise_weight(quantise_weight(q4_0, WeightType::int4), at::kFloat), q4_0), 3e-3);
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
