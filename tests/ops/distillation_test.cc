// Distillation losses against their definitions, written out in float64: top-k with plain loops and differences, the
// whole vocabulary with LibTorch's autograd. `cepe verify` compares top-k with the published code besides.
#include "ops/distillation.h"

#include <ATen/ATen.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <functional>
#include <memory>
#include <vector>

#include "base/error.h"
#include "base/error_of.h"

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

// Summed over the rows, each with its weight.
double expected(const std::vector<Row>& logits, const std::vector<Row>& teacher, const DistillMode& mode,
                const Row& weights) {
  double total = 0;
  for (size_t i = 0; i < teacher.size(); ++i) total += weights[i] * divergence(logits[i], teacher[i], mode);
  return total;
}

at::Tensor tensor_of(const std::vector<Row>& rows, at::ScalarType type) {
  const int64_t n = static_cast<int64_t>(rows.size()), width = static_cast<int64_t>(rows[0].size());
  at::Tensor out = at::empty({n, width}, at::kDouble);
  for (int64_t i = 0; i < n; ++i) std::copy(rows[i].begin(), rows[i].end(), out.data_ptr<double>() + i * width);
  return out.to(type);
}

// The head is the identity: hidden states are logits.
at::Tensor top_k_sum(const at::Tensor& logits, const std::vector<Row>& teacher, const DistillMode& mode,
                     const DistillationRows& rows) {
  const int64_t k = static_cast<int64_t>(teacher[0].size()) - 1, n = static_cast<int64_t>(teacher.size());
  const TeacherTopK top{tensor_of(teacher, logits.scalar_type()), at::arange(k).expand({n, k})};
  return linear_top_k_distillation_sum(logits, at::eye(logits.size(1), logits.options().requires_grad(false)), top,
                                       mode, rows);
}

const std::vector<DistillMode> kModes = {{true, 0.0}, {false, 0.0}, {false, 1e-3}};

void compare(std::vector<Row> logits, const std::vector<Row>& teacher, at::ScalarType type, double tolerance) {
  const Row weights{1.0, 0.25, 3.0};
  const DistillationRows rows{.weight_N = at::tensor(weights).narrow(0, 0, logits.size()).to(at::kFloat),
                              .block_rows = 2};
  for (const DistillMode& mode : kModes) {
    const at::Tensor x = tensor_of(logits, type).requires_grad_(true);
    const at::Tensor loss = top_k_sum(x, teacher, mode, rows);
    const double right = expected(logits, teacher, mode, weights);
    EXPECT_NEAR(loss.item<double>(), right, tolerance * std::max(1.0, std::abs(right))) << mode.drop << mode.smooth;
    const at::Tensor gradient = torch::autograd::grad({loss * 2}, {x})[0].to(at::kDouble) / 2;
    for (size_t i = 0; i < logits.size(); ++i) {
      for (size_t v = 0; v < logits[i].size(); ++v) {
        const double step = 1e-5, at = logits[i][v];
        logits[i][v] = at + step;
        const double above = expected(logits, teacher, mode, weights);
        logits[i][v] = at - step;
        const double below = expected(logits, teacher, mode, weights);
        logits[i][v] = at;
        const double found = gradient[static_cast<int64_t>(i)][static_cast<int64_t>(v)].item<double>();
        EXPECT_NEAR(found, (above - below) / (2 * step), std::max(tolerance, 1e-6)) << i << " " << v;
      }
    }
  }
}

const std::vector<Row> kLogits = {{0.5, -1, 2, 0.1, 1}, {1, 1, -3, 0.4, 0}, {-2, 0.3, 0.2, 0, 4}};

TEST(TopKDistillation, FollowsItsDefinition) {
  const std::vector<Row> teacher = {{0.5, 0.2, 0.1, 0.2}, {0.9, 0.05, 0.03, 0.02}, {0.4, 0.3, 0.2, 0.1}};
  compare(kLogits, teacher, at::kDouble, 1e-12);
  compare(kLogits, teacher, at::kFloat, 1e-6);
}

TEST(TopKDistillation, AClassWithoutProbabilityCostsNothing) {
  const std::vector<Row> teacher = {{1, 0, 0, 0}, {0.6, 0.4, 0, 0}, {0.5, 0, 0.2, 0.3}};
  compare(kLogits, teacher, at::kDouble, 1e-12);
  compare(kLogits, teacher, at::kFloat, 1e-6);
}

// In float32 exp(-200) is 0, and the sum of the first tokens' probabilities rounds to 1 or above.
TEST(TopKDistillation, AStudentsProbabilityMayRoundToNothing) {
  const std::vector<Row> logits = {{0, -200, -1, -150, -150}, {-200, 0, 0.3, -120, -130}};
  compare(logits, {{0.5, 0, 0.5, 0}, {0, 0.4, 0.6, 0}}, at::kFloat, 1e-6);
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    const std::vector<Row> teacher = {{0.4, 0.2, 0.3, 0.1}, {0.2, 0.3, 0.4, 0.1}};
    for (const DistillMode& mode : {kModes[0], kModes[1]}) {
      const double right = expected(logits, teacher, mode, {1, 1});
      EXPECT_NEAR(top_k_sum(tensor_of(logits, type), teacher, mode, {}).item<double>(), right, 1e-6 * right);
    }
  }
}

at::Tensor random(at::IntArrayRef shape) { return at::randn(shape, at::kDouble); }

TEST(TopKDistillation, TheTeachersTokensAreItsMostLikely) {
  at::manual_seed(3);
  const at::Tensor teacher = random({7, 4}), head = random({23, 4});
  const at::Tensor p = (at::linear(teacher, head) / 1.5).softmax(-1);
  const auto [sorted, order] = p.sort(-1, /*descending=*/true);
  const TeacherTopK top = linear_top_k(teacher, head, 5, {.temperature = 1.5, .block_rows = 3});
  EXPECT_TRUE(top.index_NK.equal(order.narrow(1, 0, 5)));
  EXPECT_TRUE(top.prob_NK1.narrow(1, 0, 5).allclose(sorted.narrow(1, 0, 5), 1e-12, 1e-14));
  EXPECT_TRUE(top.prob_NK1.select(1, 5).allclose(sorted.narrow(1, 5, 18).sum(-1), 1e-12, 1e-14));
}

// With all tokens but one among the teacher's, the rest is that token, and the divergence the whole one.
TEST(TopKDistillation, AllButOneTokenAreTheWholeDivergence) {
  at::manual_seed(4);
  const at::Tensor student = random({6, 4}), teacher = random({6, 4}), head = random({9, 4});
  const auto with_gradient = [&](const std::function<at::Tensor(const at::Tensor&)>& sum) {
    const at::Tensor x = student.clone().requires_grad_(true), loss = sum(x);
    return at::cat({loss.detach().view(1), torch::autograd::grad({loss}, {x})[0].view(-1)});
  };
  const DistillationRows rows{.temperature = 2, .block_rows = 4};
  const at::Tensor whole =
      with_gradient([&](const at::Tensor& x) { return linear_distillation_sum(x, teacher, head, rows); });
  const at::Tensor top = with_gradient([&](const at::Tensor& x) {
    return linear_top_k_distillation_sum(x, head, linear_top_k(teacher, head, 8, rows), {false, 0.0}, rows);
  });
  EXPECT_TRUE(top.allclose(whole, 1e-10, 1e-12));
}

struct Sizes {
  int64_t rows, block;
};

// 600 rows make more than one block of the CPU's own size.
TEST(Distillation, MatchesAutogradOfTheFormula) {
  for (const Sizes& sizes : {Sizes{1, 0}, Sizes{7, 3}, Sizes{8, 2}, Sizes{600, 0}}) {
    at::manual_seed(sizes.rows);
    const int64_t n = sizes.rows;
    const at::Tensor student = random({n, 6}), teacher = random({n, 6}), head = random({19, 6}), weight = at::rand({n});
    for (const double temperature : {1.0, 0.7}) {
      const at::Tensor x = student.clone().requires_grad_(true);
      const at::Tensor log_q = (at::linear(x, head) / temperature).log_softmax(-1);
      const at::Tensor log_p = (at::linear(teacher, head) / temperature).log_softmax(-1);
      const at::Tensor formula = ((log_p.exp() * (log_p - log_q)).sum(-1) * weight).sum();
      const at::Tensor right = torch::autograd::grad({formula}, {x})[0];
      for (const at::ScalarType type : {at::kDouble, at::kFloat, at::kBFloat16}) {
        const double tolerance = type == at::kDouble ? 1e-11 : type == at::kFloat ? 2e-5 : 4e-2;
        const at::Tensor y = student.to(type).detach().requires_grad_(true);
        const at::Tensor sum =
            linear_distillation_sum(y, teacher.to(type), head.to(type), {weight, temperature, sizes.block});
        EXPECT_EQ(sum.scalar_type(), type == at::kDouble ? at::kDouble : at::kFloat);
        EXPECT_NEAR(sum.item<double>(), formula.item<double>(), tolerance * formula.item<double>());
        const at::Tensor grad = torch::autograd::grad({sum * 0.5}, {y})[0].to(at::kDouble) * 2;
        EXPECT_LT((grad - right).norm().item<double>(), tolerance * right.norm().item<double>()) << n << " " << type;
      }
    }
  }
}

// 1 / 3 rounded to bfloat16 is 0.2 % off: most elements would round to another value.
TEST(Distillation, AFactorIsNotRoundedToTheGradientsType) {
  at::manual_seed(4);
  const at::Tensor head = random({19, 6}).to(at::kBFloat16), teacher = random({40, 6}).to(at::kBFloat16);
  const at::Tensor x = random({40, 6}).to(at::kBFloat16).requires_grad_(true);
  const auto gradient = [&](double factor) {
    return torch::autograd::grad({linear_distillation_sum(x, teacher, head) * factor}, {x})[0];
  };
  const at::Tensor right = (gradient(1).to(at::kFloat) * (1.0f / 3)).to(at::kBFloat16);
  EXPECT_TRUE(at::equal(gradient(1.0 / 3), right));
  EXPECT_EQ(right.scalar_type(), at::kBFloat16);
}

TEST(Distillation, TheTeacherGetsNoGradient) {
  const at::Tensor student = random({3, 4}).requires_grad_(true), teacher = random({3, 4}).requires_grad_(true);
  const at::Tensor loss = linear_distillation_sum(student, teacher, random({5, 4}));
  EXPECT_FALSE(torch::autograd::grad({loss}, {student, teacher}, {}, {}, false, /*allow_unused=*/true)[1].defined());
  const at::Tensor itself = student.detach().requires_grad_(true);
  const at::Tensor zero = linear_distillation_sum(itself, itself, random({5, 4}));
  EXPECT_NEAR(zero.item<double>(), 0, 1e-12);
  EXPECT_LT(torch::autograd::grad({zero}, {itself})[0].abs().max().item<double>(), 1e-12);
}

// Sees every allocation of LibTorch on this thread.
class Allocations : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, int64_t bytes, size_t, size_t, c10::Device) override {
    largest = std::max(largest, bytes);
    held += bytes;
    peak = std::max(peak, held);
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t largest = 0, held = 0, peak = 0;
};

// 4000 x 500 logits of float32 would be 8 MB; a block of 16 rows has 32 kB, a gradient of hidden states 128 kB.
TEST(Distillation, NoTensorIsLargerThanABlock) {
  const int64_t rows = 4000, width = 8, vocabulary = 500, block = 16;
  const at::Tensor teacher = at::randn({rows, width}), head = at::randn({vocabulary, width});
  const at::Tensor student = at::randn({rows, width}).requires_grad_(true);
  const DistillationRows options{.block_rows = block};
  const TeacherTopK top = linear_top_k(teacher, head, 5, options);
  const auto measured = [&](const std::function<at::Tensor()>& sum) {
    const auto seen = std::make_shared<Allocations>();
    const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, seen);
    const at::Tensor gradient = torch::autograd::grad({sum()}, {student})[0];
    return seen;
  };
  const int64_t block_bytes = block * vocabulary * 4, hidden_bytes = rows * width * 4;
  for (const auto& seen :
       {measured([&] { return linear_distillation_sum(student, teacher, head, options); }),
        measured([&] { return linear_top_k_distillation_sum(student, head, top, {}, options); }),
        measured([&] { return linear_top_k_distillation_sum(student, head, top, {false, 1e-3}, options); })}) {
    EXPECT_EQ(seen->largest, hidden_bytes);
    EXPECT_LE(seen->peak, 2 * hidden_bytes + 6 * block_bytes);
  }
  const auto found = std::make_shared<Allocations>();
  {
    const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, found);
    linear_top_k(teacher, head, 5, options);
  }
  EXPECT_LE(found->largest, rows * 5 * 8);  // the tokens found
}

TEST(Distillation, NamesOfModes) {
  EXPECT_TRUE(distill_mode_from_name("drop", "key").drop);
  for (const auto& [name, smooth] : {std::pair("smooth_0", 0.0), std::pair("smooth_1e-6", 1e-6)}) {
    const DistillMode mode = distill_mode_from_name(name, "key");
    EXPECT_FALSE(mode.drop);
    EXPECT_EQ(mode.smooth, smooth);
  }
  for (const char* name : {"", "Drop", "smooth", "smooth_", "smooth_x", "smooth_1x", "smooth_-1", "smooth_inf", "1"}) {
    EXPECT_THROW(distill_mode_from_name(name, "key"), Error) << name;
  }
}

TEST(Distillation, RefusesWhatItCannotDo) {
  const at::Tensor student = random({3, 4}), teacher = random({3, 4}), head = random({5, 4});
  EXPECT_THROW(linear_distillation_sum(student, teacher.narrow(0, 0, 2), head), Error);
  EXPECT_THROW(linear_distillation_sum(student.narrow(0, 0, 0), teacher.narrow(0, 0, 0), head), Error);
  EXPECT_THROW(linear_distillation_sum(student, teacher, head.clone().requires_grad_(true)), Error);
  EXPECT_THROW(linear_distillation_sum(student, teacher, head, {.weight_N = at::ones({2})}), Error);
  const at::Tensor wide = at::ones({3}, at::kDouble);
  const auto refusal = [&](const at::Tensor& x, const at::Tensor& y, const DistillationRows& rows) {
    return error_of([&] { linear_distillation_sum(x, y, head, rows); });
  };
  EXPECT_NE(refusal(student, teacher, {.weight_N = wide}).find("weights in float32, found Double"), std::string::npos);
  EXPECT_NE(refusal(student[0], teacher, {}).find("should be a matrix, found 1 dimensions"), std::string::npos);
  EXPECT_NE(refusal(student, teacher[0], {}).find("teacher's hidden states should be a matrix"), std::string::npos);
  EXPECT_THROW(linear_distillation_sum(student, teacher, head, {.temperature = 0}), Error);
  EXPECT_THROW(linear_top_k(teacher, head, 5), Error);
  EXPECT_THROW(linear_top_k(teacher, head, 0), Error);
  const TeacherTopK top = linear_top_k(teacher, head, 2);
  EXPECT_THROW(linear_top_k_distillation_sum(student.narrow(0, 0, 2), head, top, {}), Error);
  EXPECT_THROW(linear_top_k_distillation_sum(student, head, {top.prob_NK1.narrow(1, 0, 2), top.index_NK}, {}), Error);
  EXPECT_THROW(linear_top_k_distillation_sum(student, head, top, {false, -1.0}), Error);
}

}  // namespace
}  // namespace cepe
