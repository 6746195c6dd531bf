// Products of a few rows with weights in int8, int4 and fp8 against float64 of the unpacked weights.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "ops/cuda_device.h"
#include "ops/dispatch.h"
#include "ops/gemv/gemv.h"
#include "ops/gemv/quantised_weight.h"

namespace cepe {
namespace {

const auto kOnDevice = at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);

double error_of(const at::Tensor& found, const at::Tensor& expected) {
  return (found.to(at::kDouble) - expected).norm().item<double>() / expected.norm().item<double>();
}

at::Tensor wide(const at::Tensor& t) { return t.to(at::kDouble); }

// One rounding to bfloat16 leaves up to 2^-8 = 3.9e-3, 1.6e-3 on average: of the result, and of x times the norm once
// more.
constexpr double kRounded = 2.5e-3, kNormed = 4e-3;

struct Shape {
  int64_t inputs, outputs;
};

// The values as the kernel reads them, widened here without any of the library's code.
at::Tensor by_hand(const QuantisedWeight& weight) {
  if (weight.type != WeightType::int4) return wide(weight.values.to(at::kFloat)) * wide(weight.scales).unsqueeze(1);
  const at::Tensor bytes = weight.values.to(at::kInt);
  const at::Tensor codes =
      at::stack({bytes.bitwise_right_shift(4), bytes.bitwise_and(15)}, -1).view({weight.out, -1, kInt4Group});
  const at::Tensor scales = wide(weight.scales);
  return (codes.to(at::kDouble) * scales.select(2, 0).unsqueeze(2) + scales.select(2, 1).unsqueeze(2))
      .view({weight.out, weight.in});
}

class PackedRows : public testing::TestWithParam<WeightType> {
 protected:
  void SetUp() override {
    require_cuda();
    at::manual_seed(11);
  }
  QuantisedWeight packed(const Shape& shape) const {
    return quantise_weight(at::randn({shape.outputs, shape.inputs}, kOnDevice) / 64, GetParam());
  }
  const at::NoGradGuard no_gradients_;
};

TEST_P(PackedRows, EqualTheUnpackedWeights) {
  // Fewer inputs than a warp's step, odd numbers of steps, more tiles than blocks, a last tile in part.
  for (const Shape shape :
       {Shape{32, 16}, {96, 48}, {576, 592}, {1536, 576}, {4096, 4096}, {11008, 4096}, {4096, 22016}, {12320, 32}}) {
    const QuantisedWeight weight = packed(shape);
    const at::Tensor w = by_hand(weight), norm = at::rand({shape.inputs}, kOnDevice).add(0.5);
    const at::Tensor bias = at::randn({shape.outputs + 1}, kOnDevice).narrow(0, 1, shape.outputs);
    EXPECT_LT(error_of(dequantise_weight(weight, at::kFloat), w), GetParam() == WeightType::int4 ? 2e-3 : 1e-6);
    for (int64_t rows = 1; rows <= dispatch::kGemvRows; ++rows) {
      const std::string where =
          fmt::format("{}: {} x {} to {}", weight_type_name(GetParam()), rows, shape.inputs, shape.outputs);
      const at::Tensor x = at::randn({rows, 1, shape.inputs}, kOnDevice).add(0.5), x64 = wide(x);
      const at::Tensor residual = at::randn({rows, 1, shape.outputs}, kOnDevice);
      ASSERT_TRUE(gemv_applies(x, weight)) << where;
      const at::Tensor plain = at::matmul(x64, w.t());
      const at::Tensor from_norm = at::matmul(x64 / (x64.square().mean(-1, true) + 1e-5).sqrt() * wide(norm), w.t());
      const double error = error_of(gemv(x, weight), plain);
      fmt::print("{}: {:.2e}\n", where, error);
      EXPECT_LT(error, kRounded) << where;
      EXPECT_TRUE(at::equal(quantised_linear(x, weight), gemv(x, weight))) << where;
      EXPECT_LT(error_of(gemv(x, weight, {.norm = norm, .eps = 1e-5}), from_norm), kNormed) << where;
      EXPECT_LT(error_of(gemv(x, weight, {.bias = bias, .residual = residual}), plain + wide(bias) + wide(residual)),
                kRounded)
          << where;
      const at::Tensor merged = from_norm + wide(bias);
      const at::Tensor gate = merged.narrow(-1, 0, shape.outputs / 2),
                       up = merged.narrow(-1, shape.outputs / 2, shape.outputs / 2);
      EXPECT_LT(error_of(gemv(x, weight, {.norm = norm, .eps = 1e-5, .bias = bias, .gated = true}),
                         gate / (1 + (-gate).exp()) * up),
                5e-3)
          << where;
    }
  }
}

// A row of each magnitude, some of them negative: what unpacks must be exact, not near.
TEST_P(PackedRows, EveryValueIsExact) {
  const int64_t inputs = 512;
  at::Tensor matrix = at::randn({16, inputs}, kOnDevice.dtype(at::kFloat));
  matrix.mul_(at::logspace(-3, 0, inputs, 10, at::kCUDA));  // reaches e4m3's subnormal numbers
  const QuantisedWeight weight = quantise_weight(matrix, GetParam());
  const at::Tensor w = by_hand(weight);
  // x = unit vectors, four at a time: each result is one weight, rounded to bfloat16.
  const at::Tensor unit = at::eye(inputs, kOnDevice);
  for (int64_t i = 0; i < inputs; i += dispatch::kGemvRows) {
    const at::Tensor found = wide(gemv(unit.narrow(0, i, dispatch::kGemvRows), weight));
    const at::Tensor expected = w.narrow(1, i, dispatch::kGemvRows).t();
    EXPECT_TRUE(((found - expected).abs() <= expected.abs() * 0.0042 + 1e-5).all().item<bool>()) << i;
  }
}

// Scales and least values of every size and sign, subnormal in float16 too.
TEST(Int4OnAGpu, HoldsFloat16OfEveryKind) {
  require_cuda();
  at::manual_seed(12);
  const int64_t inputs = 512;
  const at::Tensor numbers = at::randint(0, 16, {16, inputs}, kOnDevice.dtype(at::kByte));
  const at::Tensor sizes = at::pow(2.0, at::randint(-24, 4, {16, inputs / 32, 2}, kOnDevice.dtype(at::kFloat)));
  const QuantisedWeight weight = int4_weight(numbers, (at::randn_like(sizes) * sizes).to(at::kHalf));
  const at::Tensor scales = wide(weight.scales).repeat_interleave(32, 1), w = by_hand(weight);
  EXPECT_TRUE(at::equal(w, wide(numbers) * scales.select(2, 0) + scales.select(2, 1)));
  // bfloat16 keeps 2^-9 of a result; the sum before it holds 128 more scales, in float32.
  const at::Tensor slack = w.abs() * 0x1p-8 + (scales.select(2, 0).abs() * 143 + scales.select(2, 1).abs()) * 0x1p-22;
  EXPECT_TRUE(((wide(dequantise_weight(weight, at::kFloat)) - w).abs() <= slack).all().item<bool>());
  const at::Tensor unit = at::eye(inputs, kOnDevice);
  for (int64_t i = 0; i < inputs; i += dispatch::kGemvRows) {
    const at::Tensor found = wide(gemv(unit.narrow(0, i, dispatch::kGemvRows), weight)).t();
    const at::Tensor error = (found - w.narrow(1, i, dispatch::kGemvRows)).abs();
    EXPECT_TRUE((error <= slack.narrow(1, i, dispatch::kGemvRows)).all().item<bool>()) << i;
  }
}

class AnyNumberOfOutputs : public PackedRows {};

TEST_P(AnyNumberOfOutputs, EndsWithinATile) {
  for (const Shape shape : {Shape{64, 1}, {576, 577}, {1536, 98}, {4096, 4098}}) {
    const QuantisedWeight weight = packed(shape);
    const at::Tensor x = at::randn({3, shape.inputs}, kOnDevice);
    const at::Tensor expected = at::matmul(wide(x), by_hand(weight).t());
    EXPECT_LT(error_of(gemv(x, weight), expected), kRounded) << shape.outputs;
    if (shape.outputs % 2) continue;
    const at::Tensor gate = expected.narrow(1, 0, shape.outputs / 2),
                     up = expected.narrow(1, shape.outputs / 2, shape.outputs / 2);
    EXPECT_LT(error_of(gemv(x, weight, {.gated = true}), gate / (1 + (-gate).exp()) * up), 5e-3) << shape.outputs;
  }
  EXPECT_FALSE(gemv_applies(at::randn({1, 40}, kOnDevice), packed({40, 16}))) << "not of whole 16-byte vectors";
}

TEST_P(PackedRows, MoreRowsAndOtherTypesGoOtherWays) {
  const QuantisedWeight weight = packed({256, 64});
  const at::Tensor w = by_hand(weight);
  for (const int64_t rows : {5, 8, 9, 16, 40}) {
    const at::Tensor x = at::randn({rows, 256}, kOnDevice);
    EXPECT_FALSE(gemv_applies(x, weight));
    // fp8 rounds these rows too.
    EXPECT_LT(error_of(quantised_linear(x, weight), at::matmul(wide(x), w.t())),
              GetParam() == WeightType::fp8 ? 4e-2 : 4e-3)
        << rows;
  }
  if (GetParam() == WeightType::fp8) return;
  const at::Tensor x = at::randn({2, 256}, kOnDevice.dtype(at::kFloat));
  EXPECT_LT(error_of(quantised_linear(x, weight), at::matmul(wide(x), w.t())), 5e-3);
}

TEST_P(PackedRows, MergedMatricesAreViews) {
  QuantisedWeight first = packed({512, 64}), second = packed({512, 32});
  const at::Tensor w = at::cat({by_hand(first), by_hand(second)}), x = at::randn({2, 512}, kOnDevice);
  const auto all = merge_quantised({&first, &second});
  ASSERT_TRUE(all);
  EXPECT_EQ(all->out, 96);
  const at::Tensor y = gemv(x, *all);
  EXPECT_LT(error_of(y, at::matmul(wide(x), w.t())), kRounded);
  EXPECT_TRUE(at::equal(gemv(x, first), y.narrow(1, 0, 64)));
  EXPECT_TRUE(at::equal(gemv(x, second), y.narrow(1, 64, 32)));
  EXPECT_EQ(second.values.data_ptr(), all->values[64].data_ptr());
}

INSTANTIATE_TEST_SUITE_P(Types, PackedRows, testing::Values(WeightType::int8, WeightType::int4, WeightType::fp8),
                         [](const auto& info) { return std::string(weight_type_name(info.param)); });
INSTANTIATE_TEST_SUITE_P(Types, AnyNumberOfOutputs, testing::Values(WeightType::int8),
                         [](const auto& info) { return std::string(weight_type_name(info.param)); });

}  // namespace
}  // namespace cepe
