#include "train/optimizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"

namespace cepe {
namespace {

// AdamW as in the paper, one number at a time, in float64.
struct Reference {
  AdamWOptions options;
  std::vector<std::vector<double>> p, m, v;
  int64_t updates = 0;

  double step(const std::vector<std::vector<double>>& gradients, const std::vector<bool>& decayed, double lr) {
    double squares = 0;
    for (const auto& tensor : gradients) {
      for (double g : tensor) squares += g * g;
    }
    const double norm = std::sqrt(squares);
    const double scale = options.clip > 0 && norm > options.clip ? options.clip / norm : 1;
    ++updates;
    for (size_t i = 0; i < p.size(); ++i) {
      for (size_t j = 0; j < p[i].size(); ++j) {
        const double g = gradients[i][j] * scale;
        if (decayed[i]) p[i][j] -= lr * options.weight_decay * p[i][j];
        m[i][j] = options.beta1 * m[i][j] + (1 - options.beta1) * g;
        v[i][j] = options.beta2 * v[i][j] + (1 - options.beta2) * g * g;
        const double m_hat = m[i][j] / (1 - std::pow(options.beta1, static_cast<double>(updates)));
        const double v_hat = v[i][j] / (1 - std::pow(options.beta2, static_cast<double>(updates)));
        p[i][j] -= lr * m_hat / (std::sqrt(v_hat) + options.epsilon);
      }
    }
    return norm;
  }
};

std::vector<double> to_vector(const at::Tensor& tensor) {
  const at::Tensor wide = tensor.detach().to(at::kDouble).contiguous();
  return {wide.data_ptr<double>(), wide.data_ptr<double>() + wide.numel()};
}

std::vector<at::Tensor> leaves() {
  at::manual_seed(5);
  return {at::randn({7, 5}).set_requires_grad(true), at::randn({13}).set_requires_grad(true),
          at::randn({3, 2, 4}).set_requires_grad(true)};
}

void compare_with_reference(const AdamWOptions& options) {
  const std::vector<at::Tensor> parameters = leaves();
  AdamW optimizer(parameters, options);
  Reference reference{options, {}, {}, {}};
  for (const at::Tensor& p : parameters) {
    reference.p.push_back(to_vector(p));
    reference.m.emplace_back(p.numel());
    reference.v.emplace_back(p.numel());
  }
  for (int64_t step = 0; step < 60; ++step) {
    std::vector<std::vector<double>> gradients;
    for (const at::Tensor& p : parameters) {
      p.mutable_grad() = at::randn_like(p).detach() * (step % 3 == 0 ? 2.0 : 0.05);
      gradients.push_back(to_vector(p.grad()));
    }
    const double lr = 0.01 * static_cast<double>(1 + step % 5);
    const double norm = optimizer.step(lr).item<double>(),
                 expected = reference.step(gradients, {true, false, true}, lr);
    EXPECT_NEAR(norm, expected, 1e-5 * expected);
    for (size_t i = 0; i < parameters.size(); ++i) {
      EXPECT_FALSE(parameters[i].grad().defined());
      const std::vector<double> found = to_vector(parameters[i]);
      for (size_t j = 0; j < found.size(); ++j) ASSERT_NEAR(found[j], reference.p[i][j], 2e-5) << "step " << step;
    }
  }
  EXPECT_EQ(optimizer.state().updates.item<double>(), 60);
}

TEST(AdamW, EqualsTheReferenceInFloat64) { compare_with_reference({}); }
TEST(AdamW, EqualsTheReferenceWithWeightDecay) { compare_with_reference({0.9, 0.95, 1e-8, 0.1, 1.0}); }
TEST(AdamW, EqualsTheReferenceWithoutClipping) { compare_with_reference({0.8, 0.999, 1e-6, 0.0, 0.0}); }

TEST(AdamW, LeavesEverythingWhenTheGradientIsNotFinite) {
  const std::vector<at::Tensor> parameters = leaves();
  AdamW optimizer(parameters, {});
  const auto set_gradients = [&](double value) {
    for (const at::Tensor& p : parameters) p.mutable_grad() = at::full_like(p, 0.5).detach();
    parameters[1].mutable_grad()[3] = value;
  };
  for (double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    for (int64_t round = 0; round < 2; ++round) {  // before any update, and after one
      std::vector<at::Tensor> before;
      for (const at::Tensor& p : parameters) before.push_back(p.detach().clone());
      const double updates = optimizer.state().updates.item<double>();
      set_gradients(bad);
      EXPECT_FALSE(std::isfinite(optimizer.step(0.1).item<double>()));
      for (size_t i = 0; i < parameters.size(); ++i) EXPECT_TRUE(at::equal(parameters[i], before[i]));
      EXPECT_EQ(optimizer.state().updates.item<double>(), updates);
      set_gradients(1.0);
      optimizer.step(0.1);
      EXPECT_FALSE(at::equal(parameters[0], before[0]));
      EXPECT_EQ(optimizer.state().updates.item<double>(), updates + 1);
    }
  }
}

TEST(AdamW, AMissingGradientCountsAsZeros) {
  const std::vector<at::Tensor> parameters = leaves();
  AdamW optimizer(parameters, {});
  const at::Tensor before = parameters[1].detach().clone();
  parameters[0].mutable_grad() = at::ones_like(parameters[0]).detach();
  optimizer.step(0.1);
  EXPECT_TRUE(at::equal(parameters[1], before));
}

TEST(AdamW, RefusesWhatItCannotTrain) {
  EXPECT_THROW(AdamW({}, {}), Error);
  EXPECT_THROW(AdamW({at::zeros({2})}, {}), Error);
  EXPECT_THROW(AdamW({at::zeros({2}, at::kBFloat16).set_requires_grad(true)}, {}), Error);
}

}  // namespace
}  // namespace cepe
