// Contexts of different lengths in one pass against the formula in float64 for each; the table rewritten between
// launches and under a recorded graph.
#include "ops/latent/context_table.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "ops/cuda_device.h"
#include "ops/latent/latent_int8.h"
#include "ops/step/captured_work.h"

namespace cepe {
namespace {

struct Case {
  int64_t rows, width;
  bool eight_bits;
};

constexpr int64_t kSequences = 13;

at::Tensor formula(const at::Tensor& query, const LatentStates& context, double scale) {
  at::Tensor states = context.states_BSE;
  if (context.scales_BS.defined()) states = dequantize_states({states, context.scales_BS}, at::kDouble);
  const at::Tensor wide = states.to(at::kDouble).expand({query.size(0), states.size(1), states.size(2)});
  at::Tensor scores = at::bmm(query.to(at::kDouble), wide.transpose(1, 2)) * scale;
  if (context.mask_BS.defined()) scores = scores.masked_fill(context.mask_BS.logical_not().unsqueeze(1), -INFINITY);
  return at::bmm(scores.softmax(-1).nan_to_num(0.0), wide);
}

class CudaContextTable : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    require_cuda();
    at::manual_seed(5);
    const Case c = GetParam();
    scale_ = 2 / std::sqrt(static_cast<double>(c.width));
    query_ = at::randn({kSequences, c.rows, c.width}, options());
    batch_ = {query_.device(), at::kBFloat16, kSequences, c.rows, c.width};
    first_ = {range(1, 1, 0, 1),    range(1, 63, 1, 1),    range(1, 64, 2, 1),         range(1, 65, 3, 1, true),
              range(1, 4096, 4, 1), range(1, 70001, 5, 1), range(1, 3000, 7, 3, true), range(2, 500, 10, 2, true)};
    second_ = {range(1, 9000, 1, 5, true), range(3, 129, 6, 3), range(1, 20000, 12, 1)};
  }
  static at::TensorOptions options() { return at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16); }
  TableRange range(int64_t contexts, int64_t tokens, int64_t first, int64_t count, bool masked = false) const {
    LatentStates made{at::randn({contexts, tokens, GetParam().width}, options())};
    if (GetParam().eight_bits) {
      const Int8States states = quantize_states(made.states_BSE);
      made.states_BSE = states.values, made.scales_BS = states.scales;
    }
    if (masked) {
      made.mask_BS = at::rand({contexts, tokens}, at::TensorOptions().device(at::kCUDA)) < 0.6;
      made.mask_BS.narrow(1, 0, tokens / 2).fill_(false);
      if (contexts > 1) made.mask_BS[1].fill_(false);  // of padding alone
    }
    return {made, first, count};
  }
  void expect_formula(const at::Tensor& found, const std::vector<TableRange>& ranges, const std::string& name) const {
    at::Tensor left = at::ones({kSequences}, at::kBool);
    for (const TableRange& range : ranges) {
      const at::Tensor expected = formula(query_.narrow(0, range.first, range.count), range.context, scale_);
      const at::Tensor of_range = found.narrow(0, range.first, range.count).to(at::kDouble);
      EXPECT_LE((of_range - expected).norm().item<double>(), 4e-3 * expected.norm().item<double>())
          << name << ", " << range.context.states_BSE.sizes();
      left.narrow(0, range.first, range.count).fill_(false);
    }
    EXPECT_FALSE(found.index({left.to(at::kCUDA)}).ne(0).any().item<bool>()) << name << ": sequences without a context";
  }

  double scale_ = 1;
  at::Tensor query_;
  TableBatch batch_;
  std::vector<TableRange> first_, second_;
};

TEST_P(CudaContextTable, EqualsTheFormulaWhateverItHolds) {
  query_[6].fill_(NAN);  // of no context in the first: nobody else's rows may see it
  ContextTable table(batch_, first_);
  const at::Tensor found = latent_attention(query_, table, scale_);
  expect_formula(found, first_, "first");
  query_[6].normal_();
  table.set(second_);
  expect_formula(latent_attention(query_, table, scale_), second_, "second");
  table.set({});
  expect_formula(latent_attention(query_, table, scale_), {}, "none");
  table.set({first_[5]});
  expect_formula(latent_attention(query_, table, scale_), {first_[5]}, "one");
  query_[6].fill_(NAN);
  table.set(first_);
  EXPECT_TRUE(at::equal(latent_attention(query_, table, scale_), found)) << "the same again";
}

TEST_P(CudaContextTable, ARecordedPassReadsWhatTheTableHoldsWhenItRuns) {
  ContextTable table(batch_, first_);  // of these states' type
  table.set({});
  const at::Tensor out = at::empty_like(query_);
  CapturedWork work(query_.device(), true, [&] { out.copy_(latent_attention(query_, table, scale_)); });
  for (int i = 0; i < 3; ++i) work.run();
  expect_formula(out, {}, "none");
  // Back and forth without waiting for the device.
  std::vector<at::Tensor> outs;
  for (int i = 0; i < 20; ++i) {
    table.set(i % 2 == 0 ? first_ : second_);
    work.run();
    outs.push_back(out.clone());
  }
  expect_formula(outs[0], first_, "first");
  expect_formula(outs[1], second_, "second");
  for (size_t i = 2; i < outs.size(); ++i) EXPECT_TRUE(at::equal(outs[i], outs[i % 2])) << i;
  query_.neg_();
  work.run();
  expect_formula(out, second_, "another query");
}

INSTANTIATE_TEST_SUITE_P(Shapes, CudaContextTable,
                         testing::Values(Case{8, 512, false}, Case{16, 1024, false}, Case{32, 1024, false},
                                         Case{9, 576, false}, Case{5, 128, false}, Case{33, 256, false},
                                         Case{1, 320, false}, Case{32, 1024, true}, Case{9, 576, true},
                                         Case{16, 512, true}, Case{3, 192, true}, Case{9, 64, true},
                                         Case{40, 1024, true}, Case{9, 1024, true}));

TEST(CudaContextTableEdges, WhatDoesNotFitIsRefused) {
  require_cuda();
  const auto options = at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);
  const at::Tensor query = at::zeros({2, 4, 64}, options), states = at::ones({1, 10, 64}, options),
                   narrow = at::ones({1, 10, 32}, options);
  const TableBatch batch{query.device(), at::kBFloat16, 2, 4, 64};
  const Int8States bytes = quantize_states(states);
  ContextTable table(batch, {{{states}, 0, 1}});
  EXPECT_THROW(table.set({{{states}, 0, 2}, {{states}, 1, 1}}), Error);
  EXPECT_THROW(table.set({{{states}, 1, 2}}), Error);
  EXPECT_THROW(table.set({{{states.expand({3, 10, 64})}, 0, 2}}), Error);
  EXPECT_FALSE(table.takes({{{narrow}, 0, 1}}));
  EXPECT_FALSE(table.takes({{{bytes.values, {}, bytes.scales}, 0, 1}}));
  EXPECT_FALSE(context_table_applies(batch, {{{states}, 0, 1}, {{bytes.values, {}, bytes.scales}, 1, 1}}))
      << "of two types";
  EXPECT_TRUE(at::equal(latent_attention(query, table, 1.0)[0], at::ones({4, 64}, options))) << "as it was";
  EXPECT_THROW(latent_attention(query[0].unsqueeze(0), table, 1.0), Error);
}

TEST(CudaContextTableEdges, ManySequencesAndMoreReadersThanTiles) {
  require_cuda();
  at::manual_seed(6);
  const auto options = at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);
  const at::Tensor query = at::randn({300, 8, 128}, options);
  std::vector<TableRange> ranges;
  for (int64_t b = 0; b < 300; b += 1 + b % 3)
    ranges.push_back({{at::randn({1, 1 + b * 7 % 200, 128}, options)}, b, 1});
  for (const bool all : {true, false}) {
    if (!all) ranges.resize(2);
    const ContextTable table({query.device(), at::kBFloat16, 300, 8, 128}, ranges);
    at::Tensor expected = at::zeros({300, 8, 128}, options.dtype(at::kDouble));
    for (const TableRange& range : ranges)
      expected[range.first] = formula(query.narrow(0, range.first, 1), range.context, 0.1)[0];
    const at::Tensor found = latent_attention(query, table, 0.1).to(at::kDouble);
    EXPECT_LE((found - expected).norm().item<double>(), 4e-3 * expected.norm().item<double>());
  }
}

}  // namespace
}  // namespace cepe
