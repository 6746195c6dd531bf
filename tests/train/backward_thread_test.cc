#include "train/backward_thread.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/custom_function.h>

#include "base/error.h"

namespace cepe {
namespace {

// Its gradient fails.
class Broken : public torch::autograd::Function<Broken> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& x) { return x.sum(); }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*, torch::autograd::variable_list) {
    fail("no gradient today");
  }
};

TEST(BackwardThread, GradientsAreThoseOfOnePassAfterAnother) {
  at::manual_seed(3);
  const at::Tensor data = at::randn({4, 6, 6});
  at::Tensor here = at::randn({6, 6}).requires_grad_(), there = here.detach().clone().requires_grad_();
  const auto loss = [&](const at::Tensor& weight, int64_t i) { return at::matmul(data[i], weight).tanh().sum(); };
  for (int64_t i = 0; i < 4; ++i) loss(here, i).backward();
  {
    BackwardThread thread(at::kCPU);
    for (int64_t i = 0; i < 4; ++i) {
      const at::Tensor next = loss(there, i);
      thread.wait();
      thread.start(next);
    }
    thread.wait();
    thread.wait();  // nothing is under way
  }
  EXPECT_TRUE(at::equal(here.grad(), there.grad()));
}

TEST(BackwardThread, ThrowsWhatThePassThrew) {
  BackwardThread thread(at::kCPU);
  thread.start(Broken::apply(at::ones({2}).requires_grad_()));
  EXPECT_THROW(thread.wait(), Error);
  EXPECT_NO_THROW(thread.wait());
  thread.start(Broken::apply(at::ones({2}).requires_grad_()));  // not asked for: the destructor waits
}

}  // namespace
}  // namespace cepe
