// attention() of many queries in float32 on a CPU against the formula in float64, as the models call it.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "ops/attention_cpu.h"
#include "ops/context/context_attention.h"
#include "ops/cpu/targets.h"
#include "ops/ops.h"

namespace cepe {
namespace {

struct Case {
  const char* name;
  int64_t batch, queries, keys, heads, kv_heads, head_dim;
  bool causal = false, padded = false;
};

struct Inputs {
  explicit Inputs(const Case& c)
      : q(at::randn({c.batch, c.queries, c.heads, c.head_dim}) * 2),
        // The first tokens of a longer cache, as a decoder has them.
        k(at::randn({c.batch, c.keys + 9, c.kv_heads, c.head_dim}).narrow(1, 0, c.keys)),
        v(at::randn({c.batch, c.keys + 9, c.kv_heads, c.head_dim}).narrow(1, 0, c.keys)) {
    mask.causal = c.causal;
    if (!c.padded) return;
    mask.keys_BS = at::rand({c.batch, c.keys}) < 0.7;
    mask.keys_BS[0].narrow(0, c.keys / 2, c.keys - c.keys / 2).fill_(false);
    if (c.batch > 1) mask.keys_BS[1].fill_(false);
  }
  at::Tensor q, k, v;
  AttentionMask mask;
};

at::Tensor formula(const Inputs& in) {
  const int64_t T = in.q.size(1), S = in.k.size(1), share = in.q.size(2) / in.k.size(2);
  const auto heads = [](const at::Tensor& x) { return x.to(at::kDouble).transpose(1, 2); };
  const at::Tensor k = heads(in.k).repeat_interleave(share, 1), v = heads(in.v).repeat_interleave(share, 1);
  at::Tensor allowed = at::ones({in.q.size(0), 1, T, S}, at::kBool);
  if (in.mask.causal) allowed = allowed.logical_and(at::ones({T, S}, at::kBool).tril(S - T));
  if (in.mask.keys_BS.defined()) allowed = allowed.logical_and(in.mask.keys_BS.view({-1, 1, 1, S}));
  const at::Tensor scores = at::matmul(heads(in.q), k.transpose(2, 3)) / std::sqrt(static_cast<double>(in.q.size(3)));
  const at::Tensor weights = (scores - scores.amax(-1, true)).exp() * allowed;
  return at::matmul(weights / weights.sum(-1, true).clamp_min(1e-300), v).transpose(1, 2);
}

double error_of(const at::Tensor& found, const at::Tensor& expected) {
  return ((found.to(at::kDouble) - expected).norm() / expected.norm()).item<double>();
}

class ManyQueries : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override { at::manual_seed(3); }
  void TearDown() override { cpu::use_target(""); }
};

TEST_P(ManyQueries, EveryTargetEqualsTheFormula) {
  const Inputs in(GetParam());
  const at::Tensor expected = formula(in);
  ASSERT_TRUE(cpu_flash_fits(in.q, in.k, in.v));
  for (const std::string& target : cpu::targets()) {
    cpu::use_target(target);
    EXPECT_LT(error_of(cpu_flash_attention(in.q, in.k, in.v, in.mask), expected), 2e-6) << target;
    EXPECT_LT(error_of(attention(in.q, in.k, in.v, in.mask), expected), 2e-6) << target;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, ManyQueries,
                         testing::Values(Case{"Decoder", 1, 150, 150, 9, 3, 64, true},
                                         Case{"Appended", 1, 70, 333, 9, 3, 64, true},
                                         Case{"Context", 1, 131, 517, 9, 3, 64}, Case{"Chunks", 5, 256, 256, 9, 3, 64},
                                         Case{"PaddedChunks", 3, 100, 100, 9, 3, 64, false, true},
                                         Case{"PaddedDecoder", 3, 80, 90, 4, 4, 128, true, true},
                                         Case{"HeadSize96", 2, 33, 65, 4, 1, 96},
                                         Case{"OneQuery", 2, 1, 77, 48, 2, 64, true, true}),
                         [](const auto& info) { return std::string(info.param.name); });

// Whether the kernel is taken says the number of rows and the processor; where it is, results are its own.
TEST(ManyQueriesChoice, TheKernelIsTakenWhereItPays) {
  at::manual_seed(4);
  for (const std::string& target : cpu::targets()) {
    cpu::use_target(target);
    EXPECT_EQ(cpu_flash_pays(1000), target == "AVX2" || target == "AVX3") << target;
    EXPECT_FALSE(cpu_flash_pays(3)) << target;
  }
  cpu::use_target("");
  const Inputs in(Case{"", 1, 60, 60, 6, 2, 64, true});
  const at::Tensor own = cpu_flash_attention(in.q, in.k, in.v, in.mask);
  EXPECT_EQ(at::equal(attention(in.q, in.k, in.v, in.mask), own), cpu_flash_pays(180));
}

TEST(ManyQueriesChoice, GradientsAndOtherTypesAreLeftToLibTorch) {
  const Inputs in(Case{"", 1, 20, 20, 4, 2, 64});
  EXPECT_TRUE(cpu_flash_fits(in.q, in.k, in.v));
  EXPECT_FALSE(cpu_flash_fits(in.q, in.k.clone().requires_grad_(true), in.v));
  EXPECT_FALSE(cpu_flash_fits(in.q, in.k, in.v.to(at::kBFloat16)));
  EXPECT_FALSE(cpu_flash_fits(in.q.transpose(2, 3).contiguous().transpose(2, 3), in.k, in.v));
  const at::Tensor odd = at::randn({1, 20, 2, 10});
  EXPECT_FALSE(cpu_flash_fits(odd, odd, odd));
}

// Parts of the keys, each with the log-sum-exp of its scores.
TEST(ManyQueriesChoice, LogSumExpOfEachRow) {
  at::manual_seed(5);
  const Inputs in(Case{"", 2, 30, 100, 6, 2, 32});
  const at::Tensor found = at::empty({2, 2, 90});
  cpu_flash_attention(in.q, in.k, in.v, {}, found);
  const at::Tensor rows = fold_queries(in.q.to(at::kDouble), 2, 2);
  const at::Tensor scores = at::matmul(rows, in.k.to(at::kDouble).permute({0, 2, 3, 1})) / std::sqrt(32.0);
  EXPECT_LT((found - scores.logsumexp(-1)).abs().max().item<double>(), 2e-6);
}

}  // namespace
}  // namespace cepe
