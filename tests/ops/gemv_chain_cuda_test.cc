// The kernel of products that follow one another against their formulas in float64.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <thread>

#include "ops/chain/gemv_chain_kernel.h"
#include "ops/cuda_device.h"
#include "ops/gemv_chain_formula.h"
#include "ops/step/captured_work.h"

namespace cepe {
namespace {

const auto kOnDevice = at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);

double error_of(const at::Tensor& found, const at::Tensor& expected) {
  const at::Tensor difference = found.cpu().to(at::kDouble).view_as(expected) - expected;
  return (difference.norm() / expected.norm()).item<double>();
}

class CudaGemvChain : public testing::TestWithParam<ChainSizes> {
 protected:
  void SetUp() override {
    require_cuda();
    at::manual_seed(5);
  }
};

// x of a norm is rounded to bfloat16 with the norm's weights, and so is every result.
constexpr double kRounded = 4e-3;

TEST_P(CudaGemvChain, EqualsTheFormulas) {
  const at::NoGradGuard no_gradients;
  const ChainSizes sizes = GetParam();
  const ChainWeights weights = chain_weights(sizes, kOnDevice);
  GemvChain chain;
  double largest = 0;
  for (int again = 0; again < 3; ++again) {  // with the memory of signals as the launches before left it
    const ChainInputs inputs = chain_inputs(sizes, kOnDevice);
    const std::vector<at::Tensor> found = by_chain(chain, sizes, weights, inputs);
    const std::vector<at::Tensor> expected = by_formula(found, sizes, weights, inputs);
    for (size_t i = 0; i < found.size(); ++i) {
      const double error = error_of(found[i], expected[i]);
      EXPECT_LT(error, kRounded) << "product " << i;
      largest = std::max(largest, error);
    }
  }
  fmt::print("{} sequences, width {}, {} / {} heads of {}: {:.2e} of the norm\n", sizes.batch, sizes.width, sizes.heads,
             sizes.kv_heads, sizes.head_dim, largest);
}

TEST_P(CudaGemvChain, GivesTheSameBitsAsAGraph) {
  const at::NoGradGuard no_gradients;
  const ChainSizes sizes = GetParam();
  const ChainWeights weights = chain_weights(sizes, kOnDevice);
  const ChainInputs inputs = chain_inputs(sizes, kOnDevice);
  GemvChain alone;
  std::vector<at::Tensor> last;
  CapturedWork work(at::Device(at::kCUDA, 0), /*graph=*/true, [&] { last = by_chain(alone, sizes, weights, inputs); });
  for (int i = 0; i < 4; ++i) {
    inputs.h.normal_();
    for (int run = i == 0 ? 0 : 1; run < 2; ++run) work.run();  // the first is no graph yet
    GemvChain other;
    const std::vector<at::Tensor> expected = by_chain(other, sizes, weights, inputs);
    for (size_t k = 0; k < expected.size(); ++k)
      EXPECT_TRUE(at::equal(last[k], expected[k])) << "product " << k << ", run " << i;
  }
}

// Llama-2-7B, Llama-3-8B and SmolLM2's sizes; shares within tiles, tiles over many blocks, several heads a matrix.
INSTANTIATE_TEST_SUITE_P(
    Sizes, CudaGemvChain,
    testing::Values(ChainSizes{1, 4096, 32, 32, 128, 1024, 11008, 32000},
                    ChainSizes{2, 4096, 32, 32, 128, 1024, 11008, 500}, ChainSizes{3, 1024, 8, 8, 128, 512, 2816, 64},
                    ChainSizes{4, 2048, 16, 16, 128, 1024, 5632, 77}, ChainSizes{1, 4096, 32, 8, 128, 1024, 14336, 128},
                    ChainSizes{1, 576, 9, 3, 64, 576, 1536, 49152}, ChainSizes{2, 576, 9, 3, 64, 576, 1536, 1},
                    ChainSizes{1, 64, 1, 1, 64, 64, 64, 16}),
    [](const auto& info) {
      return fmt::format("batch{}width{}kv{}", info.param.batch, info.param.width, info.param.kv_heads);
    });

// What only the chain still knows lives until it was started, and a part of a result waits for it.
TEST(CudaGemvChainEdges, TemporariesAndPartsOfResults) {
  require_cuda();
  const at::NoGradGuard no_gradients;
  at::manual_seed(6);
  const at::Tensor x = at::randn({1, 512}, kOnDevice), a = at::randn({1024, 512}, kOnDevice) / 32,
                   b = at::randn({512, 512}, kOnDevice) / 32;
  const at::Tensor whole = gemv(x, a), expected = gemv(gemv(whole.narrow(1, 512, 512), b), a);
  for (int again = 0; again < 3; ++again) {
    GemvChain chain;
    const at::Tensor found = chain.product(chain.product(chain.product(x, a).narrow(1, 512, 512), b), a);
    chain.run();
    EXPECT_LT(error_of(found, expected.cpu().to(at::kDouble)), 8e-3);
  }
  GemvChain chain;
  const at::Tensor forgotten = chain.product(x, a);
  chain.discard();
  const at::Tensor other = chain.product(x, b);
  chain.run();
  EXPECT_LT(error_of(other, gemv(x, b).cpu().to(at::kDouble)), 4e-3);
  EXPECT_THROW(chain.product(x, a.t().contiguous()), Error);
}

// Threads with streams of their own take turns: without, their blocks would wait for each other for ever.
TEST(CudaGemvChainEdges, StreamsTakeTurns) {
  require_cuda();
  const ChainSizes sizes{1, 1024, 8, 8, 128, 512, 2816, 64};
  const ChainWeights weights = chain_weights(sizes, kOnDevice);
  const ChainInputs inputs = chain_inputs(sizes, kOnDevice);
  at::cuda::getCurrentCUDAStream().synchronize();
  std::vector<std::vector<at::Tensor>> found(3);
  std::vector<std::thread> threads;
  for (std::vector<at::Tensor>& mine : found) {
    threads.emplace_back([&] {
      const at::NoGradGuard no_gradients;
      const c10::cuda::CUDAStreamGuard stream(at::cuda::getStreamFromPool());
      GemvChain chain;
      for (int i = 0; i < 100; ++i) {
        const ChainTurn turn(at::Device(at::kCUDA, 0));
        mine = by_chain(chain, sizes, weights, inputs);
      }
      at::cuda::getCurrentCUDAStream().synchronize();
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::vector<at::Tensor> expected = by_formula(found[0], sizes, weights, inputs);
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_LT(error_of(found[0][i], expected[i]), kRounded) << "product " << i;
    for (const auto& other : found) EXPECT_TRUE(at::equal(found[0][i], other[i])) << "product " << i;
  }
}

// The kernel takes what it says, and the rest is computed all the same.
TEST(CudaGemvChainEdges, SizesThatTheKernelIsNotMadeFor) {
  require_cuda();
  const at::NoGradGuard no_gradients;
  gemv_chain_kernel::Args args;
  args.rows = 1, args.count = 1;
  args.products[0].inputs = 72, args.products[0].outputs = 64;
  EXPECT_FALSE(gemv_chain_kernel::fits(args)) << "inputs in whole chunks of 64";
  args.products[0].inputs = 128;
  EXPECT_EQ(gemv_chain_kernel::fits(args), hopper_kernels_run());
  args.rows = 9;
  EXPECT_FALSE(gemv_chain_kernel::fits(args)) << "at most 8 columns";
  for (const ChainSizes& sizes : {ChainSizes{9, 128, 2, 2, 64, 64, 256, 8}, ChainSizes{1, 128, 4, 4, 32, 96, 200, 8}}) {
    const ChainWeights weights = chain_weights(sizes, kOnDevice);
    const ChainInputs inputs = chain_inputs(sizes, kOnDevice);
    GemvChain chain;
    const std::vector<at::Tensor> found = by_chain(chain, sizes, weights, inputs),
                                  expected = by_formula(found, sizes, weights, inputs);
    for (size_t i = 0; i < found.size(); ++i) EXPECT_LT(error_of(found[i], expected[i]), 8e-3) << "product " << i;
  }
}

}  // namespace
}  // namespace cepe
