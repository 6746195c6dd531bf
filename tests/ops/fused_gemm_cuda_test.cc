// Products with what follows them as one kernel, against the formulas in float64 on the same bfloat16 inputs.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <vector>

#include "ops/cuda_device.h"
#include "ops/gemm/fused_gemm.h"
#include "ops/gemm/fused_gemm_kernel.h"
#include "ops/ops.h"

namespace cepe {
namespace {

at::Tensor random(at::IntArrayRef sizes, double scale = 1) {
  return (at::randn(sizes, at::TensorOptions().device(at::kCUDA).dtype(at::kFloat)) * scale).to(at::kBFloat16);
}

// Of standard deviation 1 over a row's length.
at::Tensor random_weights(int64_t outputs, int64_t inputs) {
  return random({outputs, inputs}, 1 / std::sqrt(static_cast<double>(inputs)));
}

double error_of(const at::Tensor& found, const at::Tensor& expected) {
  return ((found.to(at::kDouble) - expected).norm() / expected.norm()).item<double>();
}

// The last rounding to bfloat16 alone is 1.66e-3 of the norm; a product that was rounded before what follows has more.
constexpr double kAllowed = 1.75e-3;
double allowed() { return hopper_kernels_run() ? kAllowed : 4e-3; }  // other cards' operations round it

struct Sizes {
  int64_t rows, inputs, outputs;
};

class FusedProductOnDevice : public testing::Test {
 protected:
  void SetUp() override { require_cuda(), at::manual_seed(47); }
};

TEST_F(FusedProductOnDevice, SwigluEqualsTheFormula) {
  for (const Sizes& s :
       {Sizes{256, 64, 128}, {257, 192, 384}, {300, 576, 1536}, {4096, 1024, 512}, {5000, 256, 2048}}) {
    const at::Tensor x = random({s.rows, s.inputs}), gate = random_weights(s.outputs, s.inputs),
                     up = random_weights(s.outputs, s.inputs);
    const auto product = [&](const at::Tensor& w) { return at::linear(x.to(at::kDouble), w.to(at::kDouble)); };
    const at::Tensor expected = at::silu(product(gate)) * product(up), found = swiglu_gemm(x, gate, up);
    EXPECT_EQ(found.sizes(), expected.sizes());
    EXPECT_LT(error_of(found, expected), allowed()) << s.rows << " x " << s.inputs << " -> " << s.outputs;
    // No row is left out and none is another's: the worst one, too.
    const at::Tensor worst = ((found.to(at::kDouble) - expected).norm(2, 1) / expected.norm(2, 1)).max();
    EXPECT_LT(worst.item<double>(), hopper_kernels_run() ? 3e-3 : 1e-2)
        << s.rows << " x " << s.inputs << " -> " << s.outputs;
    EXPECT_TRUE(at::equal(found, swiglu_gemm(x, gate, up)));
  }
}

TEST_F(FusedProductOnDevice, NothingIsWrittenOutsideOfTheResult) {
  if (!hopper_kernels_run()) GTEST_SKIP() << "the kernel is for Hopper";
  const at::Tensor x = random({300, 128}), w = random({128, 128});
  const at::Tensor expected = swiglu_gemm(x, w, w);
  const at::Tensor out = at::full({900, 128}, 7, x.options());
  fused_gemm_kernel::SwigluArgs args{};
  args.x = x.const_data_ptr(), args.gate = args.up = w.const_data_ptr(), args.out = out[300].mutable_data_ptr();
  args.rows = 300, args.inputs = args.outputs = 128;
  fused_gemm_kernel::swiglu_gemm(args, at::cuda::getCurrentCUDAStream().stream());
  EXPECT_TRUE(at::equal(out.narrow(0, 300, 300), expected));
  EXPECT_TRUE((out.narrow(0, 0, 300) == 7).all().item<bool>());
  EXPECT_TRUE((out.narrow(0, 600, 300) == 7).all().item<bool>());
  // A row that is not a number spoils itself alone.
  const at::Tensor damaged = x.clone();
  damaged[255].fill_(NAN);
  const at::Tensor found = swiglu_gemm(damaged, w, w);
  EXPECT_TRUE(found[255].isnan().all().item<bool>());
  EXPECT_TRUE(at::equal(found.narrow(0, 256, 44), expected.narrow(0, 256, 44)));
  EXPECT_TRUE(at::equal(found.narrow(0, 0, 255), expected.narrow(0, 0, 255)));
}

struct Heads {
  int64_t batch, tokens, inputs, heads, kv_heads, size, first;
};

TEST_F(FusedProductOnDevice, RotaryEqualsTheFormula) {
  for (const Heads& s : {Heads{2, 256, 1024, 16, 16, 64, 0},
                         {1, 300, 192, 8, 2, 64, 5},
                         {3, 100, 64, 4, 2, 128, 17},
                         {1, 2700, 512, 32, 32, 128, 0},
                         {1, 260, 256, 32, 8, 128, 3},
                         {300, 1, 64, 4, 4, 64, 9}}) {
    const at::Tensor x = random({s.batch, s.tokens, s.inputs});
    const auto weights = [&](int64_t heads) { return random_weights(heads * s.size, s.inputs); };
    const at::Tensor q = weights(s.heads), k = weights(s.kv_heads), v = weights(s.kv_heads);
    const at::Tensor angles = at::randn({s.first + s.tokens, s.size / 2}, x.options().dtype(at::kFloat));
    const RotaryTable table{angles.cos(), angles.sin()};
    const RotaryTable exact{table.cos.to(at::kDouble), table.sin.to(at::kDouble)};
    const auto product = [&](const at::Tensor& w) {
      return at::linear(x.to(at::kDouble), w.to(at::kDouble)).view({s.batch, s.tokens, -1, s.size});
    };
    const RotaryGemm found = rotary_gemm(x, {q, k, v}, table, s.first);
    EXPECT_LT(error_of(found.q_BTHK, rotary(product(q), exact, s.first)), allowed());
    EXPECT_LT(error_of(found.k_BTGK, rotary(product(k), exact, s.first)), allowed());
    EXPECT_LT(error_of(found.v_BTGK, product(v)), allowed());
    EXPECT_EQ(found.k_BTGK.size(2), s.kv_heads);
  }
}

// Sizes that the kernel is not made for, few rows and wanted gradients go through the operations one after another.
TEST_F(FusedProductOnDevice, OtherSizesAndGradientsAreServed) {
  for (const Sizes& s : {Sizes{300, 72, 128}, {300, 64, 96}, {3, 64, 128}, {1, 4096, 256}}) {
    const at::Tensor x = random({s.rows, s.inputs});
    const at::Tensor gate = random({s.outputs, s.inputs}), up = random({s.outputs, s.inputs});
    const auto product = [&](const at::Tensor& w) { return at::linear(x.to(at::kDouble), w.to(at::kDouble)); };
    EXPECT_LT(error_of(swiglu_gemm(x, gate, up), at::silu(product(gate)) * product(up)), 5e-3);
  }
  const at::Tensor x = random({300, 64}), gate = random({128, 64}).requires_grad_(), up = random({128, 64});
  const at::Tensor sum = swiglu_gemm(x, gate, up).sum();
  EXPECT_GT(torch::autograd::grad({sum}, {gate})[0].norm().item<double>(), 0);
}

}  // namespace
}  // namespace cepe
