// Distillation losses on a GPU, in bfloat16 and over several blocks of rows, against the CPU's in float64.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <functional>
#include <vector>

#include "ops/cuda_device.h"
#include "ops/distillation.h"

namespace cepe {
namespace {

using Sum = std::function<at::Tensor(const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& head)>;

// Loss, and its gradient by the student's hidden states, as float64 on the CPU.
struct LossAndGradient {
  double loss;
  at::Tensor gradient;
};
LossAndGradient run(const Sum& sum, const std::vector<at::Tensor>& in) {
  const at::Tensor student = in[0].detach().requires_grad_(true), loss = sum(student, in[1], in[2]);
  return {loss.item<double>(), torch::autograd::grad({loss}, {student})[0].to(at::kCPU, at::kDouble)};
}

TEST(DistillationCuda, AgreesWithTheCpu) {
  require_cuda();
  at::manual_seed(17);
  const int64_t rows = 2048 + 77;  // more than a block
  const at::Tensor weight = at::rand({rows});
  const std::vector<at::Tensor> inputs = {at::randn({rows, 64}), at::randn({rows, 64}), at::randn({1003, 64}) / 8};
  std::vector<at::Tensor> on_gpu, reference;
  for (const at::Tensor& x : inputs) {
    on_gpu.push_back(x.to(at::kCUDA, at::kBFloat16));
    reference.push_back(on_gpu.back().to(at::kCPU, at::kDouble));
  }
  const TeacherTopK top = linear_top_k(reference[1], reference[2], 50);
  std::vector<Sum> sums = {[&](const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& head) {
    return linear_distillation_sum(student, teacher, head, {.weight_N = weight.to(student.device())});
  }};
  for (const DistillMode& mode : {DistillMode{}, DistillMode{false, 0.0}, DistillMode{false, 1e-3}}) {
    sums.push_back([&, mode](const at::Tensor& student, const at::Tensor&, const at::Tensor& head) {
      const TeacherTopK here{top.prob_NK1.to(student.device()), top.index_NK.to(student.device())};
      return linear_top_k_distillation_sum(student, head, here, mode, {.weight_N = weight.to(student.device())});
    });
  }
  for (const Sum& sum : sums) {
    const LossAndGradient found = run(sum, on_gpu), right = run(sum, reference);
    // Logits are rounded to bfloat16 before the softmax, and the gradient after it.
    EXPECT_NEAR(found.loss, right.loss, 1e-2 * std::abs(right.loss));
    EXPECT_LT((found.gradient - right.gradient).norm().item<double>(), 1e-2 * right.gradient.norm().item<double>());
  }
  const TeacherTopK found = linear_top_k(on_gpu[1], on_gpu[2], 50);
  EXPECT_LT((found.prob_NK1.cpu() - top.prob_NK1).norm().item<double>(), 1e-2 * top.prob_NK1.norm().item<double>());
  EXPECT_NEAR(found.prob_NK1.sum(-1).sub(1).abs().max().item<double>(), 0, 1e-5);
}

}  // namespace
}  // namespace cepe
