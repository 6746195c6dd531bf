// The rounding kernel bit for bit against LibTorch on the CPU, and products against the rounded factors in float64.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "ops/cuda_device.h"
#include "ops/dispatch.h"
#include "ops/gemm/fp8.h"
#include "ops/gemv/gemv.h"
#include "ops/gemv/quantised_weight.h"

namespace cepe {
namespace {

class Fp8Cuda : public testing::Test {
 protected:
  void SetUp() override {
    require_cuda();
    ASSERT_EQ(fp8_refusal(at::Device(at::kCUDA, 0)), "");
    at::manual_seed(5);
  }
  static at::Tensor random(at::IntArrayRef sizes) {
    return at::randn(sizes, at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16));
  }
};

at::Tensor bits(const at::Tensor& e4m3) { return e4m3.cpu().view(at::kByte); }
at::Tensor widened(const Fp8Rows& rows) { return rows.values.to(at::kDouble) * rows.scales.to(at::kDouble); }

double relative(const at::Tensor& found, const at::Tensor& expected) {
  return ((found.to(at::kDouble) - expected).norm() / expected.norm()).item<double>();
}

// Every way the kernel shares a row among threads, edges of each included.
TEST_F(Fp8Cuda, RowsAreBitForBitThoseOfTheCpu) {
  for (const int64_t width :
       {16, 48, 512, 528, 1024, 1040, 4096, 4112, 8192, 11008, 12304, 16384, 16400, 22016, 24576}) {
    for (const int64_t rows : {1, 7, 300}) {
      at::Tensor x = random({rows, width}) * at::logspace(-5, 4, rows, 10, at::kCUDA).unsqueeze(1);
      x = x.to(at::kBFloat16);
      if (rows > 1) x[1].zero_();
      const Fp8Rows found = fp8_rows(x), expected = fp8_rows(x.cpu());
      // -0 and 0 are the same number.
      const at::Tensor a = found.values.cpu().to(at::kFloat), b = expected.values.to(at::kFloat);
      EXPECT_TRUE(at::equal(a, b)) << rows << " x " << width;
      EXPECT_TRUE(at::equal(bits(found.values), bits(expected.values))) << rows << " x " << width;
      EXPECT_TRUE(at::equal(found.scales.cpu(), expected.scales)) << rows << " x " << width;
    }
  }
}

TEST_F(Fp8Cuda, ManyRowsAreAllDone) {
  const at::Tensor x = random({20000, 1024});
  EXPECT_TRUE(at::equal(bits(fp8_rows(x).values), bits(fp8_rows(x.cpu()).values)));
}

TEST_F(Fp8Cuda, NotANumberStaysOne) {
  at::Tensor x = random({2, 64});
  x[1][3] = std::nan("");
  const at::Tensor y = fp8_rows(x).values.to(at::kFloat);
  EXPECT_TRUE(std::isnan(y[1][3].item<float>()));
  EXPECT_TRUE(at::isfinite(y[0]).all().item<bool>());
}

// The gate's exponential is CUDA's fast one, some 2^-21 of error, so that a tie may fall to the other side: the bound
// is that of one rounding, not bits.
TEST_F(Fp8Cuda, SwigluIsRoundedOnce) {
  for (const int64_t width : {48, 512, 1024, 4096, 11008, 16384, 22016}) {
    const at::Tensor gate = random({3, 5, width}), up = random({3, 5, width});
    const at::Tensor exact = (at::silu(gate.to(at::kDouble)) * up.to(at::kDouble)).view({15, width});
    const Fp8Rows found = fp8_swiglu(gate, up);
    const at::Tensor bound = exact.abs() / 16 + found.scales.to(at::kDouble) * std::ldexp(1.0, -10);
    EXPECT_TRUE(((widened(found) - exact).abs() <= bound * 1.001).all().item<bool>()) << width;
    EXPECT_LT(relative(widened(found), exact), 0.03) << width;
  }
}

// A rounding to bfloat16 leaves 1.1e-3 of the norm. Tensor cores that accumulate by themselves keep some 13 bits after
// each step of 32 columns and cut the rest off: up to 2^-13 of the sum a step, half of it on average.
TEST_F(Fp8Cuda, ProductsAreThoseOfTheRoundedFactors) {
  struct Shape {
    int64_t out, in;
  };
  // The last four are those of a training step at Llama-2-7B's sizes: joined products, and the gradients of their rows.
  for (const Shape shape : {Shape{16, 16},
                            {1024, 1024},
                            {4096, 1024},
                            {1024, 4096},
                            {11008, 4096},
                            {4096, 11008},
                            {12288, 4096},
                            {4096, 12288},
                            {22016, 4096},
                            {4096, 22016}}) {
    const QuantisedWeight weight = quantise_weight(random({shape.out, shape.in}), WeightType::fp8);
    const at::Tensor w = dequantise_weight(weight, at::kDouble);
    for (const int64_t rows : {1, 2, 3, 16, 33, 257}) {
      const at::Tensor x = random({rows, shape.in});
      const at::Tensor y = quantised_linear(x, weight);
      ASSERT_EQ(y.scalar_type(), at::kBFloat16);
      ASSERT_EQ(y.sizes(), (at::IntArrayRef{rows, shape.out}));
      // The kernel of few rows takes x as it is.
      const at::Tensor factor = rows <= dispatch::kGemvRows ? x.to(at::kDouble) : widened(fp8_rows(x));
      const double error = relative(y, at::linear(factor, w));
      const double bound = 2e-3 + std::ldexp(static_cast<double>(shape.in) / 32, -14);
      if (rows == 257) fmt::print("{} x {}, {} rows: {:.2e}\n", shape.out, shape.in, rows, error);
      EXPECT_LT(error, bound) << shape.out << " x " << shape.in << ", " << rows << " rows";
    }
  }
}

TEST_F(Fp8Cuda, OtherTypesAndShapesAreRefused) {
  const QuantisedWeight weight = quantise_weight(random({32, 32}), WeightType::fp8);
  EXPECT_THROW(quantised_linear(random({2, 32}).to(at::kFloat), weight), Error);
  EXPECT_THROW(quantised_linear(random({2, 16}), weight), Error);
  EXPECT_THROW(quantise_weight(random({32, 24}), WeightType::fp8), Error);
}

}  // namespace
}  // namespace cepe
