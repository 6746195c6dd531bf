// The CUDA kernels of attention mass against the formula in float64: widths, rows, ragged chunks, masks, 8 bits.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "ops/attention_mass/attention_mass.h"
#include "ops/attention_mass/attention_mass_cuda.h"
#include "ops/attention_mass_formula.h"
#include "ops/cuda_device.h"
#include "ops/latent/latent_int8.h"

namespace cepe {
namespace {

struct Case {
  int64_t batch, rows, width, contexts;
  std::vector<int64_t> lengths;
  bool masked;
  double spread;
};

std::vector<int64_t> ragged(int64_t count, int64_t longest) {
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < count; ++i) lengths.push_back(1 + i * 7919 % longest);
  return lengths;
}

class CudaAttentionMass : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    require_cuda();
    at::manual_seed(4);
  }
};

TEST_P(CudaAttentionMass, EqualsTheFormula) {
  const Case c = GetParam();
  const auto options = at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);
  const ChunkBounds chunks(c.lengths, at::Device(at::kCUDA));
  const int64_t S = chunks.tokens();
  const at::Tensor query = at::randn({c.batch, c.rows, c.width}, options),
                   states = at::randn({c.contexts, S, c.width}, options);
  at::Tensor mask;
  if (c.masked) {
    mask = at::rand({c.contexts, S}, at::TensorOptions().device(at::kCUDA)) < 0.6;
    mask[0].narrow(0, 0, S / 2).fill_(false);
    if (c.contexts > 1) mask[1].fill_(false);
  }
  const double scale = c.spread / std::sqrt(static_cast<double>(c.width));
  ASSERT_EQ(cuda_attention_mass_applies(query, states), hopper_kernels_run());
  const at::Tensor found = attention_mass(query, {states, mask}, chunks, scale);
  const at::Tensor expected = mass_formula(query, states, mask, c.lengths, scale);
  const double error = (found.to(at::kDouble) - expected).norm().item<double>() / expected.norm().item<double>();
  EXPECT_LE(error, 2e-5);
  EXPECT_TRUE(at::equal(found, attention_mass(query, {states, mask}, chunks, scale))) << "the same again";

  const Int8States narrow = quantize_states(states);
  const at::Tensor eight = attention_mass(query, {narrow.values, mask, narrow.scales}, chunks, scale);
  // The kernel's are widened to bfloat16 on the way, which moves the scores.
  const at::ScalarType type = hopper_kernels_run() ? at::kBFloat16 : at::kFloat;
  const at::Tensor wide = mass_formula(query, dequantize_states(narrow, type), mask, c.lengths, scale);
  const double eight_error = (eight.to(at::kDouble) - wide).norm().item<double>() / wide.norm().item<double>();
  EXPECT_LE(eight_error, 2e-5);
  fmt::print("{} x {} rows, {} chunks of {} tokens, width {}: {:.1e} of the norm, 8 bits {:.1e}\n", c.batch, c.rows,
             chunks.count(), S, c.width, error, eight_error);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, CudaAttentionMass,
    testing::Values(Case{1, 32, 1024, 1, std::vector<int64_t>(496, 256), false, 2},
                    Case{1, 9, 576, 1, ragged(100, 256), false, 2}, Case{3, 9, 576, 3, ragged(31, 300), true, 2},
                    Case{4, 32, 1024, 1, ragged(77, 256), true, 4}, Case{1, 1, 64, 1, {1}, false, 1},
                    Case{2, 5, 128, 2, {64, 64, 65, 63, 1}, true, 1}, Case{1, 16, 384, 1, {70000, 5}, false, 8},
                    Case{1, 100, 768, 1, ragged(40, 128), false, 2}, Case{1, 8, 960, 1, ragged(9, 1000), true, 3}));

TEST(CudaAttentionMassEdges, StatesThatAreNoNumbersDoNotPassForNone) {
  require_cuda();
  const auto options = at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);
  const at::Tensor query = at::ones({1, 3, 64}, options), states = at::zeros({1, 300, 64}, options);
  const ChunkBounds chunks({100, 200}, at::Device(at::kCUDA));
  const at::Tensor even = attention_mass(query, {states}, chunks, 1.0);
  EXPECT_TRUE(at::allclose(even[0][0].cpu(), at::tensor({1.0f / 3, 2.0f / 3})));
  states[0][150][3] = NAN;
  EXPECT_TRUE(attention_mass(query, {states}, chunks, 1.0).isnan().all().item<bool>());
}

}  // namespace
}  // namespace cepe
