// Joined products against the operations that they stand for, and their gradients against autograd's of those, in
// float64 on the CPU.
#include "ops/gemm/trained_products.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>

#include "ops/ops.h"
#include "ops/shared_keys.h"

namespace cepe {
namespace {

using Tensors = std::vector<at::Tensor>;
using Operation = std::function<Tensors(const Tensors&)>;

at::Tensor random(at::IntArrayRef sizes) { return at::randn(sizes, at::kDouble); }
at::Tensor plain(const at::Tensor& x, const at::Tensor& weight) { return at::matmul(x, weight.t()); }

// Sums of the results, each with a weight of its own, laid out with two dimensions swapped.
at::Tensor score(const Tensors& results) {
  at::Tensor sum = at::zeros({}, at::kDouble);
  for (size_t i = 0; i < results.size(); ++i) {
    const at::Tensor swapped = results[i].transpose(0, 1);
    const at::Tensor weight = at::linspace(-1, 2, swapped.numel(), at::kDouble).view(swapped.sizes());
    sum = sum + (swapped * weight).sum() * static_cast<double>(i + 1);
  }
  return sum;
}

// frozen: the inputs that ask for no gradient.
void check(const Operation& found, const Operation& expected, const Tensors& values,
           const std::vector<size_t>& frozen) {
  Tensors inputs, trained;
  for (size_t i = 0; i < values.size(); ++i) {
    const bool asks = std::find(frozen.begin(), frozen.end(), i) == frozen.end();
    inputs.push_back(values[i].detach().clone().requires_grad_(asks));
    if (asks) trained.push_back(inputs.back());
  }
  const Tensors here = found(inputs), there = expected(inputs);
  ASSERT_EQ(here.size(), there.size());
  for (size_t i = 0; i < here.size(); ++i) {
    ASSERT_EQ(here[i].sizes(), there[i].sizes());
    EXPECT_TRUE(at::allclose(here[i], there[i], 1e-12, 1e-12)) << "result " << i;
  }
  const Tensors grads = torch::autograd::grad({score(here)}, trained),
                wanted = torch::autograd::grad({score(there)}, trained);
  for (size_t i = 0; i < grads.size(); ++i) {
    EXPECT_TRUE(at::allclose(grads[i], wanted[i], 1e-11, 1e-11)) << "gradient " << i;
  }
}

const std::vector<std::vector<size_t>> kFrozen = {{}, {0}, {1}, {1, 2}};

TEST(TrainedProducts, OneProduct) {
  at::manual_seed(71);
  for (const auto& frozen : {std::vector<size_t>{}, {0}, {1}}) {
    check([](const Tensors& in) { return Tensors{trained_product(in[0], in[1])}; },
          [](const Tensors& in) { return Tensors{plain(in[0], in[1])}; }, {random({2, 5, 6}), random({4, 6})}, frozen);
  }
}

TEST(TrainedProducts, SwigluIsProductsAndTheirGate) {
  at::manual_seed(72);
  for (const auto& frozen : kFrozen) {
    check([](const Tensors& in) { return Tensors{trained_swiglu(in[0], in[1], in[2])}; },
          [](const Tensors& in) {
            const at::Tensor gate = plain(in[0], in[1]);
            return Tensors{gate / (1 + (-gate).exp()) * plain(in[0], in[2])};
          },
          {random({3, 4, 6}), random({5, 6}), random({5, 6})}, frozen);
  }
}

TEST(TrainedProducts, RotaryIsProductsAtTheirPositions) {
  at::manual_seed(73);
  const int64_t B = 2, T = 5, D = 8, H = 4, G = 2, K = 6, first = 3;
  const at::Tensor angles = random({first + T + 1, K / 2});
  const RotaryTable table{angles.cos(), angles.sin()};
  const auto turned = [&](const Tensors& in, size_t which, int64_t heads) {
    return rotary(plain(in[0], in[which]).view({B, T, heads, K}), table, first);
  };
  const Tensors values = {random({B, T, D}), random({H * K, D}), random({G * K, D}), random({G * K, D})};
  for (const auto& frozen : kFrozen) {
    check(
        [&](const Tensors& in) {
          const RotaryGemm out = trained_rotary(in[0], {in[1], in[2], in[3]}, table, first);
          return Tensors{out.q_BTHK, out.k_BTGK, out.v_BTGK};
        },
        [&](const Tensors& in) {
          return Tensors{turned(in, 1, H), turned(in, 2, G), plain(in[0], in[3]).view({B, T, G, K})};
        },
        values, frozen);
  }
}

TEST(TrainedProducts, WeightsThatStandTogetherAreNotCopied) {
  const at::Tensor all = random({9, 4}), a = all.narrow(0, 0, 5), b = all.narrow(0, 5, 4);
  EXPECT_TRUE(stand_together({a, b}));
  EXPECT_EQ(joined_rows({a, b}).const_data_ptr(), all.const_data_ptr());
  EXPECT_TRUE(at::equal(joined_rows({a, b}), all));
  const at::Tensor inner = joined_rows({all.narrow(0, 2, 3), b});
  EXPECT_TRUE(at::equal(inner, all.narrow(0, 2, 7)));
  EXPECT_FALSE(stand_together({b, a}));
  EXPECT_FALSE(stand_together({a, b.clone()}));
  EXPECT_FALSE(stand_together({all.narrow(0, 0, 4), b}));
  EXPECT_TRUE(at::equal(joined_rows({b, a}), at::cat({b, a})));
}

// Two layers of two key-value heads, with and without padding, against attention() on each layer's own columns.
TEST(TrainedProducts, KeysOfSeveralLayersAreThoseOfEach) {
  at::manual_seed(74);
  const int64_t B = 2, S = 7, T = 3, H = 4, G = 2, K = 5, layers = 2;
  at::Tensor mask = at::ones({B, S}, at::kBool);
  mask[0].narrow(0, 4, 3).fill_(false), mask[1][0].fill_(false);
  for (const at::Tensor& keys : {at::Tensor(), mask}) {
    check(
        [&](const Tensors& in) {
          const SharedKeys shared(in[0], {G, K}, keys, T);
          return Tensors{shared.attend(in[1], 1), shared.attend(in[1], 0)};
        },
        [&](const Tensors& in) {
          const auto part = [&](int64_t i) { return in[0].narrow(2, i * G * K, G * K).reshape({B, S, G, K}); };
          return Tensors{attention(in[1], part(2), part(3), {.keys_BS = keys}),
                         attention(in[1], part(0), part(1), {.keys_BS = keys})};
        },
        {random({B, S, layers * 2 * G * K}), random({B, T, H, K})}, {});
  }
}

}  // namespace
}  // namespace cepe
