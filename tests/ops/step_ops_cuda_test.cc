// A step's CUDA kernels against their formulas in float64, and repeated work as a graph.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "ops/cuda_device.h"
#include "ops/gemv/gemv.h"
#include "ops/gemv/gemv_cuda.h"
#include "ops/ops.h"
#include "ops/step/captured_work.h"
#include "ops/step/step_ops.h"
#include "ops/step_formula.h"

namespace cepe {
namespace {

const auto kOnDevice = at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);

class OnCuda : public testing::Test {
 protected:
  void SetUp() override {
    require_cuda();
    at::manual_seed(7);
  }
};
class CudaStep : public OnCuda, public testing::WithParamInterface<StepProblem> {};

// One rounding to bfloat16 of the result; the token's own key is rounded before it is used, too.
constexpr double kTolerance = 8e-3;

TEST_P(CudaStep, AttentionEqualsTheFormula) {
  const StepProblem p = GetParam();
  ASSERT_TRUE(step_attention_is_fused(at::kCUDA, at::kBFloat16, p.head_dim));
  const StepTensors given = step_tensors(p, kOnDevice);
  const StepResult expected = step_by_hand(p, given);
  const at::Tensor k_before = given.input.k_BSGK.clone(), v_before = given.input.v_BSGK.clone();
  const at::Tensor out = step_attention(given.qkv, given.input);
  const double error = largest_error(out, expected.out_BN);
  fmt::print("{} sequences, {} / {} heads of {}, up to {} tokens: {:.2e} of the largest\n", p.batch, p.heads,
             p.kv_heads, p.head_dim, *std::max_element(p.positions.begin(), p.positions.end()), error);
  EXPECT_LT(error, kTolerance);
  EXPECT_LT(largest_error(written(given.input.k_BSGK, p.positions), expected.k_BGK), kTolerance);
  EXPECT_EQ(largest_error(written(given.input.v_BSGK, p.positions), expected.v_BGK), 0);
  // Nothing else in the cache has changed.
  for (int64_t b = 0; b < p.batch; ++b) {
    k_before[b][p.positions[b]] = given.input.k_BSGK[b][p.positions[b]];
    v_before[b][p.positions[b]] = given.input.v_BSGK[b][p.positions[b]];
  }
  EXPECT_TRUE(at::allclose(given.input.k_BSGK, k_before, 0, 0, /*equal_nan=*/true));
  EXPECT_TRUE(at::allclose(given.input.v_BSGK, v_before, 0, 0, /*equal_nan=*/true));
  EXPECT_TRUE(at::equal(out, step_attention(given.qkv, given.input))) << "the same again";
}
INSTANTIATE_TEST_SUITE_P(
    Shapes, CudaStep,
    testing::Values(StepProblem{1, 32, 32, 128, 4096, {128}}, StepProblem{1, 32, 32, 128, 4096, {4095}},
                    StepProblem{1, 32, 32, 128, 160, {0}}, StepProblem{1, 32, 32, 128, 160, {1}},
                    StepProblem{1, 32, 8, 128, 2000, {1999}, true}, StepProblem{1, 9, 3, 64, 1000, {777}},
                    StepProblem{3, 9, 3, 64, 300, {0, 31, 299}}, StepProblem{2, 14, 2, 64, 500, {33, 400}},
                    StepProblem{2, 28, 4, 128, 257, {256, 5}, true}, StepProblem{1, 4, 4, 16, 8, {7}},
                    StepProblem{2, 6, 2, 48, 90, {64, 89}, true}, StepProblem{1, 5, 5, 80, 200, {150}},
                    StepProblem{1, 6, 3, 96, 200, {199}}, StepProblem{2, 4, 2, 256, 600, {599, 1}, true},
                    StepProblem{1, 8, 8, 256, 100, {50}}, StepProblem{1, 20, 1, 64, 400, {399}},
                    // Long caches, which query heads read together.
                    StepProblem{1, 20, 1, 64, 1500, {1499}}, StepProblem{2, 14, 2, 64, 1100, {33, 1099}},
                    StepProblem{1, 16, 2, 256, 1100, {1099}}, StepProblem{3, 9, 3, 64, 1200, {0, 31, 1199}},
                    StepProblem{2, 4, 2, 256, 1100, {1099, 1}, true}, StepProblem{2, 28, 4, 128, 1100, {1099, 5}},
                    StepProblem{2, 6, 2, 48, 1100, {64, 1099}}, StepProblem{5, 4, 2, 32, 1, {0, 0, 0, 0, 0}},
                    StepProblem{
                        16, 32, 32, 128, 300, {0, 1, 2, 3, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200, 298, 299}}));

using CudaStepEdges = OnCuda;

TEST_F(CudaStepEdges, APositionOutsideTheCacheGivesNotANumberAndWritesNothing) {
  const StepProblem p{2, 4, 2, 64, 32, {31, 5}};
  const StepTensors given = step_tensors(p, kOnDevice);
  const at::Tensor expected = step_attention(given.qkv, given.input), before = given.input.k_BSGK.clone();
  given.input.positions_B[0] = 32;
  const at::Tensor out = step_attention(given.qkv, given.input);
  EXPECT_TRUE(out[0].isnan().all().item<bool>());
  EXPECT_TRUE(at::equal(out[1], expected[1]));
  EXPECT_TRUE(at::allclose(given.input.k_BSGK, before, 0, 0, /*equal_nan=*/true));
}

TEST_F(CudaStepEdges, LargeScoresDoNotOverflow) {
  const StepProblem p{1, 4, 4, 64, 200, {150}};
  StepTensors given = step_tensors(p, kOnDevice);
  given.qkv.narrow(1, 0, 256).mul_(200);
  EXPECT_LT(largest_error(step_attention(given.qkv, given.input), step_by_hand(p, given).out_BN), 2e-2);
}

TEST_F(CudaStepEdges, SwigluOfAMergedProduct) {
  for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{1, 11008}, {16, 11008}, {3, 8}, {64, 1536}}) {
    const at::Tensor gate_up = at::randn({rows, 2 * width}, kOnDevice), wide = gate_up.to(at::kCPU, at::kDouble);
    const at::Tensor gate = wide.narrow(1, 0, width), up = wide.narrow(1, width, width);
    EXPECT_LT(largest_error(step_swiglu(gate_up), gate / (1 + (-gate).exp()) * up), 4e-3) << rows << " x " << width;
  }
}

// Rows wider than one warp holds: forward only.
double error_of(const at::Tensor& found, const at::Tensor& expected) {
  return (found.to(at::kDouble) - expected).norm().item<double>() / expected.norm().item<double>();
}

// One rounding of the result to bfloat16.
constexpr double kRounded = 3e-3;

TEST_F(CudaStepEdges, ProductsOfAFewRows) {
  const at::NoGradGuard no_gradients;
  for (const auto& [rows, inputs, outputs] : std::vector<std::array<int64_t, 3>>{{1, 4096, 4096},
                                                                                 {1, 11008, 4096},
                                                                                 {2, 4096, 12288},
                                                                                 {3, 576, 577},
                                                                                 {4, 11008, 64},
                                                                                 {1, 8, 1},
                                                                                 {4, 1536, 49152}}) {
    const at::Tensor x = at::randn({rows, 1, inputs}, kOnDevice), weight = at::randn({outputs, inputs}, kOnDevice);
    ASSERT_TRUE(gemv_applies(x, weight));
    const at::Tensor expected = at::matmul(x.to(at::kDouble), weight.to(at::kDouble).t());
    EXPECT_LT(error_of(gemv(x, weight), expected), kRounded) << rows << " x " << inputs << " to " << outputs;
  }
  EXPECT_FALSE(gemv_applies(at::randn({5, 64}, kOnDevice), at::randn({8, 64}, kOnDevice)));
}

// A product of random rows, what may stand around it, and both in float64.
struct ProductAround {
  at::Tensor x, weight, norm, bias, residual;
  at::Tensor plain, from_norm;  // without bias
  static constexpr double kEps = 1e-5;

  ProductAround(int64_t rows, int64_t inputs, int64_t outputs)
      : x(at::randn({rows, 1, inputs}, kOnDevice)),
        weight(at::randn({outputs, inputs}, kOnDevice) / 64),
        norm(at::rand({inputs}, kOnDevice).add(0.5)),
        bias(at::randn({outputs + 1}, kOnDevice).narrow(0, 1, outputs)),  // as views of merged ones may lie
        residual(at::randn({rows, 1, outputs}, kOnDevice)) {
    const at::Tensor x64 = wide(x), normed = x64 / (x64.square().mean(-1, true) + kEps).sqrt() * wide(norm);
    plain = at::matmul(x64, wide(weight).t()), from_norm = at::matmul(normed, wide(weight).t());
  }
  static at::Tensor wide(const at::Tensor& t) { return t.to(at::kDouble); }
  // SwiGLU of a product with its bias.
  at::Tensor gated(const at::Tensor& product) const {
    const std::vector<at::Tensor> halves = (product + wide(bias)).chunk(2, -1);
    return halves[0] / (1 + (-halves[0]).exp()) * halves[1];
  }
};

// The norm before, and bias, residual or SwiGLU after a product, in the same kernel.
TEST_F(CudaStepEdges, ProductsOfAFewRowsWithWhatStandsAround) {
  const at::NoGradGuard no_gradients;
  for (const auto& [rows, inputs, outputs] : std::vector<std::array<int64_t, 3>>{{1, 4096, 4096},
                                                                                 {2, 4096, 12288},
                                                                                 {3, 576, 578},
                                                                                 {4, 11008, 64},
                                                                                 {1, 8, 2},
                                                                                 {1, 4096, 22016},
                                                                                 {4, 1536, 98}}) {
    const ProductAround of(rows, inputs, outputs);
    const auto error = [&](const GemvOptions& options, const at::Tensor& expected) {
      EXPECT_TRUE(gemv_applies(of.x, of.weight));
      return error_of(gemv(of.x, of.weight, options), expected);
    };
    const at::Tensor added = of.plain + of.wide(of.bias);
    const std::string where = fmt::format("{} x {} to {}", rows, inputs, outputs);
    EXPECT_LT(error({.norm = of.norm, .eps = of.kEps}, of.from_norm), kRounded) << where;
    EXPECT_LT(error({.bias = of.bias}, added), kRounded) << where;
    EXPECT_LT(error({.bias = of.bias, .residual = of.residual}, added + of.wide(of.residual)), kRounded) << where;
    const GemvOptions gated{.norm = of.norm, .eps = of.kEps, .bias = of.bias, .gated = true};
    EXPECT_LT(error(gated, of.gated(of.from_norm)), 4e-3) << where;
  }
}

// More rows: tiles that one block has whole, that many share, that end within the outputs.
TEST_F(CudaStepEdges, ProductsOfMoreRowsWithWhatStandsAround) {
  const at::NoGradGuard no_gradients;
  const at::Tensor semaphores = make_semaphores(at::kCUDA);
  for (const auto& [rows, inputs, outputs] : std::vector<std::array<int64_t, 3>>{{5, 4096, 4096},
                                                                                 {8, 4096, 12288},
                                                                                 {16, 4096, 22016},
                                                                                 {13, 11008, 4096},
                                                                                 {9, 64, 16},
                                                                                 {16, 576, 3072},
                                                                                 {7, 1536, 208},
                                                                                 {15, 128, 49152},
                                                                                 {6, 8192, 8}}) {
    const ProductAround of(rows, inputs, outputs);
    const std::string where = fmt::format("{} x {} to {}", rows, inputs, outputs);
    const auto error = [&](GemvOptions options, const at::Tensor& expected) {
      EXPECT_EQ(cuda_skinny_gemm_applies(of.x, of.weight, options.gated), hopper_kernels_run()) << where;
      options.semaphores = semaphores;
      const at::Tensor found = gemv(of.x, of.weight, options);
      EXPECT_TRUE(at::equal(found, gemv(of.x, of.weight, options))) << where << ", the same again";
      EXPECT_EQ(semaphores.count_nonzero().item<int64_t>(), 0) << where;
      return error_of(found, expected);
    };
    const at::Tensor added = of.plain + of.wide(of.bias);
    const double more = hopper_kernels_run() ? 1 : 2;  // operations one after another round what stands between them
    EXPECT_LT(error({}, of.plain), kRounded) << where;
    EXPECT_LT(error({.norm = of.norm, .eps = of.kEps}, of.from_norm), 4e-3) << where;  // x is rounded once more
    EXPECT_LT(error({.bias = of.bias, .residual = of.residual}, added + of.wide(of.residual)), kRounded * more)
        << where;
    if (outputs % 16 != 0) continue;
    EXPECT_LT(error({.bias = of.bias, .gated = true}, of.gated(of.plain)), 4e-3 * more) << where;
  }
  const at::Tensor x = at::randn({8, 64}, kOnDevice);
  EXPECT_FALSE(cuda_skinny_gemm_applies(x.narrow(0, 0, 4), at::randn({8, 64}, kOnDevice), false));
  EXPECT_FALSE(cuda_skinny_gemm_applies(at::randn({17, 64}, kOnDevice), at::randn({8, 64}, kOnDevice), false));
  EXPECT_FALSE(cuda_skinny_gemm_applies(x, at::randn({12, 64}, kOnDevice), false));
  EXPECT_FALSE(cuda_skinny_gemm_applies(at::randn({8, 96}, kOnDevice), at::randn({8, 96}, kOnDevice), false));
}

TEST_F(CudaStepEdges, ProductsByHead) {
  const at::NoGradGuard no_gradients;
  const at::Tensor semaphores = make_semaphores(at::kCUDA);
  for (const auto& [batch, heads, inputs, outputs] : std::vector<std::array<int64_t, 4>>{{1, 32, 128, 1024},
                                                                                         {4, 32, 128, 1024},
                                                                                         {2, 9, 64, 576},
                                                                                         {16, 32, 128, 1024},
                                                                                         {1, 3, 1024, 128},
                                                                                         {16, 32, 1024, 128},
                                                                                         {5, 9, 64, 576},
                                                                                         {8, 9, 576, 64},
                                                                                         {7, 3, 192, 320},
                                                                                         {20, 3, 64, 64}}) {
    const at::Tensor x = at::randn({batch, heads, inputs}, kOnDevice),
                     m = at::randn({heads, inputs, outputs}, kOnDevice);
    const at::Tensor turned = m.transpose(1, 2).contiguous();
    const at::Tensor expected = at::einsum("bhi,hio->bho", {x.to(at::kDouble), m.to(at::kDouble)});
    for (const at::Tensor& given : {at::Tensor(), semaphores}) {
      EXPECT_LT(error_of(batched_gemv(x, m, true, given), expected), kRounded)
          << batch << " x " << heads << ", transposed";
      EXPECT_LT(error_of(batched_gemv(x, turned, false, given), expected), kRounded) << batch << " x " << heads;
    }
    EXPECT_EQ(semaphores.count_nonzero().item<int64_t>(), 0) << batch << " x " << heads;
  }
}

TEST_F(CudaStepEdges, NormsOfWideRows) {
  const at::NoGradGuard no_gradients;
  for (const int64_t width : {2056, 3584, 4096, 5120, 8192, 11008, 16384}) {
    for (const int64_t rows : {1, 16, 5000}) {
      const at::Tensor x = at::randn({rows, width}, kOnDevice), y = at::randn({rows, width}, kOnDevice);
      const at::Tensor weight = at::rand({width}, kOnDevice).add(0.5), weight64 = weight.to(at::kDouble);
      const auto by_hand = [&](const at::Tensor& s) {
        return (s / (s.square().mean(-1, true) + 1e-5).sqrt() * weight64).cpu();
      };
      EXPECT_LT(largest_error(rms_norm(x, weight, 1e-5), by_hand(x.to(at::kDouble))), 4e-3) << rows << " x " << width;
      const NormedSum sum = add_rms_norm(x, y, weight, 1e-5);
      EXPECT_TRUE(at::equal(sum.sum, x + y)) << rows << " x " << width;
      EXPECT_LT(largest_error(sum.normed, by_hand(sum.sum.to(at::kDouble))), 4e-3) << rows << " x " << width;
    }
  }
}

TEST_F(CudaStepEdges, RepeatedWorkIsAGraphThatReadsItsMemoryAnew) {
  int calls = 0;
  at::Tensor x = at::ones({1000}, kOnDevice.dtype(at::kFloat));
  const at::Tensor w = at::randn({1000, 1000}, x.options()) / 32;
  at::Tensor y = at::zeros({1000}, x.options());
  CapturedWork work(x.device(), /*graph=*/true, [&] {
    ++calls;
    y.copy_(at::mv(w, x));
    x.add_(1);
  });
  for (int i = 1; i <= 6; ++i) {
    const at::Tensor expected = at::mv(w, at::full_like(x, i));
    work.run();
    EXPECT_LT(largest_error(y, expected.to(at::kCPU, at::kDouble)), 1e-4) << "run " << i;
  }
  EXPECT_EQ(calls, 2) << "once to warm up, once to be recorded";
  x.fill_(100);
  work.run();
  EXPECT_LT(largest_error(y, at::mv(w, at::full_like(x, 100)).to(at::kCPU, at::kDouble)), 1e-4);
}

}  // namespace
}  // namespace cepe
