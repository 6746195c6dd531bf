#include "train/batches.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "base/temporary_directory.h"
#include "data/corpora.h"
#include "train/sample_shards.h"

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
  for (auto member : {&Batch::ids_BML, &Batch::mask_BML, &Batch::decoder_BT1, &Batch::scored_N, &Batch::weight_N}) {
    if ((a.*member).defined() != (b.*member).defined()) return false;
    if ((a.*member).defined() && !at::equal(a.*member, b.*member)) return false;
  }
  return a.weight == b.weight;
}

bool same(const std::vector<Batch>& a, const std::vector<Batch>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Batch& x, const Batch& y) { return same(x, y); });
}

std::vector<int64_t> counted(int64_t first, int64_t count) {
  std::vector<int64_t> tokens(static_cast<size_t>(count));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

TEST(Batches, DecoderFollowsTheNearestChunks) {
  const TrainConfig config = small_config();
  ASSERT_EQ(config.span_tokens(), 3 * 4 + 6 + 1);
  const std::vector<int64_t> tokens = counted(0, 38);
  const Batch all =
      lay_out(config, {plain_sample(config, tokens.data(), 3), plain_sample(config, tokens.data() + 19, 3)});
  EXPECT_TRUE(at::equal(all.ids_BML[0].view({-1}), at::arange(0, 12)));
  EXPECT_TRUE(at::equal(all.ids_BML[1][1], at::arange(23, 27)));
  EXPECT_TRUE(at::equal(all.decoder_BT1[1], at::arange(31, 38)));
  EXPECT_FALSE(all.mask_BML.defined() || all.scored_N.defined() || all.weight_N.defined());
  EXPECT_EQ(all.weight, 12);
  EXPECT_EQ(all.tokens(), 36);
  const Batch near = lay_out(config, {plain_sample(config, tokens.data(), 1)});  // those next to the decoder's part
  EXPECT_TRUE(at::equal(near.ids_BML[0].view({-1}), at::arange(8, 12)));
  EXPECT_TRUE(at::equal(near.decoder_BT1[0], all.decoder_BT1[0]));
}

TEST(Batches, WarmupReadsTheSameTokens) {
  TrainConfig config = small_config();
  config.stage = Stage::warmup;
  config.decoder_tokens = 12;
  ASSERT_EQ(config.span_tokens(), 13);
  const std::vector<int64_t> tokens = counted(13, 13);
  const Batch batch = lay_out(config, {plain_sample(config, tokens.data(), 3)});
  EXPECT_TRUE(at::equal(batch.ids_BML.view({1, 12}), batch.decoder_BT1.narrow(1, 0, 12)));
  EXPECT_TRUE(at::equal(batch.decoder_BT1[0], at::arange(13, 26)));
}

// What is padded is masked, and not scored.
TEST(Batches, SamplesOfAllSizesShareABatch) {
  const TrainConfig config = small_config();
  Sample bare{counted(50, 4), {}, {0, 2, 0.5f}}, short_one{counted(60, 8), {3, 2}, {0, 1}},
      masked{counted(70, 4 + 6), {4, 0}, {0, 1, 1, 1, 0}};
  const Batch batch = lay_out(config, {bare, short_one, masked});
  ASSERT_EQ(batch.ids_BML.sizes(), (std::vector<int64_t>{3, 2, 4}));
  EXPECT_EQ(batch.mask_BML[0].sum().item<int64_t>(), 0);
  EXPECT_TRUE(at::equal(batch.mask_BML[1].sum(-1), at::tensor({3, 2}, at::kLong)));
  EXPECT_TRUE(at::equal(batch.mask_BML[2].sum(-1), at::tensor({4, 0}, at::kLong)));
  EXPECT_TRUE(at::equal(batch.ids_BML[1].masked_select(batch.mask_BML[1]), at::arange(60, 65)));
  EXPECT_TRUE(at::equal(batch.encoded_R, at::tensor({2, 3, 4}, at::kLong)));
  const int64_t T = batch.decoder_BT1.size(1) - 1;
  ASSERT_EQ(T, 6);  // five positions, padded to no more than decoder_tokens
  EXPECT_TRUE(at::equal(batch.decoder_BT1[0].narrow(0, 0, 4), at::arange(50, 54)));
  EXPECT_TRUE(at::equal(batch.decoder_BT1[1].narrow(0, 0, 3), at::arange(65, 68)));
  EXPECT_TRUE(at::equal(batch.decoder_BT1[2].narrow(0, 0, 6), at::arange(74, 80)));
  EXPECT_TRUE(at::equal(batch.scored_N, at::tensor({1, 2, 7, 13, 14, 15}, at::kLong)));
  EXPECT_TRUE(at::equal(batch.weight_N, at::tensor({2.0f, 0.5f, 1.0f, 1.0f, 1.0f, 1.0f})));
  EXPECT_EQ(batch.weight, 6.5);
  EXPECT_EQ(batch.tokens(), 3 + (5 + 2) + (4 + 5));
  EXPECT_EQ(batch.shapes[2].scored_tokens, 3);
  EXPECT_FALSE(lay_out(config, {bare}).ids_BML.defined());
}

// 17 chunks with a token among 34: rounded up to 18, with the first that has none.
TEST(Batches, ChunksWithoutATokenAreEncodedOnlyToRoundTheirNumber) {
  const TrainConfig config = small_config();
  const Sample one{counted(0, 1 + 4), {1}, {}}, many{counted(0, 16 + 4), std::vector<int64_t>(16, 1), {}};
  Sample none{counted(0, 4), {0, 0, 0}, {}};
  const Batch batch = lay_out(config, {one, many});
  ASSERT_EQ(batch.ids_BML.size(1), 16);
  const at::Tensor expected = at::cat({at::tensor({0}, at::kLong), at::arange(16, 32), at::tensor({1}, at::kLong)});
  EXPECT_TRUE(at::equal(batch.encoded_R, expected));
  EXPECT_FALSE(lay_out(config, {many, many}).encoded_R.defined());
  EXPECT_FALSE(lay_out(config, {none}).encoded_R.defined());
}

TEST(Batches, CutsWithinTheSizeOfPlainSamples) {
  TrainConfig config = small_config();  // 4 samples of 3 chunks and 6 positions
  std::vector<Sample> samples;
  std::vector<size_t> indices;
  for (int64_t i = 0; i < 40; ++i) {
    const int64_t chunks = i == 17 ? 30 : (7 * i) % 5, positions = 1 + (5 * i) % 7;
    samples.push_back({counted(0, chunks * 2 + positions + 1), std::vector<int64_t>(chunks, 2), {}});
    indices.push_back(static_cast<size_t>(i));
  }
  std::vector<size_t> seen;
  size_t last_chunks = 0;
  for (const std::vector<size_t>& batch : cut_into_batches(config, samples, indices, kGpuBatchTokens)) {
    int64_t chunks = 0, positions = 0;
    for (size_t i : batch) {
      EXPECT_GE(samples[i].chunks.size(), last_chunks);
      last_chunks = samples[i].chunks.size();
      chunks = std::max(chunks, static_cast<int64_t>(last_chunks));
      positions = std::max(positions, samples[i].positions());
      seen.push_back(i);
    }
    const int64_t size = static_cast<int64_t>(batch.size());
    EXPECT_TRUE(size == 1 || (size * chunks <= 12 && size * positions <= 24));
  }
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(seen, indices);
  // Samples of one size: micro_batch at a time, in their order.
  std::vector<Sample> plain(8, {counted(0, 19), {4, 4, 4}, {}});
  EXPECT_EQ(cut_into_batches(config, plain, {0, 1, 2, 3, 4, 5, 6, 7}, kGpuBatchTokens),
            (std::vector<std::vector<size_t>>{{0, 1, 2, 3}, {4, 5, 6, 7}}));
}

TEST(Batches, LargerModelsPadLess) {
  EXPECT_NEAR(static_cast<double>(gpu_batch_tokens(3.61e8)), kGpuBatchTokens, 500);  // SmolLM2's parts
  EXPECT_EQ(gpu_batch_tokens(2.4e10), 250);                                          // Llama-2-7B's
  EXPECT_EQ(gpu_batch_tokens(1e15), 1);
}

// Two short samples beside two long ones would be padded to 128 chunks of 256; beside two of three chunks padding costs
// less than a batch more.
TEST(Batches, KeepsLongSamplesFromShortOnes) {
  TrainConfig config = small_config();
  config.chunk_length = 256;
  config.context_chunks = {100};
  config.micro_batch = 8;
  config.chunk_length = 2048;  // what a padded chunk costs counts beside a batch
  const auto sample = [](size_t chunks) {
    return Sample{counted(0, static_cast<int64_t>(chunks) + 4), std::vector<int64_t>(chunks, 1), {}};
  };
  const std::vector<Sample> samples = {sample(100), sample(1), sample(100), sample(1)};
  EXPECT_EQ(cut_into_batches(config, samples, {0, 1, 2, 3}, kGpuBatchTokens),
            (std::vector<std::vector<size_t>>{{1, 3}, {0, 2}}));
  // Three samples that differ are no power of two: batches of two and one, whose shapes come again.
  const std::vector<Sample> three = {sample(5), sample(6), sample(7)};
  EXPECT_EQ(cut_into_batches(config, three, {0, 1, 2}, kGpuBatchTokens).size(), 2u);
  EXPECT_EQ(lay_out(config, {sample(5), sample(7)}).ids_BML.size(1), 8);
  EXPECT_EQ(lay_out(config, {sample(5)}).ids_BML.size(1), 6);
  config.context_chunks = {7};  // padding stays within a plain sample, and beyond one it rounds again
  EXPECT_EQ(lay_out(config, {sample(5), sample(7)}).ids_BML.size(1), 7);
  EXPECT_EQ(lay_out(config, {sample(5), sample(9)}).ids_BML.size(1), 12);
  config.context_chunks = {100};
  const std::vector<Sample> near = {sample(3), sample(1), sample(3), sample(1)};
  EXPECT_EQ(cut_into_batches(config, near, {0, 1, 2, 3}, kGpuBatchTokens),
            (std::vector<std::vector<size_t>>{{1, 3, 0, 2}}));
  // Where a batch costs nothing of its own, as on a CPU, only padding counts.
  EXPECT_EQ(cut_into_batches(config, near, {0, 1, 2, 3}, 0), (std::vector<std::vector<size_t>>{{1, 3}, {0, 2}}));
}

TEST(Batches, MaskStatistics) {
  const int64_t samples = 100, M = 200, L = 8;
  std::map<int64_t, double> share;
  for (uint64_t i = 0; i < samples; ++i) {
    Sample sample{counted(0, M * L + 3), std::vector<int64_t>(M, L), {}}, again = sample;
    mask_chunks(sample, 0.3, {1, 2, i});
    mask_chunks(again, 0.3, {1, 2, i});
    EXPECT_EQ(sample.tokens, again.tokens);
    ASSERT_EQ(static_cast<int64_t>(sample.tokens.size()), sample.context_tokens() + 3);
    // Only ends are masked: what is left of a chunk is its beginning.
    int64_t at = 0;
    for (int64_t c = 0; c < M; ++c) {
      const int64_t length = sample.chunks[static_cast<size_t>(c)];
      for (int64_t t = 0; t < length; ++t) ASSERT_EQ(sample.tokens[static_cast<size_t>(at++)], c * L + t);
      share[length] += 1.0 / static_cast<double>(samples * M);
    }
    EXPECT_EQ(sample.tokens.back(), M * L + 2);
  }
  EXPECT_NEAR(share[L], 0.7, 0.02);
  EXPECT_NEAR(share[0], 0.03, 0.006);
  for (int64_t kept = 1; kept < L; ++kept) EXPECT_NEAR(share[kept], 0.27 / 7, 0.008) << kept;
}

class BuilderTest : public testing::Test {
 protected:
  BuilderTest() {
    write_corpus(directory_ / "plain.tokens", {1000, {60, 90, 40}});
    write_samples(directory_ / "ask.tokens", planned_samples(17), 1000);
    plain_ = open_corpus({(directory_ / "plain.tokens").string()});
    ask_ = open_corpus({(directory_ / "ask.tokens").string()}, ShardKind::samples);
    config_ = small_config();
    config_.chunk_length = 8;
    config_.context_chunks = {1, 3};
    config_.mask_chunks = 0.5;
    config_.ask_share = 0.4;
    config_.ask_weight = 3;
  }
  const TemporaryDirectory directory_;
  Corpus plain_, ask_;
  TrainConfig config_;
};

TEST_F(BuilderTest, IsAFunctionOfStepAndThePrefetcherGivesTheSame) {
  const BatchBuilder builder(config_, plain_, ask_);
  std::map<size_t, int64_t> counts;
  std::vector<std::vector<Batch>> expected;
  for (int64_t step = 3; step < 40; ++step) {
    expected.push_back(builder.build(step).batches);
    EXPECT_TRUE(same(expected.back(), BatchBuilder(config_, plain_, ask_).build(step).batches));
    for (const Sample& sample : builder.draw(step)) counts[sample.chunks.size()] += sample.weights.empty();
  }
  EXPECT_FALSE(same(expected[0], expected[1]));
  EXPECT_NEAR(static_cast<double>(counts[1]), 37 * 4.8 / 2, 30);
  EXPECT_EQ(counts[2], 0);
  Prefetcher prefetcher(builder, {3, 40}, false);
  for (const std::vector<Batch>& batches : expected) EXPECT_TRUE(same(batches, prefetcher.next().batches));
}

// What a batch holds of each sample, without padding: the chunks' tokens, the decoder's, and the weights of its labels.
void add_rows(const Batch& batch, std::multiset<std::vector<double>>& rows) {
  const int64_t T = batch.decoder_BT1.size(1) - 1;
  at::Tensor weight_L = at::zeros({batch.decoder_BT1.size(0) * T}, at::kFloat);
  const at::Tensor scored = batch.scored_N.defined() ? batch.scored_N : at::arange(weight_L.numel());
  weight_L.index_put_({scored}, batch.weight_N.defined() ? batch.weight_N : at::ones({scored.numel()}));
  for (int64_t i = 0; i < batch.decoder_BT1.size(0); ++i) {
    std::vector<at::Tensor> parts;
    if (batch.ids_BML.defined()) {
      const at::Tensor mask = batch.mask_BML.defined() ? batch.mask_BML[i] : at::ones_like(batch.ids_BML[i], at::kBool);
      parts = {batch.ids_BML[i].masked_select(mask), mask.sum(-1).masked_select(mask.sum(-1) > 0)};
    }
    const int64_t positions = batch.shapes[static_cast<size_t>(i)].decoder_tokens;
    parts.push_back(batch.decoder_BT1[i].narrow(0, 0, positions + 1));
    parts.push_back(weight_L.narrow(0, i * T, positions));
    for (at::Tensor& part : parts) part = part.to(at::kDouble);
    const at::Tensor row = at::cat(parts);
    rows.emplace(row.data_ptr<double>(), row.data_ptr<double>() + row.numel());
  }
}

// A step's samples, their number and weights do not depend on how it is cut.
TEST_F(BuilderTest, AMicroBatchChangesNoSample) {
  int64_t asked = 0;
  for (int64_t step = 0; step < 50; ++step) {
    std::vector<std::multiset<std::vector<double>>> rows;
    std::vector<double> weights;
    for (int64_t micro_batch : {1, 2, 8}) {
      config_.micro_batch = micro_batch;
      const BatchBuilder builder(config_, plain_, ask_);
      for (const Sample& sample : builder.draw(step)) asked += micro_batch == 1 && !sample.weights.empty();
      double weight = 0;
      std::multiset<std::vector<double>> held;
      for (const Batch& batch : builder.build(step).batches) {
        weight += batch.weight;
        add_rows(batch, held);
      }
      EXPECT_EQ(held.size(), 8u);
      rows.push_back(held);
      weights.push_back(weight);
    }
    EXPECT_EQ(rows[0], rows[1]);
    EXPECT_EQ(rows[0], rows[2]);
    EXPECT_EQ(weights[0], weights[1]);
    EXPECT_EQ(weights[0], weights[2]);
  }
  EXPECT_NEAR(static_cast<double>(asked), 0.4 * 8 * 50, 1);
}

// Ranks have the samples of a step between them, each once, about as many tokens each, and all know the step's weight.
TEST_F(BuilderTest, RanksShareTheSamplesOfAStep) {
  config_.batch = 8;
  for (int64_t step = 0; step < 20; ++step) {
    const StepBatches whole = BatchBuilder(config_, plain_, ask_).build(step);
    std::multiset<std::vector<double>> all, shared;
    double weight = 0, answers = 0;
    for (const Batch& batch : whole.batches) {
      add_rows(batch, all);
      weight += batch.weight;
      answers += batch.asked ? batch.weight : 0;
    }
    EXPECT_DOUBLE_EQ(whole.weight, weight);
    EXPECT_DOUBLE_EQ(whole.answers_weight, answers);
    int64_t largest = 0;
    for (const SampleShape& shape : whole.shapes)
      largest = std::max(largest, shape.context_tokens + shape.decoder_tokens);
    std::vector<int64_t> tokens(3, 0);
    for (int64_t rank = 0; rank < 3; ++rank) {
      const StepBatches own = BatchBuilder(config_, plain_, ask_, {0, {rank, 3}}).build(step);
      EXPECT_EQ(own.weight, whole.weight);
      EXPECT_EQ(own.answers_weight, whole.answers_weight);
      EXPECT_EQ(own.shapes.size(), whole.shapes.size());
      for (const Batch& batch : own.batches) {
        add_rows(batch, shared);
        tokens[static_cast<size_t>(rank)] += batch.tokens();
      }
    }
    EXPECT_EQ(shared, all);
    const auto [least, most] = std::minmax_element(tokens.begin(), tokens.end());
    EXPECT_LE(*most - *least, largest);  // the largest goes first: no rank is ahead by more than one sample
  }
}

// A run that is stopped within an epoch and goes on with another number of ranks, opened anew: every step has the
// samples that one rank would have had without a stop. (SampleSamplerTest: an epoch has each once.)
TEST_F(BuilderTest, AStopWithinAnEpochAndOtherRanksChangeNoSample) {
  constexpr int64_t kSteps = 24, kStop = 8;  // 3.2 of 17 samples a step: the stop is within the second epoch
  const auto rows_of = [&](const BatchBuilder& builder, int64_t step) {
    std::multiset<std::vector<double>> rows;
    for (const Batch& batch : builder.build(step).batches) add_rows(batch, rows);
    return rows;
  };
  const BatchBuilder whole(config_, plain_, ask_);
  for (const auto& [before, after] : std::vector<std::pair<int64_t, int64_t>>{{1, 2}, {2, 1}, {1, 1}}) {
    for (int64_t step = 0; step < kSteps; ++step) {
      const int64_t size = step < kStop ? before : after;
      std::multiset<std::vector<double>> shared;
      for (int64_t rank = 0; rank < size; ++rank) {
        const Corpus plain = open_corpus({(directory_ / "plain.tokens").string()});
        const Corpus ask = open_corpus({(directory_ / "ask.tokens").string()}, ShardKind::samples);
        const BatchBuilder builder(config_, plain, ask, {0, {rank, size}});
        shared.merge(rows_of(builder, step));
      }
      EXPECT_EQ(shared, rows_of(whole, step)) << step << " of " << before << " and " << after;
    }
  }
}

TEST_F(BuilderTest, EverySampleMayBeAsked) {
  config_.ask_share = 1;
  const BatchBuilder builder(config_, {}, ask_);
  for (const Sample& sample : builder.draw(3)) EXPECT_FALSE(sample.weights.empty());
  EXPECT_EQ(builder.draw(3).size(), 8u);
}

TEST(Batches, PrefetcherEndsWhileWorkIsLeft) {
  const TemporaryDirectory directory;
  write_corpus(directory / "a.tokens", {1000, {60}});
  const Corpus corpus = open_corpus({(directory / "a.tokens").string()});
  const TrainConfig config = small_config();
  const BatchBuilder builder(config, corpus, {});
  Prefetcher prefetcher(builder, {0, 1000000}, false);
  EXPECT_EQ(prefetcher.next().batches[0].ids_BML.size(0), 4);
}

}  // namespace
}  // namespace cepe
