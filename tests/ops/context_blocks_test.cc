// Which blocks of a kept context are chosen, and attention over them alone, against softmax in float64.
#include "ops/context/context_blocks.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "ops/context/context_attention.h"
#include "ops/cpu/targets.h"

namespace cepe {
namespace {

constexpr int64_t kBlock = ContextKeysValues::kBlock;

struct Case {
  int64_t tokens, heads, kv_heads, head_dim, context, contexts;
  bool masked;
};

struct Inputs {
  Inputs(const Case& c, at::ScalarType query_type, at::ScalarType kept_type)
      : q((at::randn({c.contexts, c.tokens, c.heads, c.head_dim}) * 2).to(query_type)),
        kept(make_context_keys_values({c.contexts, c.kv_heads, c.context, c.head_dim}, kept_type)) {
    const at::Tensor k = at::randn({c.contexts, c.context, c.kv_heads, c.head_dim}).to(query_type);
    write_keys_values(kept, 0, k, at::randn_like(k));
    if (c.masked) mask = at::rand({c.contexts, c.context}) < 0.7;
  }
  at::Tensor q, mask;
  ContextKeysValues kept;
};

// Softmax weights of all tokens, (C, G, N, S) float64.
at::Tensor weights_of(const Inputs& in) {
  const at::Tensor k = read_keys_values(in.kept, 0, in.kept.tokens).first.to(at::kDouble);
  const at::Tensor q = fold_queries(in.q.to(at::kDouble), k.size(0), k.size(1));
  at::Tensor scores = at::matmul(q, k.transpose(2, 3)) / std::sqrt(static_cast<double>(q.size(3)));
  if (in.mask.defined()) scores = scores.masked_fill(in.mask.logical_not().unsqueeze(1).unsqueeze(1), -INFINITY);
  return scores.softmax(-1);
}

// Blocks' masses of each head, (C * G, blocks).
at::Tensor masses_of(const Inputs& in) {
  const int64_t blocks = in.kept.k.size(2), padding = blocks * kBlock - in.kept.tokens;
  const at::Tensor weights = at::constant_pad_nd(weights_of(in), {0, padding});
  return weights.unflatten(-1, {blocks, kBlock}).sum(-1).mean(2).flatten(0, 1);
}

// Each head has the share, would not have it with a block fewer, and has its largest blocks.
void expect_fewest(const at::Tensor& masses_HM, const at::Tensor& chosen, double share) {
  constexpr double kRounding = 1e-5;
  const int64_t blocks = masses_HM.size(1);
  const at::Tensor taken = at::zeros({masses_HM.numel()}, at::kBool).index_fill_(0, chosen, true).view_as(masses_HM);
  EXPECT_TRUE(at::equal(chosen, std::get<0>(chosen.sort()))) << "in order";
  EXPECT_EQ(taken.sum().item<int64_t>(), chosen.numel()) << "each once";
  for (int64_t h = 0; h < masses_HM.size(0); ++h) {
    const at::Tensor in = masses_HM[h].index({taken[h]}), out = masses_HM[h].index({taken[h].logical_not()});
    ASSERT_GT(in.numel(), 0);
    EXPECT_GE(in.sum().item<double>(), share - kRounding) << h;
    EXPECT_LT((in.sum() - in.min()).item<double>(), share + kRounding) << h;
    if (in.numel() < blocks) {
      EXPECT_GE((in.min() - out.max()).item<double>(), -kRounding) << h;
    }
  }
}

class ContextBlocks : public testing::TestWithParam<Case> {};

TEST_P(ContextBlocks, TheFewestWithTheShareAreChosenAndRead) {
  at::manual_seed(7);
  for (const auto& [query, kept] : {std::pair{at::kFloat, at::kFloat},
                                    {at::kFloat, at::kBFloat16},
                                    {at::kFloat, at::kChar},
                                    {at::kBFloat16, at::kBFloat16},
                                    {at::kDouble, at::kDouble}}) {
    const Inputs in(GetParam(), query, kept);
    const at::Tensor masses = masses_of(in), weights = weights_of(in);
    const at::Tensor v = read_keys_values(in.kept, 0, in.kept.tokens).second.to(at::kDouble);
    for (const double share : {0.05, 0.5, 0.8}) {
      SCOPED_TRACE(testing::Message() << toString(query) << " on " << toString(kept) << ", share " << share);
      const ContextKeysValues part = choose_blocks(in.q, in.kept, in.mask, share);
      ASSERT_TRUE(part.chosen.defined());
      EXPECT_TRUE(part.k.is_same(in.kept.k)) << "nothing is copied";
      expect_fewest(masses, part.chosen, share);
      const at::Tensor read = at::zeros({masses.numel(), 1}, at::kDouble)
                                  .index_fill_(0, part.chosen, 1)
                                  .expand({-1, kBlock})
                                  .reshape({weights.size(0), weights.size(1), 1, -1})
                                  .narrow(3, 0, in.kept.tokens);
      const at::Tensor left = weights * read;
      const at::Tensor expected = unfold_queries(at::matmul(left / left.sum(-1, true), v), in.q.sizes());
      const double tolerance = query == at::kBFloat16 ? 4e-3 : 3e-6;
      const auto error = [&](const at::Tensor& found) {
        return ((found.to(at::kDouble) - expected).norm() / expected.norm()).item<double>();
      };
      for (const std::string& target : cpu::targets()) {
        cpu::use_target(target);
        EXPECT_LT(error(context_attention(in.q, part, in.mask)), tolerance) << target;
      }
      cpu::use_target("");
      EXPECT_LT(error(context_attention(in.q, part, in.mask, ContextKernel::none)), tolerance);
    }
    EXPECT_FALSE(choose_blocks(in.q, in.kept, in.mask, 1).chosen.defined());
    if (!in.mask.defined()) {
      EXPECT_FALSE(choose_blocks(in.q, in.kept, {}, 1 - 1e-9).chosen.defined()) << "all blocks are needed";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, ContextBlocks,
                         testing::Values(Case{1, 9, 3, 64, 1000, 1, false}, Case{1, 4, 4, 32, 512, 1, false},
                                         Case{3, 6, 1, 80, 700, 2, true}, Case{1, 8, 2, 16, 321, 1, true},
                                         Case{1, 40, 1, 32, 640, 1, false}));

// Padding of the last block weighs nothing, and its real token is found.
TEST(ContextBlocks, TheLastBlockCountsItsTokensAlone) {
  at::Tensor k = at::zeros({1, 3 * kBlock + 1, 1, 16});
  k[0][3 * kBlock].fill_(4);
  ContextKeysValues kept = make_context_keys_values({1, 1, 3 * kBlock + 1, 16}, at::kFloat);
  write_keys_values(kept, 0, k, k);
  const at::Tensor toward = at::ones({1, 1, 1, 16}), away = -toward;
  // exp(16) against 192 of exp(0).
  EXPECT_TRUE(at::equal(choose_blocks(toward, kept, {}, 0.99).chosen, at::tensor({3}, at::kLong)));
  EXPECT_TRUE(at::equal(choose_blocks(away, kept, {}, 0.99).chosen, at::arange(3)));
  const at::Tensor sums = block_sums(toward.transpose(1, 2), kept, {}).flatten();
  EXPECT_NEAR(sums[0].item<double>(), std::log(64.0), 1e-5);
  EXPECT_NEAR(sums[3].item<double>(), 16, 1e-5);
}

TEST(ContextBlocks, WhatIsNotANumberOrNotThereLeavesAll) {
  Inputs in({1, 2, 2, 16, 300, 1, false}, at::kFloat, at::kFloat);
  EXPECT_FALSE(choose_blocks(in.q, in.kept, at::zeros({1, 300}, at::kBool), 0.5).chosen.defined());
  in.q[0][0][1][3] = NAN;
  const at::Tensor chosen = choose_blocks(in.q, in.kept, {}, 0.5).chosen;
  EXPECT_LT(chosen.lt(5).sum().item<int64_t>(), 5);
  EXPECT_EQ(chosen.ge(5).sum().item<int64_t>(), 5);
}

TEST(ContextBlocks, RefusesAShareOutOfRange) {
  const Inputs in({1, 2, 2, 16, 300, 1, false}, at::kFloat, at::kFloat);
  for (const double share : {0.0, -0.5, 1.01, static_cast<double>(NAN)})
    EXPECT_THROW(choose_blocks(in.q, in.kept, {}, share), Error) << share;
}

}  // namespace
}  // namespace cepe
