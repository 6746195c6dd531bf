#include "train/batches.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "base/temporary_directory.h"
#include "data/corpora.h"

namespace cepe {
namespace {

TrainConfig small_config() {
  TrainConfig config;
  config.chunk_length = 4;
  config.context_chunks = {3};
  config.decoder_tokens = 6;
  config.batch = 8;
  config.micro_batch = 4;
  return config;
}

bool same(const Batch& a, const Batch& b) {
  if (a.mask_BML.defined() != b.mask_BML.defined()) return false;
  return at::equal(a.ids_BML, b.ids_BML) && at::equal(a.decoder_BT1, b.decoder_BT1) &&
         (!a.mask_BML.defined() || at::equal(a.mask_BML, b.mask_BML));
}

TEST(Batches, DecoderFollowsTheNearestChunks) {
  const TrainConfig config = small_config();
  ASSERT_EQ(config.span_tokens(), 3 * 4 + 6 + 1);
  std::vector<int64_t> tokens(38);
  std::iota(tokens.begin(), tokens.end(), 0);
  const Batch all = lay_out(config, tokens, 3);
  EXPECT_TRUE(at::equal(all.ids_BML[0].view({-1}), at::arange(0, 12)));
  EXPECT_TRUE(at::equal(all.ids_BML[1][1], at::arange(23, 27)));
  EXPECT_TRUE(at::equal(all.decoder_BT1[1], at::arange(31, 38)));
  const Batch near = lay_out(config, tokens, 1);  // fewer chunks: those next to the decoder's part
  EXPECT_TRUE(at::equal(near.ids_BML[0].view({-1}), at::arange(8, 12)));
  EXPECT_TRUE(at::equal(near.decoder_BT1, all.decoder_BT1));
}

TEST(Batches, WarmupReadsTheSameTokens) {
  TrainConfig config = small_config();
  config.stage = "warmup";
  config.decoder_tokens = 12;
  ASSERT_EQ(config.span_tokens(), 13);
  std::vector<int64_t> tokens(26);
  std::iota(tokens.begin(), tokens.end(), 0);
  const Batch batch = lay_out(config, tokens, 3);
  EXPECT_TRUE(at::equal(batch.ids_BML.view({2, 12}), batch.decoder_BT1.narrow(1, 0, 12)));
  EXPECT_TRUE(at::equal(batch.decoder_BT1[1], at::arange(13, 26)));
}

TEST(Batches, MaskStatistics) {
  const int64_t B = 100, M = 200, L = 8;
  const at::Tensor ids = at::zeros({B, M, L}, at::kLong);
  const at::Tensor mask = draw_chunk_mask(ids, 0.3, {1, 2, 3});
  EXPECT_TRUE(at::equal(mask, draw_chunk_mask(ids, 0.3, {1, 2, 3})));
  EXPECT_FALSE(at::equal(mask, draw_chunk_mask(ids, 0.3, {1, 2, 4})));
  const at::Tensor real = mask.view({-1, L}).sum(1);
  // Only suffixes are masked: what is real is a prefix.
  const at::Tensor prefix = at::arange(L).unsqueeze(0).lt(real.unsqueeze(1));
  EXPECT_TRUE(at::equal(prefix, mask.view({-1, L})));
  const double chunks = B * M;
  std::map<int64_t, double> share;
  for (int64_t kept = 0; kept <= L; ++kept)
    share[kept] = static_cast<double>(real.eq(kept).sum().item<int64_t>()) / chunks;
  EXPECT_NEAR(share[L], 0.7, 0.02);
  EXPECT_NEAR(share[0], 0.03, 0.006);
  for (int64_t kept = 1; kept < L; ++kept) EXPECT_NEAR(share[kept], 0.27 / 7, 0.008) << kept;
}

TEST(Batches, BuilderIsAFunctionOfStepAndThePrefetcherGivesTheSame) {
  const TemporaryDirectory directory;
  write_corpus(directory / "a.tokens", {1000, {60, 90, 40}});
  const Corpus corpus = open_corpus({(directory / "a.tokens").string()});
  TrainConfig config = small_config();
  config.context_chunks = {1, 3};
  config.mask_chunks = 0.5;
  const BatchBuilder builder(config, corpus);
  std::map<int64_t, int64_t> counts;
  std::vector<Batch> expected;
  for (int64_t step = 3; step < 40; ++step) {
    for (int64_t micro = 0; micro < 2; ++micro) {
      expected.push_back(builder.build(step, micro));
      EXPECT_TRUE(same(expected.back(), BatchBuilder(config, corpus).build(step, micro)));
      ++counts[expected.back().ids_BML.size(1)];
    }
  }
  EXPECT_FALSE(same(expected[0], expected[1]));
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_NEAR(static_cast<double>(counts[1]), 37, 25);
  Prefetcher prefetcher(builder, {3, 40, 2}, false);
  for (const Batch& batch : expected) EXPECT_TRUE(same(batch, prefetcher.next()));
}

TEST(Batches, PrefetcherEndsWhileWorkIsLeft) {
  const TemporaryDirectory directory;
  write_corpus(directory / "a.tokens", {1000, {60}});
  const Corpus corpus = open_corpus({(directory / "a.tokens").string()});
  const TrainConfig config = small_config();
  const BatchBuilder builder(config, corpus);
  Prefetcher prefetcher(builder, {0, 1000000, 2}, false);
  EXPECT_EQ(prefetcher.next().ids_BML.size(0), 4);
}

}  // namespace
}  // namespace cepe
