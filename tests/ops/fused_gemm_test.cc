// Products with what follows them, where they are operations one after another: on the CPU.
#include "ops/gemm/fused_gemm.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "base/error.h"

namespace cepe {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

at::Tensor random(at::IntArrayRef sizes) { return at::randn(sizes, at::kDouble); }

TEST(FusedProduct, SwigluIsProductsAndTheirGate) {
  at::manual_seed(61);
  const at::Tensor x = random({2, 3, 8}), gate = random({6, 8}).requires_grad_(), up = random({6, 8});
  const at::Tensor a = at::matmul(x, gate.t()), b = at::matmul(x, up.t());
  const at::Tensor found = swiglu_gemm(x, gate, up), expected = a / (1 + (-a).exp()) * b;
  EXPECT_TRUE(at::allclose(found, expected, 0, 1e-12));
  const at::Tensor wanted = torch::autograd::grad({expected.sum()}, {gate})[0];
  EXPECT_TRUE(at::allclose(torch::autograd::grad({found.sum()}, {gate})[0], wanted, 0, 1e-12));
}

TEST(FusedProduct, RotaryIsProductsAtTheirPositions) {
  at::manual_seed(62);
  const int64_t B = 2, T = 5, D = 12, H = 4, G = 2, K = 6, first = 3;
  const at::Tensor x = random({B, T, D}), q = random({H * K, D}), k = random({G * K, D}), v = random({G * K, D});
  const at::Tensor angles = random({first + T, K / 2});
  const RotaryTable table{angles.cos(), angles.sin()};
  const RotaryGemm found = rotary_gemm(x, {q, k, v}, table, first);
  const auto turned = [&](const at::Tensor& weight, int64_t heads) {
    const at::Tensor y = at::matmul(x, weight.t()).view({B, T, heads, K}), a = y.narrow(3, 0, K / 2),
                     b = y.narrow(3, K / 2, K / 2);
    const at::Tensor cos = table.cos.narrow(0, first, T).unsqueeze(1), sin = table.sin.narrow(0, first, T).unsqueeze(1);
    return at::cat({a * cos - b * sin, b * cos + a * sin}, 3);
  };
  EXPECT_TRUE(at::allclose(found.q_BTHK, turned(q, H), 0, 1e-12));
  EXPECT_TRUE(at::allclose(found.k_BTGK, turned(k, G), 0, 1e-12));
  EXPECT_TRUE(at::allclose(found.v_BTGK, at::matmul(x, v.t()).view({B, T, G, K}), 0, 1e-12));
  const RotaryGemm none = rotary_gemm(x.narrow(1, 0, 0), {q, k, v}, table, first);
  EXPECT_EQ(none.q_BTHK.sizes(), (std::vector<int64_t>{B, 0, H, K}));
}

TEST(FusedProduct, SaysWhatDoesNotFit) {
  const at::Tensor x = random({1, 4, 8}), w = random({6, 8}), other = random({6, 10});
  const RotaryTable table{random({4, 3}), random({4, 3})};
  EXPECT_THAT([&] { swiglu_gemm(x, other, other); },
              ThrowsMessage<Error>(HasSubstr("rows of 8 for matrices of 6 x 10")));
  EXPECT_THAT([&] { swiglu_gemm(x, w, random({5, 8})); }, ThrowsMessage<Error>(HasSubstr("6 x 8 and 5 x 8")));
  EXPECT_THAT([&] { rotary_gemm(x, {w, other, other}, table, 0); },
              ThrowsMessage<Error>(HasSubstr("rows of 8 for matrices with 8 and 10 columns")));
  EXPECT_THAT([&] { rotary_gemm(x, {random({7, 8}), w, w}, table, 0); },
              ThrowsMessage<Error>(HasSubstr("expected heads of 6")));
  EXPECT_THAT([&] { rotary_gemm(x, {w, w, w}, table, 1); }, ThrowsMessage<Error>(HasSubstr("position 4 lies beyond")));
}

}  // namespace
}  // namespace cepe
