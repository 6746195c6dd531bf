#include "ops/trained_head.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "base/error.h"
#include "ops/ops.h"

namespace cepe {
namespace {

at::Tensor random(at::IntArrayRef shape) { return at::randn(shape, at::kDouble); }
at::Tensor leaf(const at::Tensor& from, at::ScalarType type) { return from.to(type).clone().requires_grad_(true); }

void expect_near(const at::Tensor& found, const at::Tensor& expected, double tolerance) {
  const double norm = expected.norm().item<double>();
  EXPECT_LE((found.to(at::kDouble) - expected).norm().item<double>(), tolerance * norm + 1e-12);
}

// LibTorch's own graph of the whole logits in float64 is the reference; 1100 rows make more than one block.
TEST(TrainedHead, HeadAndBiasGetTheirGradients) {
  for (int64_t rows : {1, 9, 1100}) {
    at::manual_seed(rows + 3);
    const at::Tensor hidden = random({rows, 6}), head = random({13, 6}), bias = random({13});
    const at::Tensor labels = at::arange(rows).mul(5).remainder(14).sub(1);
    const at::Tensor weight = (at::arange(rows).remainder(4) + 1).to(at::kFloat) * 0.5;
    for (bool biased : {false, true}) {
      std::vector<at::Tensor> right = {leaf(hidden, at::kDouble), leaf(head, at::kDouble)};
      if (biased) right.push_back(leaf(bias, at::kDouble));
      const at::Tensor log_p = at::linear(right[0], right[1], biased ? right[2] : at::Tensor()).log_softmax(-1);
      const at::Tensor picked = log_p.gather(1, labels.clamp_min(0).unsqueeze(1)).squeeze(1);
      const at::Tensor loss = -(picked * labels.ge(0) * weight).sum();
      const std::vector<at::Tensor> expected = torch::autograd::grad({loss * 0.5}, right);
      for (at::ScalarType type : {at::kDouble, at::kFloat, at::kBFloat16}) {
        const double tolerance = type == at::kDouble ? 1e-12 : type == at::kFloat ? 2e-5 : 4e-2;
        std::vector<at::Tensor> mine = {leaf(hidden, type), leaf(head, type)};
        if (biased) mine.push_back(leaf(bias, type));
        const at::Tensor of_bias = biased ? mine[2] : at::Tensor();
        const at::Tensor sum = trained_head_cross_entropy_sum(mine[0], mine[1], labels, weight, of_bias);
        expect_near(sum, loss, tolerance);
        const std::vector<at::Tensor> found = torch::autograd::grad({sum * 0.5}, mine);
        for (size_t i = 0; i < found.size(); ++i) {
          EXPECT_EQ(found[i].scalar_type(), type);
          expect_near(found[i], expected[i], tolerance);
        }
        // A frozen body below a trained head.
        const at::Tensor alone = trained_head_cross_entropy_sum(mine[0].detach(), mine[1], labels, weight,
                                                                biased ? mine[2].detach() : at::Tensor());
        EXPECT_TRUE(at::equal(torch::autograd::grad({alone * 0.5}, {mine[1]})[0], found[1]));
      }
    }
  }
}

TEST(TrainedHead, AFrozenHeadIsTheOtherForm) {
  at::manual_seed(5);
  const at::Tensor hidden = random({7, 6}).requires_grad_(true), head = random({13, 6}), labels = at::arange(7);
  const at::Tensor a = trained_head_cross_entropy_sum(hidden, head, labels),
                   b = linear_cross_entropy_sum(hidden, head, labels);
  EXPECT_TRUE(at::equal(a, b));
  EXPECT_TRUE(at::equal(torch::autograd::grad({a}, {hidden})[0], torch::autograd::grad({b}, {hidden})[0]));
  EXPECT_THROW(trained_head_cross_entropy_sum(hidden, head, labels.narrow(0, 0, 2)), Error);
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(trained_head_cross_entropy_sum(hidden, leaf(head, at::kDouble), labels).requires_grad());
}

}  // namespace
}  // namespace cepe
