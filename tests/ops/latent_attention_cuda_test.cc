// Absorbed cross-attention's CUDA kernel against its formula in float64: widths, rows, spans, masks, shared contexts.
// The tolerance is what rounding the result to bfloat16 leaves, and a weight's.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <utility>

#include "ops/cuda_device.h"
#include "ops/latent/latent_attention.h"
#include "ops/latent/latent_attention_cuda.h"
#include "ops/latent/latent_int8.h"

namespace cepe {
namespace {

struct Case {
  int64_t batch, rows, tokens, width, contexts;
  bool masked;
  double spread;  // of the scores, in e-folds
};

at::Tensor formula(const at::Tensor& query, const at::Tensor& states, const at::Tensor& mask, double scale) {
  const at::Tensor wide = states.to(at::kDouble).expand({query.size(0), states.size(1), states.size(2)});
  at::Tensor scores = at::bmm(query.to(at::kDouble), wide.transpose(1, 2)) * scale;
  if (mask.defined()) scores = scores.masked_fill(mask.logical_not().unsqueeze(1), -INFINITY);
  return at::bmm(scores.softmax(-1).nan_to_num(0.0), wide);
}

class OnCuda : public testing::Test {
 protected:
  void SetUp() override {
    require_cuda();
    at::manual_seed(3);
  }
};
class CudaLatentAttention : public OnCuda, public testing::WithParamInterface<Case> {};

TEST_P(CudaLatentAttention, EqualsTheFormula) {
  const Case c = GetParam();
  const auto options = at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);
  const at::Tensor query = at::randn({c.batch, c.rows, c.width}, options);
  const at::Tensor states = at::randn({c.contexts, c.tokens, c.width}, options);
  at::Tensor mask;
  if (c.masked) {
    mask = at::rand({c.contexts, c.tokens}, at::TensorOptions().device(at::kCUDA)) < 0.6;
    mask[0].narrow(0, 0, c.tokens / 2).fill_(false);  // whole spans without a real token
    if (c.contexts > 1) mask[1].fill_(false);         // a context of padding alone
  }
  const double scale = c.spread / std::sqrt(static_cast<double>(c.width));
  ASSERT_TRUE(cuda_latent_attention_applies(query, states));
  const at::Tensor expected = formula(query, states, mask, scale);
  for (const CudaLatentForm form :
       {CudaLatentForm::one_pass, CudaLatentForm::any_gpu, CudaLatentForm::products, CudaLatentForm::automatic}) {
    const at::Tensor found = cuda_latent_attention(query, {states, mask}, scale, form);
    const double error = (found.to(at::kDouble) - expected).norm().item<double>() / expected.norm().item<double>();
    EXPECT_LE(error, 4e-3) << static_cast<int>(form);
    EXPECT_TRUE(at::equal(found, cuda_latent_attention(query, {states, mask}, scale, form))) << "the same again";
    fmt::print("{} x {} rows, {} tokens, width {}: {:.2e} of the norm\n", c.batch, c.rows, c.tokens, c.width, error);
  }
}

// The same in 8 bits, against the formula on the states that the bytes stand for. Tokens of very different scales.
TEST_P(CudaLatentAttention, EightBitsEqualTheFormula) {
  const Case c = GetParam();
  const auto options = at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);
  const at::Tensor query = at::randn({c.batch, c.rows, c.width}, options);
  const at::Tensor sizes = at::randn({c.contexts, c.tokens, 1}, options).exp();
  const Int8States states = quantize_states(at::randn({c.contexts, c.tokens, c.width}, options) * sizes);
  at::Tensor mask;
  if (c.masked) {
    mask = at::rand({c.contexts, c.tokens}, at::TensorOptions().device(at::kCUDA)) < 0.6;
    mask[0].narrow(0, 0, c.tokens / 2).fill_(false);
    if (c.contexts > 1) mask[1].fill_(false);
  }
  const double scale = c.spread / std::sqrt(static_cast<double>(c.width)) / 3;
  const LatentStates context{states.values, mask, states.scales};
  ASSERT_TRUE(cuda_latent_attention_applies(query, states.values));
  const at::Tensor expected = formula(query, dequantize_states(states, at::kDouble), mask, scale);
  // The products round the states to bfloat16 first, which also moves the scores.
  for (const auto& [form, tolerance] : {std::pair{CudaLatentForm::one_pass, 4e-3},
                                        {CudaLatentForm::any_gpu, 4e-3},
                                        {CudaLatentForm::products, 3e-2},
                                        {CudaLatentForm::automatic, 3e-2}}) {
    const at::Tensor found = cuda_latent_attention(query, context, scale, form);
    const double error = (found.to(at::kDouble) - expected).norm().item<double>() / expected.norm().item<double>();
    EXPECT_LE(error, tolerance) << static_cast<int>(form);
    EXPECT_TRUE(at::equal(found, cuda_latent_attention(query, context, scale, form))) << "the same again";
    fmt::print("8 bits, form {}, {} x {} rows, {} tokens, width {}: {:.2e} of the norm\n", static_cast<int>(form),
               c.batch, c.rows, c.tokens, c.width, error);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, CudaLatentAttention,
                         testing::Values(Case{1, 32, 5000, 1024, 1, false, 1}, Case{1, 32, 126976, 1024, 1, false, 3},
                                         Case{1, 9, 30000, 576, 1, false, 2}, Case{3, 9, 3001, 576, 3, true, 2},
                                         Case{16, 32, 4000, 1024, 1, false, 1}, Case{4, 32, 3001, 1024, 4, true, 6},
                                         Case{1, 1, 1, 64, 1, false, 1}, Case{2, 5, 100, 128, 2, true, 1},
                                         Case{1, 7, 999, 192, 1, true, 2}, Case{1, 40, 777, 256, 1, false, 2},
                                         Case{5, 13, 640, 320, 1, true, 1}, Case{1, 16, 2049, 384, 1, false, 8},
                                         Case{1, 24, 2049, 448, 1, false, 2}, Case{2, 33, 4096, 512, 1, false, 2},
                                         Case{1, 64, 33, 640, 1, false, 2}, Case{1, 10, 8000, 704, 1, false, 2},
                                         Case{1, 48, 1234, 768, 1, true, 2}, Case{200, 8, 64, 832, 200, false, 2},
                                         Case{1, 17, 7001, 896, 1, false, 2}, Case{1, 32, 1000, 960, 1, false, 12},
                                         Case{1, 512, 20000, 1024, 1, true, 3}, Case{2, 32, 126976, 1024, 1, false, 3},
                                         Case{1, 48, 5000, 1024, 1, true, 2}, Case{6, 33, 3001, 1024, 6, true, 4},
                                         Case{3, 32, 4096, 1024, 1, false, 6}, Case{40, 32, 700, 1024, 40, true, 2},
                                         Case{1, 60, 9000, 448, 1, false, 3}, Case{4, 32, 100001, 1024, 4, true, 3},
                                         Case{1, 9, 450000, 704, 1, false, 2}));

using CudaLatentAttentionEdges = OnCuda;

TEST_F(CudaLatentAttentionEdges, EightBitsOfLargeScoresAndBrokenStates) {
  const auto options = at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);
  const at::Tensor query = at::full({1, 3, 64}, 100.0, options), states = at::ones({1, 1300, 64}, options);
  states[0][1000].mul_(3);
  for (const CudaLatentForm form : {CudaLatentForm::automatic, CudaLatentForm::any_gpu}) {
    const auto read = [&](const at::Tensor& of) {
      const Int8States narrow = quantize_states(of);
      return cuda_latent_attention(query, {narrow.values, {}, narrow.scales}, 1.0, form);
    };
    EXPECT_TRUE(at::allclose(read(states), at::full({1, 3, 64}, 3.0, options)));
    EXPECT_TRUE(at::equal(read(at::zeros({1, 1300, 64}, options)), at::zeros({1, 3, 64}, options)));
    const at::Tensor broken = states.clone();
    broken[0][1100][5] = NAN;
    EXPECT_TRUE(read(broken).isnan().all().item<bool>());
  }
}

TEST_F(CudaLatentAttentionEdges, LargeScoresDoNotOverflowAndBrokenStatesDoNotPassForNone) {
  const auto options = at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);
  const at::Tensor query = at::full({1, 3, 64}, 100.0, options), states = at::ones({1, 1300, 64}, options);
  states[0][1000].mul_(3);
  EXPECT_TRUE(at::equal(latent_attention(query, {states}, 1.0), at::full({1, 3, 64}, 3.0, options)));
  states[0][1100][5] = NAN;
  EXPECT_TRUE(latent_attention(query, {states}, 1.0).isnan().all().item<bool>());
  EXPECT_TRUE(latent_attention(query, {at::full({1, 3, 64}, NAN, options)}, 1.0).isnan().all().item<bool>());
}

// One block of four holds the broken value, and another the token's neighbours: all of the row is broken, other rows
// are not.
TEST_F(CudaLatentAttentionEdges, ABrokenStateOrQuerySpoilsItsRowsInTheWholeWidth) {
  const auto options = at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);
  const at::Tensor query = at::randn({1, 64, 1024}, options), states = at::randn({1, 5000, 1024}, options);
  query[0][40][700] = NAN;
  const at::Tensor found = latent_attention(query, {states}, 0.03).isnan();
  EXPECT_TRUE(found[0][40].all().item<bool>());
  EXPECT_EQ(found.sum().item<int64_t>(), 1024);
  const at::Tensor by_any = cuda_latent_attention(query, {states}, 0.03, CudaLatentForm::any_gpu).isnan();
  EXPECT_TRUE(by_any[0][40].all().item<bool>());
  EXPECT_EQ(by_any.sum().item<int64_t>(), 1024);
  states[0][4999][1023] = NAN;
  EXPECT_TRUE(latent_attention(query, {states}, 0.03).isnan().all().item<bool>());
  EXPECT_TRUE(cuda_latent_attention(query, {states}, 0.03, CudaLatentForm::any_gpu).isnan().all().item<bool>());
}

// What the kernel of every GPU reads and writes at the edges: one token more or less than its blocks of 16 and tiles of
// 64, widths that its warps share unevenly, rows that end within a block of rows, readers with several contexts.
// make(states): what is read, and what it stands for.
template <class Make>
void check_every_length(const Make& make) {
  const auto options = at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);
  const auto check = [&](int64_t contexts, int64_t rows, int64_t tokens, int64_t width) {
    const at::Tensor query = at::randn({contexts, rows, width}, options);
    const auto [context, states] = make(at::randn({contexts, tokens, width}, options));
    const double scale = 2 / std::sqrt(static_cast<double>(width));
    const at::Tensor found = cuda_latent_attention(query, context, scale, CudaLatentForm::any_gpu).to(at::kDouble),
                     expected = formula(query, states, context.mask_BS, scale);
    const at::Tensor sizes = expected.norm(2, -1), errors = (found - expected).norm(2, -1);
    EXPECT_TRUE((errors <= 1e-2 * sizes).all().template item<bool>())  // exact zeros where no token is real
        << contexts << " x " << rows << " rows, " << tokens << " x " << width << ": "
        << (errors / sizes).nan_to_num(0.0).max().template item<double>();
  };
  for (const int64_t tokens : {1, 2, 15, 16, 17, 31, 33, 47, 63, 64, 65, 79, 80, 81, 127, 129, 255, 1023, 1025})
    for (const int64_t width : {64, 576, 1024}) check(1, 9, tokens, width);
  for (int64_t width = 64; width <= 1024; width += 64) check(2, 32, 700, width);
  for (const int64_t rows : {1, 7, 8, 15, 16, 17, 31, 32, 33, 40, 47, 63, 64}) check(3, rows, 500, 448);
  for (const int64_t rows : {9, 32, 40}) check(3, rows, 333, 1024);
  check(301, 5, 65, 512);
}

TEST_F(CudaLatentAttentionEdges, EveryLengthByTheKernelOfEveryGpu) {
  check_every_length([](const at::Tensor& states) { return std::pair{LatentStates{states}, states}; });
}

TEST_F(CudaLatentAttentionEdges, EveryLengthInEightBitsByTheKernelOfEveryGpu) {
  const auto narrow = [](const at::Tensor& states, const at::Tensor& mask) {
    const Int8States bytes = quantize_states(states * at::randn_like(states.narrow(2, 0, 1)).exp());
    return std::pair{LatentStates{bytes.values, mask, bytes.scales}, dequantize_states(bytes, at::kDouble)};
  };
  check_every_length([&](const at::Tensor& states) { return narrow(states, {}); });
  check_every_length([&](const at::Tensor& states) {
    return narrow(states, at::rand(states.sizes().slice(0, 2), states.options().dtype(at::kFloat)) < 0.5);
  });
}

// Each byte as a context of one token, which is the result.
TEST_F(CudaLatentAttentionEdges, EveryByteByTheKernelOfEveryGpu) {
  const auto options = at::TensorOptions().device(at::kCUDA);
  const at::Tensor bytes = at::arange(256, options).to(at::kByte).view({256, 1, 1}).expand({256, 1, 1024}).contiguous(),
                   scales = at::full({256, 1}, 0.5, options.dtype(at::kFloat)),
                   query = at::zeros({256, 1, 1024}, options.dtype(at::kBFloat16));
  const at::Tensor found = cuda_latent_attention(query, {bytes, {}, scales}, 1.0, CudaLatentForm::any_gpu);
  const at::Tensor expected = (bytes.to(at::kFloat) - 128) * 0.5;
  EXPECT_TRUE(at::equal(found.to(at::kFloat), expected));
}

// Scales past a context's end are another's, and a padding token's may be anything: neither may count.
TEST_F(CudaLatentAttentionEdges, OnlyRealTokensScalesCountByTheKernelOfEveryGpu) {
  const auto options = at::TensorOptions().device(at::kCUDA);
  const at::Tensor query = at::randn({1, 9, 576}, options.dtype(at::kBFloat16));
  const Int8States states = quantize_states(at::randn({1, 100, 576}, options));
  const at::Tensor mask = at::ones({1, 100}, options.dtype(at::kBool));
  mask[0].narrow(0, 37, 5).fill_(false);
  const LatentStates whole{states.values, mask, states.scales};
  const at::Tensor expected = cuda_latent_attention(query, whole, 0.05, CudaLatentForm::any_gpu);
  EXPECT_FALSE(expected.isnan().any().item<bool>());
  const at::Tensor longer = at::full({110}, NAN, options.dtype(at::kFloat));
  longer.narrow(0, 0, 100).copy_(states.scales[0]);
  longer.narrow(0, 37, 5).fill_(NAN);
  const LatentStates broken{states.values, mask, longer.narrow(0, 0, 100).unsqueeze(0)};
  EXPECT_TRUE(at::equal(cuda_latent_attention(query, broken, 0.05, CudaLatentForm::any_gpu), expected));
}

}  // namespace
}  // namespace cepe
