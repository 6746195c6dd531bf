// Parts of an attention, merged by one kernel, against the formula in float64.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "ops/context/context_attention.h"
#include "ops/cuda_device.h"

namespace cepe {
namespace {

const auto kOnDevice = at::TensorOptions().device(at::kCUDA).dtype(at::kFloat);

// Parts (C, G, N, K) in bfloat16 whose heads or tokens lie side by side.
PartialAttention random_part(at::IntArrayRef sizes, bool tokens_first) {
  const int64_t C = sizes[0], G = sizes[1], N = sizes[2], K = sizes[3];
  const at::Tensor out =
      tokens_first ? at::randn({C, N, G, K}, kOnDevice).transpose(1, 2) : at::randn(sizes, kOnDevice);
  return {out.to(at::kBFloat16), at::randn({C, G, N}, kOnDevice) * 5 + 100};
}

at::Tensor formula(const std::vector<PartialAttention>& parts) {
  std::vector<at::Tensor> outs, sums;
  for (const PartialAttention& part : parts) {
    outs.push_back(part.out_CGNK.to(at::kDouble));
    sums.push_back(part.log_sum_exp_CGN.to(at::kDouble));
  }
  return (at::stack(outs) * at::stack(sums).softmax(0).unsqueeze(-1)).sum(0);
}

class AttentionMergeOnDevice : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override { require_cuda(), at::manual_seed(31); }
};

TEST_P(AttentionMergeOnDevice, GivesTheFormula) {
  for (const std::vector<int64_t>& sizes :
       {std::vector<int64_t>{1, 32, 300, 128}, {2, 3, 7, 64}, {1, 1, 1, 8}, {3, 2, 65, 72}}) {
    std::vector<PartialAttention> parts;
    AttentionMerge merge;
    for (int i = 0; i < 4; ++i) {
      parts.push_back(random_part(sizes, GetParam()));
      merge.add(parts.back());
    }
    const at::Tensor expected = formula(parts), found = merge.result(at::kFloat).to(at::kDouble);
    EXPECT_LT(((found - expected).norm() / expected.norm()).item<double>(), 1e-5) << sizes;
  }
}

TEST_P(AttentionMergeOnDevice, PartsWithoutARealTokenCountForNothing) {
  const std::vector<int64_t> sizes{2, 3, 5, 16};
  PartialAttention first = random_part(sizes, GetParam()), empty = random_part(sizes, GetParam());
  empty.out_CGNK.fill_(NAN), empty.log_sum_exp_CGN.fill_(-INFINITY);
  first.log_sum_exp_CGN[1][2][3] = -INFINITY;
  AttentionMerge merge;
  for (const PartialAttention* part : {&empty, &first, &empty}) merge.add(*part);
  at::Tensor expected = first.out_CGNK.to(at::kFloat, false, true);
  expected[1][2][3].zero_();
  EXPECT_LT((merge.result(at::kFloat) - expected).abs().max().item<double>(), 1e-6);
}

TEST_P(AttentionMergeOnDevice, WhatIsNotANumberStaysNone) {
  for (const bool earlier : {false, true}) {
    PartialAttention damaged = random_part({1, 2, 3, 16}, GetParam()), other = random_part({1, 2, 3, 16}, GetParam());
    damaged.log_sum_exp_CGN[0][1][2] = NAN;
    AttentionMerge merge;
    merge.add(earlier ? damaged : other);
    merge.add(earlier ? other : damaged);
    const at::Tensor found = merge.result(at::kFloat);
    EXPECT_TRUE(found[0][1][2].isnan().all().item<bool>());
    EXPECT_TRUE(found[0][0].isfinite().all().item<bool>());
  }
}

TEST_P(AttentionMergeOnDevice, PartsOfOtherLayoutsMerge) {
  const PartialAttention a = random_part({1, 4, 9, 32}, GetParam()), b = random_part({1, 4, 9, 32}, !GetParam());
  AttentionMerge merge;
  merge.add(a), merge.add(b);
  const at::Tensor expected = formula({a, b});
  EXPECT_LT(((merge.result(at::kFloat) - expected).norm() / expected.norm()).item<double>(), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(TokensFirst, AttentionMergeOnDevice, testing::Bool());

}  // namespace
}  // namespace cepe
