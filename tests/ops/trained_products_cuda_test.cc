// Joined products on a GPU in bfloat16 against the operations that they stand for, in float64 on the same numbers.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>

#include "ops/cuda_device.h"
#include "ops/gemm/fp8.h"
#include "ops/gemm/fused_gemm.h"
#include "ops/gemm/trained_products.h"
#include "ops/gemv/gemv.h"
#include "ops/ops.h"
#include "ops/shared_keys.h"

namespace cepe {
namespace {

using Tensors = std::vector<at::Tensor>;
using Operation = std::function<Tensors(const Tensors&)>;

class TrainedProductsOnGpu : public testing::Test {
 protected:
  void SetUp() override {
    require_cuda();
    at::manual_seed(81);
    configure_attention_backends();
  }
};

at::Tensor random(at::IntArrayRef sizes, double scale = 1) {
  return (at::randn(sizes, at::TensorOptions(at::kFloat).device(at::kCUDA)) * scale).to(at::kBFloat16);
}
at::Tensor plain(const at::Tensor& x, const at::Tensor& weight) { return at::matmul(x, weight.t()); }

at::Tensor score(const Tensors& results) {
  at::Tensor sum;
  for (size_t i = 0; i < results.size(); ++i) {
    const at::Tensor swapped = results[i].transpose(0, 1).to(at::kDouble);
    const at::Tensor weight = at::linspace(-1, 1, swapped.numel(), swapped.options()).view(swapped.sizes());
    const at::Tensor part = (swapped * weight).sum();
    sum = sum.defined() ? sum + part : part;
  }
  return sum;
}

// Largest difference as a part of the largest value.
double error_of(const at::Tensor& found, const at::Tensor& wanted) {
  const at::Tensor wide = found.to(at::kDouble);
  if (!wide.isfinite().all().item<bool>()) return 1e9;
  return ((wide - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30)).item<double>();
}

void check(const std::string& name, const Operation& found, const Operation& expected, const Tensors& values,
           double allowed = 0.02) {
  Tensors low, high;
  for (const at::Tensor& value : values) {
    low.push_back(value.detach().requires_grad_());
    high.push_back(value.detach().to(at::kDouble).requires_grad_());
  }
  const Tensors here = found(low), there = expected(high);
  ASSERT_EQ(here.size(), there.size());
  for (size_t i = 0; i < here.size(); ++i) EXPECT_LE(error_of(here[i], there[i]), allowed) << name << ", result " << i;
  const Tensors grads = torch::autograd::grad({score(here)}, low), wanted = torch::autograd::grad({score(there)}, high);
  for (size_t i = 0; i < grads.size(); ++i)
    EXPECT_LE(error_of(grads[i], wanted[i]), allowed) << name << ", gradient " << i;
}

TEST_F(TrainedProductsOnGpu, OneProduct) {
  const Tensors values = {random({3, 70, 64}), random({48, 64}, 0.1)};
  ASSERT_TRUE(trained_product_applies(values[0].detach().requires_grad_(), {values[1]}));
  check(
      "product", [](const Tensors& in) { return Tensors{gemv(in[0], in[1])}; },
      [](const Tensors& in) { return Tensors{plain(in[0], in[1])}; }, values);
}

TEST_F(TrainedProductsOnGpu, Swiglu) {
  for (const int64_t F : {24, 1536, 20, 7}) {  // 20 and 7: rows that are no whole vectors
    check(
        fmt::format("SwiGLU {}", F), [](const Tensors& in) { return Tensors{swiglu_gemm(in[0], in[1], in[2])}; },
        [](const Tensors& in) { return Tensors{at::silu(plain(in[0], in[1])) * plain(in[0], in[2])}; },
        {random({3, 70, 64}), random({F, 64}, 0.1), random({F, 64}, 0.1)});
  }
}

TEST_F(TrainedProductsOnGpu, Rotary) {
  const int64_t B = 3, T = 70, D = 64, first = 2;
  for (const int64_t K : {64, 16, 6}) {
    const int64_t H = 3, G = 1;
    const at::Tensor angles = at::randn({first + T, K / 2}, at::TensorOptions(at::kFloat).device(at::kCUDA));
    const RotaryTable table{angles.cos(), angles.sin()}, wide{table.cos.to(at::kDouble), table.sin.to(at::kDouble)};
    const at::Tensor all = random({(H + 2 * G) * K, D}, 0.1);  // weights that stand together
    const Tensors values = {random({B, T, D}), all.narrow(0, 0, H * K), all.narrow(0, H * K, G * K),
                            all.narrow(0, (H + G) * K, G * K)};
    const auto turned = [&](const Tensors& in, size_t which, int64_t heads) {
      return rotary(plain(in[0], in[which]).view({B, T, heads, K}), wide, first);
    };
    const auto found = [&](const Tensors& in) {
      const RotaryGemm out = rotary_gemm(in[0], {in[1], in[2], in[3]}, table, first);
      return Tensors{out.q_BTHK, out.k_BTGK, out.v_BTGK};
    };
    const auto expected = [&](const Tensors& in) {
      return Tensors{turned(in, 1, H), turned(in, 2, G), plain(in[0], in[3]).view({B, T, G, K})};
    };
    check(fmt::format("rotary {}", K), found, expected, values);
    const at::NoGradGuard none;  // one product, without gradients
    const Tensors here = found(values), there = expected({values[0].to(at::kDouble), values[1].to(at::kDouble),
                                                          values[2].to(at::kDouble), values[3].to(at::kDouble)});
    for (size_t i = 0; i < here.size(); ++i) EXPECT_LE(error_of(here[i], there[i]), 0.02);
  }
}

// Rounded to 4 bits each, products of frozen weights stay near; a trained weight is not rounded.
TEST_F(TrainedProductsOnGpu, FrozenWeightsInFp8) {
  if (const std::string refusal = fp8_refusal(at::kCUDA); !refusal.empty()) GTEST_SKIP() << refusal;
  const at::Tensor x = random({2, 96, 64}).requires_grad_(), gate = random({48, 64}, 0.1), up = random({48, 64}, 0.1);
  const auto both = [&](const at::Tensor& of_gate) {
    const at::Tensor y = swiglu_gemm(x, of_gate, up);
    return Tensors{y.detach(), torch::autograd::grad({score({y})}, {x})[0]};
  };
  const Tensors wide = both(gate);
  Tensors narrow, trained;
  {
    Fp8Weights weights;
    const Fp8FrozenProducts fp8(&weights);
    narrow = both(gate);
    const Tensors again = both(gate);  // by the weights that were kept
    for (size_t i = 0; i < narrow.size(); ++i) EXPECT_TRUE(at::equal(again[i], narrow[i])) << i;
    trained = both(gate.detach().clone().requires_grad_());
  }
  for (size_t i = 0; i < wide.size(); ++i) {
    EXPECT_LE(error_of(narrow[i], wide[i].to(at::kDouble)), 0.2) << i;
    EXPECT_GT(error_of(narrow[i], wide[i].to(at::kDouble)), 1e-3) << i;
    EXPECT_TRUE(at::equal(trained[i], wide[i])) << i;
  }
  EXPECT_TRUE(at::equal(both(gate)[0], wide[0]));  // the scope has ended
}

// Attention and its gradients through columns of one tensor, by cuDNN without padding and by flash with it.
TEST_F(TrainedProductsOnGpu, KeysOfSeveralLayers) {
  const int64_t B = 2, S = 200, T = 72, H = 6, G = 2, K = 64, layers = 3;
  at::Tensor mask = at::ones({B, S}, at::TensorOptions(at::kBool).device(at::kCUDA));
  mask[0].narrow(0, 150, 50).fill_(false), mask[1].narrow(0, 3, 90).fill_(false);
  for (const at::Tensor& keys : {at::Tensor(), mask}) {
    check(
        keys.defined() ? "keys with padding" : "keys",
        [&](const Tensors& in) {
          const SharedKeys shared(in[0], {G, K}, keys, T);
          return Tensors{shared.attend(in[1], 2), shared.attend(in[1], 0)};
        },
        [&](const Tensors& in) {
          const auto part = [&](int64_t i) { return in[0].narrow(2, i * G * K, G * K).reshape({B, S, G, K}); };
          return Tensors{attention(in[1], part(4), part(5), {.keys_BS = keys}),
                         attention(in[1], part(0), part(1), {.keys_BS = keys})};
        },
        {random({B, S, layers * 2 * G * K}), random({B, T, H, K})}, 0.03);
  }
}

}  // namespace
}  // namespace cepe
