// Attention over a kept context, and over parts of one, against the formula in float64: every kernel, type and edge.
#include "ops/context/context_attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "ops/cpu/targets.h"
#include "ops/ops.h"

namespace cepe {
namespace {

struct Case {
  int64_t batch, tokens, heads, kv_heads, head_dim, context, contexts;
  bool masked;
};

// q (B, T, H, K), k and v (C, S, G, K) in float64, one query at a time.
at::Tensor formula(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& mask) {
  const at::Tensor out = at::zeros(q.sizes(), at::kDouble);
  const int64_t share = q.size(2) / k.size(2);
  for (int64_t b = 0; b < q.size(0); ++b) {
    const int64_t c = k.size(0) == 1 ? 0 : b;
    const at::Tensor keys = mask.defined() ? k[c].index({mask[c]}) : k[c],
                     values = mask.defined() ? v[c].index({mask[c]}) : v[c];
    if (keys.size(0) == 0) continue;
    for (int64_t t = 0; t < q.size(1); ++t) {
      for (int64_t h = 0; h < q.size(2); ++h) {
        const at::Tensor score =
            at::mv(keys.select(1, h / share), q[b][t][h]) / std::sqrt(static_cast<double>(q.size(3)));
        out[b][t][h].copy_(at::mv(values.select(1, h / share).t(), score.softmax(0)));
      }
    }
  }
  return out;
}

struct Inputs {
  explicit Inputs(const Case& c)
      : q(at::randn({c.batch, c.tokens, c.heads, c.head_dim}, at::kDouble) * 2),
        k(at::randn({c.contexts, c.context, c.kv_heads, c.head_dim}, at::kDouble)),
        v(at::randn({c.contexts, c.context, c.kv_heads, c.head_dim}, at::kDouble)) {
    if (!c.masked) return;
    mask = at::rand({c.contexts, c.context}) < 0.6;
    mask[0].narrow(0, 0, c.context / 2).fill_(false);  // whole blocks without a real token
    if (c.contexts > 1) mask[1].fill_(false);          // a context of padding alone
  }
  at::Tensor q, k, v, mask;
};

double error_of(const at::Tensor& found, const at::Tensor& expected) {
  return ((found.to(at::kDouble) - expected).norm() / expected.norm()).item<double>();
}

class ContextAttention : public testing::TestWithParam<Case> {};

TEST_P(ContextAttention, EveryKernelEqualsTheFormula) {
  const Case c = GetParam();
  at::manual_seed(5);
  const Inputs in(c);
  for (const auto& [type, tolerance] : {std::pair{at::kFloat, 2e-6}, {at::kBFloat16, 4e-3}, {at::kDouble, 1e-13}}) {
    const at::Tensor q = in.q.to(type), k = in.k.to(type), v = in.v.to(type);
    ContextKeysValues kept = make_context_keys_values({c.contexts, c.kv_heads, c.context, c.head_dim}, k.options());
    for (int64_t first = 0; first < c.context; first += 128) {  // in pieces, the last one of any length
      const int64_t n = std::min<int64_t>(128, c.context - first);
      write_keys_values(kept, first, k.narrow(1, first, n), v.narrow(1, first, n));
    }
    const auto [keys, values] = read_keys_values(kept, 0, c.context);
    EXPECT_TRUE(at::equal(keys.transpose(1, 2), k));
    EXPECT_TRUE(at::equal(values.transpose(1, 2), v));
    const at::Tensor expected = formula(q.to(at::kDouble), k.to(at::kDouble), v.to(at::kDouble), in.mask);
    for (const std::string& target : cpu::targets()) {
      cpu::use_target(target);
      const at::Tensor found = context_attention(q, kept, in.mask);
      EXPECT_EQ(found.scalar_type(), type);
      EXPECT_LE(error_of(found, expected), tolerance) << toString(type) << " " << target;
      if (c.masked && c.contexts > 1) {
        EXPECT_EQ(found[1].abs().max().item<double>(), 0);
      }
    }
    cpu::use_target("");
    EXPECT_LE(error_of(context_attention(q, kept, in.mask, ContextKernel::none), expected), tolerance)
        << toString(type);
  }
}

TEST_P(ContextAttention, PartsMergeToTheWhole) {
  const Case c = GetParam();
  at::manual_seed(6);
  const Inputs in(c);
  for (const auto& [type, tolerance] : {std::pair{at::kFloat, 2e-6}, {at::kBFloat16, 8e-3}, {at::kDouble, 1e-13}}) {
    const at::Tensor q = in.q.to(type), k = in.k.to(type), v = in.v.to(type);
    const at::Tensor expected = formula(q.to(at::kDouble), k.to(at::kDouble), v.to(at::kDouble), in.mask);
    for (const int64_t part : {c.context, int64_t{37}, int64_t{128}}) {
      const at::Tensor rows = fold_queries(q, c.contexts, c.kv_heads);
      AttentionMerge merge;
      for (int64_t first = 0; first < c.context; first += part) {
        const int64_t n = std::min(part, c.context - first);
        merge.add(partial_attention(rows, k.narrow(1, first, n).transpose(1, 2), v.narrow(1, first, n).transpose(1, 2),
                                    in.mask.defined() ? in.mask.narrow(1, first, n) : in.mask));
      }
      EXPECT_LE(error_of(unfold_queries(merge.result(type), q.sizes()), expected), tolerance)
          << toString(type) << " " << part;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, ContextAttention,
                         testing::Values(Case{1, 1, 9, 3, 64, 300, 1, false}, Case{2, 3, 4, 4, 32, 256, 2, true},
                                         Case{3, 2, 6, 1, 80, 191, 1, true}, Case{2, 1, 8, 2, 128, 65, 1, false},
                                         Case{1, 11, 3, 3, 16, 1, 1, false}, Case{3, 2, 4, 2, 10, 130, 3, true},
                                         Case{2, 2, 4, 4, 8, 50, 2, false}, Case{1, 5, 6, 2, 48, 63, 1, true},
                                         Case{1, 40, 9, 3, 64, 200, 1, true}, Case{2, 30, 2, 2, 16, 150, 2, true}));

// Queries in float32 on keys and values in fewer bits: the kernel of each target, and LibTorch's attention block by
// block, equal the formula on the rounded numbers, which are near the given ones.
TEST(ContextAttention, KeysAndValuesInFewerBits) {
  at::manual_seed(8);
  const std::pair<int64_t, int64_t> cases[] = {{64, 1}, {64, 20}, {40, 1}};  // kernels of few and many rows, and none
  for (const auto& [head_dim, tokens] : cases) {
    const at::Tensor q = at::randn({2, tokens, 6, head_dim}), k = at::randn({1, 130, 2, head_dim}),
                     v = at::randn_like(k);
    for (const auto& [type, rounding] : {std::pair{at::kBFloat16, 4e-3}, {at::kChar, 1.2e-2}}) {
      ContextKeysValues kept = make_context_keys_values({1, 2, 130, head_dim}, type);
      write_keys_values(kept, 0, k.narrow(1, 0, 64), v.narrow(1, 0, 64));
      write_keys_values(kept, 64, k.narrow(1, 64, 66), v.narrow(1, 64, 66));
      EXPECT_EQ(kept.bytes(), static_cast<int64_t>(2 * 2 * 192 * head_dim * kept_bytes(type, head_dim)));
      const auto [keys, values] = read_keys_values(kept, 0, 130);
      const at::Tensor k_read = keys.transpose(1, 2).to(at::kDouble), v_read = values.transpose(1, 2).to(at::kDouble);
      EXPECT_LT(error_of(k_read, k.to(at::kDouble)), rounding);
      EXPECT_LT(error_of(v_read, v.to(at::kDouble)), rounding);
      const at::Tensor expected = formula(q.to(at::kDouble), k_read, v_read, {});
      for (const std::string& target : cpu::targets()) {
        cpu::use_target(target);
        EXPECT_LT(error_of(context_attention(q, kept, {}), expected), 3e-6) << target;
      }
      cpu::use_target("");
    }
  }
}

TEST(ContextAttention, WhatIsNotANumberStaysNone) {
  at::Tensor q = at::randn({1, 1, 2, 16}), k = at::randn({1, 100, 2, 16});
  q[0][0][1][3] = NAN;
  ContextKeysValues kept = make_context_keys_values({1, 2, 100, 16}, k.options());
  write_keys_values(kept, 0, k, k);
  const at::Tensor found = context_attention(q, kept, {});
  EXPECT_TRUE(found[0][0][0].isfinite().all().item<bool>());
  EXPECT_TRUE(found[0][0][1].isnan().all().item<bool>());
}

TEST(ContextAttention, RefusesWhatDoesNotFit) {
  ContextKeysValues kept = make_context_keys_values({2, 2, 100, 16}, at::kFloat);
  const at::Tensor part = at::zeros({2, 30, 2, 16});
  EXPECT_THROW(write_keys_values(kept, 0, part, part), Error);  // not whole blocks
  EXPECT_THROW(write_keys_values(kept, 30, part, part), Error);
  EXPECT_THROW(context_attention(at::zeros({3, 1, 2, 16}), kept, {}), Error);
  EXPECT_THROW(context_attention(at::zeros({2, 1, 2, 16}), kept, at::ones({2, 99}, at::kBool)), Error);
}

}  // namespace
}  // namespace cepe
