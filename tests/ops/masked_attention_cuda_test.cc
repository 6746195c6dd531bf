// Sequences all of whose keys are masked, on a GPU: zeros, forward and backward, and numbers everywhere.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>
#include <vector>

#include "ops/cuda_device.h"
#include "ops/ops.h"

namespace cepe {
namespace {

at::TensorOptions on_gpu() { return at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16); }

// Fills the memory that the next allocations of this size will get with not-a-number.
void poison(int64_t elements) {
  std::vector<at::Tensor> held;
  for (int i = 0; i < 8; ++i) held.push_back(at::full({elements}, std::numeric_limits<float>::quiet_NaN(), on_gpu()));
}

TEST(MaskedAttentionCuda, ASequenceWithoutAnyKeyIsZero) {
  require_cuda();
  at::manual_seed(11);
  configure_attention_backends();
  for (const int64_t T : {int64_t{1}, int64_t{70}}) {
    at::Tensor keys_BS = at::rand({3, 200}, on_gpu().dtype(at::kFloat)).lt(0.5);
    keys_BS.select(1, 0).fill_(true);
    keys_BS[1].fill_(false);
    std::vector<at::Tensor> in = {at::randn({3, T, 9, 64}, on_gpu()), at::randn({3, 200, 3, 64}, on_gpu()),
                                  at::randn({3, 200, 3, 64}, on_gpu())};
    for (at::Tensor& x : in) x.requires_grad_(true);
    poison(in[0].numel());
    const at::Tensor out = attention(in[0], in[1], in[2], {false, keys_BS});
    poison(in[0].numel());
    const std::vector<at::Tensor> grads = torch::autograd::grad({out}, in, {at::randn_like(out)});
    EXPECT_EQ(out[1].count_nonzero().item<int64_t>(), 0) << T;
    EXPECT_GT(out[0].count_nonzero().item<int64_t>(), 0) << T;
    for (const at::Tensor& grad : grads) EXPECT_EQ(grad[1].count_nonzero().item<int64_t>(), 0) << T;
    EXPECT_GT(grads[0][0].count_nonzero().item<int64_t>(), 0) << T;
    for (const at::Tensor& found : {out, grads[0], grads[1], grads[2]})
      EXPECT_TRUE(found.isfinite().all().item<bool>()) << T;
  }
}

}  // namespace
}  // namespace cepe
