// The distillation loss against the definition, written out in float64 with plain loops.
#include "model/loss.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

namespace cepe {
namespace {

using Row = std::vector<double>;

// KL of one position: sum of p log(p / q) over the classes, 0 log 0 = 0. logits of all tokens; the teacher's classes
// are tokens 0 .. k - 1, then the rest.
double divergence(const Row& logits, const Row& teacher, const DistillMode& mode) {
  const size_t k = teacher.size() - 1;
  double largest = logits[0], sum = 0, rest = 0;
  for (double logit : logits) largest = std::max(largest, logit);
  for (double logit : logits) sum += std::exp(logit - largest);
  for (size_t v = k; v < logits.size(); ++v) rest += std::exp(logits[v] - largest);
  const double log_sum = largest + std::log(sum);
  Row p, log_q;
  for (size_t c = 0; c < k; ++c) p.push_back(teacher[c]), log_q.push_back(logits[c] - log_sum);
  if (!mode.drop) {
    p.push_back(teacher[k]);
    log_q.push_back(largest + std::log(rest) - log_sum);
    double p_sum = 0, q_sum = 0;
    for (size_t c = 0; c <= k; ++c) p_sum += p[c] += mode.smooth, q_sum += std::exp(log_q[c]) + mode.smooth;
    for (size_t c = 0; c <= k; ++c) {
      p[c] /= p_sum;
      if (mode.smooth > 0) log_q[c] = std::log((std::exp(log_q[c]) + mode.smooth) / q_sum);
    }
  }
  double total = 0;
  for (size_t c = 0; c < p.size(); ++c) {
    if (p[c] > 0) total += p[c] * (std::log(p[c]) - log_q[c]);
  }
  return total;
}

// Of the last rows of a batch of one: mean over the teacher's positions.
double expected(const std::vector<Row>& logits, const std::vector<Row>& teacher, const DistillMode& mode) {
  double total = 0;
  const size_t before = logits.size() - teacher.size();
  for (size_t i = 0; i < teacher.size(); ++i) total += divergence(logits[before + i], teacher[i], mode);
  return total / static_cast<double>(teacher.size());
}

at::Tensor tensor_of(const std::vector<Row>& rows, at::ScalarType type) {
  const int64_t n = static_cast<int64_t>(rows.size()), width = static_cast<int64_t>(rows[0].size());
  at::Tensor out = at::empty({1, n, width}, at::kDouble);
  for (int64_t i = 0; i < n; ++i) std::copy(rows[i].begin(), rows[i].end(), out.data_ptr<double>() + i * width);
  return out.to(type);
}

const std::vector<DistillMode> kModes = {{true, 0.0}, {false, 0.0}, {false, 1e-3}};

void compare(std::vector<Row> logits, const std::vector<Row>& teacher, at::ScalarType type, double tolerance) {
  const int64_t k = static_cast<int64_t>(teacher[0].size()) - 1, P = static_cast<int64_t>(teacher.size());
  const TeacherTopK top{tensor_of(teacher, type), at::arange(k).expand({1, P, k}).contiguous()};
  for (const DistillMode& mode : kModes) {
    const at::Tensor x = tensor_of(logits, type).requires_grad_(true);
    const at::Tensor loss = distill_loss(x, top, mode);
    const double right = expected(logits, teacher, mode);
    EXPECT_NEAR(loss.item<double>(), right, tolerance * std::max(1.0, std::abs(right))) << mode.drop << mode.smooth;
    loss.backward();
    const at::Tensor gradient = x.grad().to(at::kDouble).squeeze(0);
    for (size_t i = 0; i < logits.size(); ++i) {
      for (size_t v = 0; v < logits[i].size(); ++v) {
        const double step = 1e-5, at = logits[i][v];
        logits[i][v] = at + step;
        const double above = expected(logits, teacher, mode);
        logits[i][v] = at - step;
        const double below = expected(logits, teacher, mode);
        logits[i][v] = at;
        const double found = gradient[static_cast<int64_t>(i)][static_cast<int64_t>(v)].item<double>();
        EXPECT_NEAR(found, (above - below) / (2 * step), std::max(tolerance, 1e-6)) << i << " " << v;
      }
    }
  }
}

const std::vector<Row> kLogits = {{5, 1, 0, 2, 3}, {0.5, -1, 2, 0.1, 1}, {1, 1, -3, 0.4, 0}, {-2, 0.3, 0.2, 0, 4}};

TEST(DistillLoss, FollowsItsDefinition) {
  const std::vector<Row> teacher = {{0.5, 0.2, 0.1, 0.2}, {0.9, 0.05, 0.03, 0.02}, {0.4, 0.3, 0.2, 0.1}};
  compare(kLogits, teacher, at::kDouble, 1e-12);
  compare(kLogits, teacher, at::kFloat, 1e-6);
}

TEST(DistillLoss, AClassWithoutProbabilityCostsNothing) {
  const std::vector<Row> teacher = {{1, 0, 0, 0}, {0.6, 0.4, 0, 0}, {0.5, 0, 0.2, 0.3}};
  compare(kLogits, teacher, at::kDouble, 1e-12);
  compare(kLogits, teacher, at::kFloat, 1e-6);
}

// In float32 exp(-200) is 0, and the sum of the first tokens' probabilities rounds to 1 or above.
TEST(DistillLoss, AStudentsProbabilityMayRoundToNothing) {
  const std::vector<Row> logits = {{0, -200, -1, -150, -150}, {-200, 0, 0.3, -120, -130}};
  compare(logits, {{0.5, 0, 0.5, 0}, {0, 0.4, 0.6, 0}}, at::kFloat, 1e-6);
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    const DistillMode drop{true, 0.0}, rest{false, 0.0};
    const std::vector<Row> teacher = {{0.4, 0.2, 0.3, 0.1}, {0.2, 0.3, 0.4, 0.1}};
    const TeacherTopK top{tensor_of(teacher, type), at::arange(3).expand({1, 2, 3}).contiguous()};
    for (const DistillMode& mode : {drop, rest}) {
      const double right = expected(logits, teacher, mode);
      EXPECT_NEAR(distill_loss(tensor_of(logits, type), top, mode).item<double>(), right, 1e-6 * right);
    }
  }
}

}  // namespace
}  // namespace cepe
