#include "train/samples/sample_sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "base/error.h"
#include "base/temporary_directory.h"
#include "train/sample_shards.h"

namespace cepe {
namespace {

TEST(Permutation, IsOneForEveryCountAndKey) {
  for (int64_t count : {1, 2, 3, 4, 7, 8, 100, 1000}) {
    std::set<std::vector<int64_t>> orders;
    for (uint64_t key = 0; key < 20; ++key) {
      std::vector<int64_t> order(static_cast<size_t>(count));
      for (int64_t n = 0; n < count; ++n) order[static_cast<size_t>(n)] = permuted(n, count, key);
      orders.insert(order);
      std::sort(order.begin(), order.end());
      for (int64_t n = 0; n < count; ++n) ASSERT_EQ(order[static_cast<size_t>(n)], n) << count;
    }
    if (count >= 100) {
      EXPECT_EQ(orders.size(), 20u);
    }
  }
  EXPECT_THROW(permuted(3, 3, 0), Error);
}

// Where each number lands over many keys: every place is as likely.
TEST(Permutation, PlacesAreEquallyLikely) {
  constexpr int64_t kCount = 10, kKeys = 20000;
  std::vector<double> at(kCount * kCount);
  for (uint64_t key = 0; key < kKeys; ++key) {
    for (int64_t n = 0; n < kCount; ++n) ++at[static_cast<size_t>(n * kCount + permuted(n, kCount, key))];
  }
  double chi = 0;
  for (double seen : at) chi += std::pow(seen - kKeys / kCount, 2) / (kKeys / kCount);
  EXPECT_LT(chi, 140);  // 81 degrees of freedom: 81 in the mean, 140 once in 10,000
}

class SampleSamplerTest : public testing::Test {
 protected:
  SampleSamplerTest() {
    write_samples(directory_ / "a.tokens", planned_samples(30));
    write_samples(directory_ / "b.tokens", planned_samples(23));
    corpus_ = open_corpus({directory_.path().string()}, ShardKind::samples);
  }
  const TemporaryDirectory directory_;
  Corpus corpus_;
};

TEST_F(SampleSamplerTest, EverySampleOnceAnEpochInAnotherOrder) {
  const SampleSampler sampler(corpus_, {.samples_per_step = 2.5, .weight = 1, .seed = 5});
  std::vector<int64_t> seen;
  for (int64_t step = 0; seen.size() < 3 * 53; ++step) {
    for (int64_t i = 0; i < sampler.count(step); ++i) seen.push_back(sampler.choose(step, i));
  }
  std::set<std::vector<int64_t>> orders;
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    std::vector<int64_t> order(seen.begin() + epoch * 53, seen.begin() + (epoch + 1) * 53);
    orders.insert(order);
    std::sort(order.begin(), order.end());
    for (int64_t i = 0; i < 53; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
  }
  EXPECT_EQ(orders.size(), 3u);
}

// Needles twice, chains two times in five.
TEST_F(SampleSamplerTest, WeightsOfKindsChangeHowOftenAnEpochTakesThem) {
  const SampleSampler sampler(
      corpus_, {.samples_per_step = 1, .weight = 1, .seed = 5, .domain_weights = {"needle=2", "chain=0.4"}});
  std::vector<int64_t> taken(corpus_.documents.size(), 0);
  int64_t needles = 0, chains = 0;
  for (const Corpus::Document& document : corpus_.documents)
    (corpus_.domains[static_cast<size_t>(document.domain)] == "needle" ? needles : chains) += 1;
  const int64_t epoch = 2 * needles + chains * 2 / 5;
  for (int64_t step = 0; step < epoch; ++step) ++taken[static_cast<size_t>(sampler.choose(step, 0))];
  int64_t chosen = 0;
  for (size_t i = 0; i < taken.size(); ++i) {
    const bool needle = corpus_.domains[static_cast<size_t>(corpus_.documents[i].domain)] == "needle";
    if (needle) {
      EXPECT_EQ(taken[i], 2);
    } else {
      EXPECT_LE(taken[i], 1);
      chosen += taken[i];
    }
  }
  EXPECT_EQ(chosen, chains * 2 / 5);
  const auto refusal = [&](const std::vector<std::string>& weights) {
    return error_of<Error>(
        [&] { SampleSampler(corpus_, {.samples_per_step = 1, .weight = 1, .seed = 5, .domain_weights = weights}); });
  };
  EXPECT_NE(refusal({"neddle=2"}).find("data.ask_weights: the shards hold no domain \"neddle\""), std::string::npos);
  EXPECT_NE(refusal({"needle=0", "chain=0"}).find("no sample is left"), std::string::npos);
  EXPECT_NE(refusal({"needle=1000"}).find("at most 100"), std::string::npos);
}

TEST_F(SampleSamplerTest, CountsHaveTheirMean) {
  for (double mean : {0.3, 1.0, 2.5, 7.75, 16.0}) {
    for (uint64_t seed = 1; seed < 20; ++seed) {
      const SampleSampler sampler(corpus_, {.samples_per_step = mean, .weight = 1, .seed = seed});
      int64_t sum = 0;
      for (int64_t step = 0; step < 500; ++step) {
        const int64_t count = sampler.count(step);
        EXPECT_TRUE(count == static_cast<int64_t>(mean) || count == static_cast<int64_t>(std::ceil(mean)));
        sum += count;
        EXPECT_LT(std::abs(static_cast<double>(sum) - mean * static_cast<double>(step + 1)), 1);
      }
    }
  }
}

// step x 16 passes 2^44 here, where the sum with the phase is rounded coarser than before: one seed in a thousand would
// take a sample more.
TEST_F(SampleSamplerTest, AWholeNumberIsTakenExactly) {
  const int64_t step = (int64_t{1} << 40) - 1;
  for (uint64_t seed = 0; seed < 20000; ++seed)
    ASSERT_EQ(SampleSampler(corpus_, {.samples_per_step = 16, .weight = 1, .seed = seed}).count(step), 16) << seed;
}

TEST_F(SampleSamplerTest, ReadsTokensChunksAndWeights) {
  write_samples(directory_ / "one.tokens", {{{3, 2}, {{2, 0}, {3, 1.5f}}, "x"}, {{}, {{2, 2}, {2, 0}}, "y"}});
  const Corpus corpus = open_corpus({(directory_ / "one.tokens").string()}, ShardKind::samples);
  const Sample sample = read_sample(corpus, 0, 2);
  EXPECT_EQ(sample.tokens, (std::vector<int64_t>{0, 3, 6, 9, 12, 15, 18, 21, 24, 27}));
  EXPECT_EQ(sample.chunks, (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(sample.context_tokens(), 5);
  EXPECT_EQ(sample.positions(), 4);
  EXPECT_EQ(sample.weights, (std::vector<float>{0, 3, 3, 3}));  // of the second decoder token on
  const Sample bare = read_sample(corpus, 1, 1);
  EXPECT_EQ(bare.tokens, (std::vector<int64_t>{11, 14, 17, 20}));
  EXPECT_TRUE(bare.chunks.empty());
  EXPECT_EQ(bare.weights, (std::vector<float>{2, 0, 0}));

  EXPECT_EQ(check_samples(corpus, {3, 4}), 4);
  const auto refusal = [&](const SampleLimits& limits) {
    return error_of<Error>([&] { check_samples(corpus, limits); });
  };
  EXPECT_NE(refusal({2, 4}).find("one.tokens: sample 0 has a chunk of 3 tokens"), std::string::npos);
  EXPECT_NE(refusal({3, 3}).find("one.tokens: sample 0: the decoder would read 4 tokens, its window holds 3"),
            std::string::npos);
  SampleLimits limits{3, 4};
  limits.context_tokens = 6;
  EXPECT_EQ(check_samples(corpus, limits), 4);
  limits.context_tokens = 5;  // of two chunks of 3
  EXPECT_NE(refusal(limits).find("one.tokens: sample 0 has 2 chunks, which take 3 tokens each"), std::string::npos);
  limits = {3, 4};
  for (float factor : {1e-45f, 3e38f}) {  // a quarter of the one, twice the other: out of float's range
    limits.factor = factor;
    write_samples(directory_ / "one.tokens", {{{}, {{1, 0}, {2, factor < 1 ? 0.25f : 2.0f}}, "x"}});
    const Corpus one = open_corpus({(directory_ / "one.tokens").string()}, ShardKind::samples);
    EXPECT_NE(error_of<Error>([&] { check_samples(one, limits); }).find("one.tokens: sample 0 has the weight"),
              std::string::npos);
  }
  const std::string other = error_of<Error>([&] { open_corpus({(directory_ / "one.tokens").string()}); });
  EXPECT_NE(other.find("a token shard of samples, expected one of documents"), std::string::npos);
}

}  // namespace
}  // namespace cepe
