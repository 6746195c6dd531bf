#include "train/samples/span_sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "base/error.h"
#include "base/random.h"
#include "base/temporary_directory.h"
#include "data/corpora.h"

namespace cepe {
namespace {

class SpanSamplerTest : public testing::Test {
 protected:
  Corpus corpus(const CorpusPlan& plan) {
    write_corpus(directory_ / "a.tokens", plan);
    return open_corpus({directory_.path().string()});
  }
  const TemporaryDirectory directory_;
};

SpanSamplerOptions options(int64_t span) {
  SpanSamplerOptions o;
  o.span_tokens = span;
  return o;
}

TEST_F(SpanSamplerTest, DrawsAreAFunctionOfSeedStepAndSample) {
  const Corpus c = corpus({97, {50, 80, 20, 200}});
  SpanSamplerOptions mixed = options(16);
  mixed.concatenated = 0.5;
  const SpanSampler a(c, mixed), b(c, mixed);
  mixed.seed = 2;
  const SpanSampler other(c, mixed);
  std::vector<int64_t> x(16), y(16), z(16);
  int64_t different_seed = 0, different_step = 0;
  for (uint64_t step = 0; step < 20; ++step) {
    for (uint64_t sample = 0; sample < 5; ++sample) {
      EXPECT_EQ(a.draw(step, sample, x.data()), b.draw(step, sample, y.data()));
      EXPECT_EQ(x, y);
      other.draw(step, sample, z.data());
      different_seed += x != z;
      a.draw(step + 100, sample, z.data());
      different_step += x != z;
    }
  }
  EXPECT_GT(different_seed, 90);
  EXPECT_GT(different_step, 90);
}

TEST_F(SpanSamplerTest, FilteredSpansLieInOneDocumentUniformly) {
  const CorpusPlan plan{1000, {30, 9, 20, 10}};  // spans of 10: 21 + 0 + 11 + 1 places
  const Corpus c = corpus(plan);
  const SpanSampler sampler(c, options(10));
  EXPECT_EQ(sampler.filtered_documents(), 3);
  std::map<std::pair<int64_t, int64_t>, int64_t> seen;
  std::vector<int64_t> out(10);
  const int64_t draws = 33000;
  for (int64_t i = 0; i < draws; ++i) {
    const int64_t document = sampler.draw(static_cast<uint64_t>(i), 0, out.data());
    const int64_t offset = out[0] - 7 * document;
    ASSERT_TRUE(offset >= 0 && offset + 10 <= plan.lengths[static_cast<size_t>(document)]);
    for (int64_t t = 0; t < 10; ++t) ASSERT_EQ(out[static_cast<size_t>(t)], planned_token(plan, document, offset + t));
    ++seen[{document, offset}];
  }
  EXPECT_EQ(seen.size(), 33u);  // every place, each 1000 times but for chance (6 standard deviations: 190)
  for (const auto& [place, count] : seen) EXPECT_NEAR(static_cast<double>(count), 1000, 190);
}

TEST_F(SpanSamplerTest, ConcatenatedSpansRunThroughDocuments) {
  const CorpusPlan plan{1000, {3, 4, 5, 6, 7}};
  const Corpus c = corpus(plan);
  SpanSamplerOptions o = options(9);
  o.filtered = 0;
  o.concatenated = 1;
  const SpanSampler sampler(c, o);
  std::map<int64_t, std::set<int64_t>> next;  // document -> the documents that follow it
  std::map<int64_t, int64_t> starts;
  std::vector<int64_t> out(9);
  for (uint64_t i = 0; i < 5000; ++i) {
    const int64_t first = sampler.draw(i, 0, out.data());
    int64_t document = first, position = out[0] - 7 * first;
    ++starts[out[0]];
    ASSERT_TRUE(position >= 0 && position < plan.lengths[static_cast<size_t>(document)]);
    for (size_t t = 0; t < 9; ++t, ++position) {
      if (position == plan.lengths[static_cast<size_t>(document)]) {
        ASSERT_EQ(out[t] % 7, 0) << "a document starts at its first token";
        next[document].insert(out[t] / 7);
        document = out[t] / 7;
        position = 0;
      }
      ASSERT_EQ(out[t], planned_token(plan, document, position));
    }
  }
  ASSERT_EQ(next.size(), 5u);
  std::set<int64_t> followers;
  for (const auto& [document, set] : next) {
    EXPECT_EQ(set.size(), 1u);  // one fixed order
    followers.insert(*set.begin());
  }
  EXPECT_EQ(followers.size(), 5u);
  EXPECT_EQ(starts.size(), 25u);  // every token is a possible start
  for (const auto& [token, count] : starts) EXPECT_NEAR(static_cast<double>(count), 200, 85);
}

TEST_F(SpanSamplerTest, MixturesAndDomainWeights) {
  const Corpus c = corpus({1000, {100, 100, 5, 5}, {"books", "code"}});
  SpanSamplerOptions o = options(10);
  o.filtered = 2;
  o.concatenated = 1;
  o.domain_weights = {"code=3"};
  const SpanSampler sampler(c, o);
  std::map<int64_t, int64_t> seen;
  std::vector<int64_t> out(10);
  const int64_t draws = 30000;
  for (int64_t i = 0; i < draws; ++i) ++seen[sampler.draw(0, static_cast<uint64_t>(i), out.data())];
  const double n = draws;
  EXPECT_NEAR(static_cast<double>(seen[1]) / n, 2.0 / 3 * 0.75 + 1.0 / 3 * 300 / 420, 0.02);
  EXPECT_NEAR(static_cast<double>(seen[0]) / n, 2.0 / 3 * 0.25 + 1.0 / 3 * 100 / 420, 0.02);
  EXPECT_NEAR(static_cast<double>(seen[3]) / n, 1.0 / 3 * 15 / 420, 0.006);

  o.domain_weights = {};
  o.only_domain = 0;
  const SpanSampler books(c, o);
  for (uint64_t i = 0; i < 200; ++i) EXPECT_EQ(books.draw(0, i, out.data()) % 2, 0);
}

// Weights count tokens: at every place of a span, not where it starts alone, a domain's share is its tokens times its
// weight. Documents of all lengths, most of them shorter than a span.
TEST_F(SpanSamplerTest, WeightsCountTheTokensOfConcatenatedSpans) {
  CorpusPlan plan{60000, {}, {"a", "b", "c"}};
  std::vector<int64_t> tokens(3);
  for (int64_t d = 0; d < 60; ++d) {
    plan.lengths.push_back(1 + (d * 37) % 90);
    tokens[static_cast<size_t>(d % 3)] += plan.lengths.back();
  }
  ShardWriter writer(directory_ / "a.tokens", {plan.vocabulary, 0});
  for (int64_t d = 0; d < 60; ++d) {  // the id tells the domain
    writer.add(
        std::vector<TokenId>(static_cast<size_t>(plan.lengths[static_cast<size_t>(d)]), static_cast<TokenId>(d % 3)),
        plan.domains[static_cast<size_t>(d % 3)]);
  }
  writer.commit();
  const Corpus c = open_corpus({directory_.path().string()});
  const int64_t span = 120, draws = 20000;
  for (const std::vector<double>& weights : {std::vector<double>{1, 1, 1}, {1, 0, 1}, {3, 1, 0.5}, {0, 0, 2}}) {
    SpanSamplerOptions o = options(span);
    o.filtered = 0;
    o.concatenated = 1;
    for (size_t d = 0; d < 3; ++d) o.domain_weights.push_back(plan.domains[d] + "=" + std::to_string(weights[d]));
    const SpanSampler sampler(c, o);
    std::vector<int64_t> out(static_cast<size_t>(span));
    std::vector<std::vector<int64_t>> seen(3, std::vector<int64_t>(3));  // place (first, middle, last), domain
    int64_t left_out = 0;
    for (int64_t i = 0; i < draws; ++i) {
      sampler.draw(static_cast<uint64_t>(i), 7, out.data());
      for (int64_t id : out) left_out += weights[static_cast<size_t>(id)] == 0;
      for (size_t place = 0; place < 3; ++place) ++seen[place][static_cast<size_t>(out[place * (span - 1) / 2])];
    }
    EXPECT_EQ(left_out, 0);
    double all = 0;
    for (size_t d = 0; d < 3; ++d) all += weights[d] * static_cast<double>(tokens[d]);
    for (size_t place = 0; place < 3; ++place) {
      for (size_t d = 0; d < 3; ++d) {
        const double share = weights[d] * static_cast<double>(tokens[d]) / all;
        const double error = std::sqrt(share * (1 - share) / static_cast<double>(draws));
        EXPECT_NEAR(static_cast<double>(seen[place][d]) / static_cast<double>(draws), share, 5 * error)
            << "place " << place << " domain " << d;
      }
    }
  }
}

TEST_F(SpanSamplerTest, EqualWeightsDrawWhatNoWeightsDraw) {
  const Corpus c = corpus({1000, {30, 9, 20, 10}, {"books", "code"}});
  SpanSamplerOptions o = options(25);
  o.filtered = o.concatenated = 1;
  const SpanSampler without(c, o);
  o.domain_weights = {"code=2", "books=2"};
  const SpanSampler with(c, o);
  std::vector<int64_t> x(25), y(25);
  for (uint64_t i = 0; i < 500; ++i) {
    EXPECT_EQ(without.draw(i, 0, x.data()), with.draw(i, 0, y.data()));
    EXPECT_EQ(x, y);
  }
}

TEST_F(SpanSamplerTest, DocumentsThatTwoCorporaShareAreFoundByContent) {
  write_corpus(directory_ / "train.tokens", {1000, {30, 9, 20, 10}});
  ShardWriter writer(directory_ / "valid.tokens", {1000, 0});  // of another domain, in another order
  const CorpusPlan plan{1000, {30, 9, 20, 10}};
  for (int64_t d : {2, 0}) {
    std::vector<TokenId> ids;
    for (int64_t t = 0; t < plan.lengths[static_cast<size_t>(d)]; ++t) ids.push_back(planned_token(plan, d, t));
    writer.add(ids, "other");
    ids.back() = 999;  // the same but for its last token
    writer.add(ids, "other");
  }
  writer.commit();
  const Corpus train = open_corpus({(directory_ / "train.tokens").string()}),
               valid = open_corpus({(directory_ / "valid.tokens").string()});
  EXPECT_EQ(shared_documents(valid, train), 2);
  EXPECT_EQ(shared_documents(train, train), 4);
}

TEST_F(SpanSamplerTest, Refusals) {
  const Corpus c = corpus({1000, {10, 20}, {"books", "code"}});
  const auto refusal = [&](const SpanSamplerOptions& o) { return error_of<Error>([&] { SpanSampler sampler(c, o); }); };
  EXPECT_EQ(refusal(options(21)), "no document holds the 21 tokens of a sample; the longest has 20");
  SpanSamplerOptions o = options(31);
  o.filtered = 0;
  o.concatenated = 1;
  EXPECT_EQ(refusal(o), "the shards hold 30 tokens in all, a sample takes 31");
  for (const char* weight : {"code", "code=", "code=-1", "code=1x", "code=nan", "code=inf", "code=1e300", "poems=1"}) {
    o = options(5);
    o.domain_weights = {weight};
    EXPECT_NE(refusal(o).find("domain_weights"), std::string::npos) << weight;
  }
  o = options(5);
  o.filtered = 0;
  EXPECT_NE(refusal(o).find("shares of the mixtures"), std::string::npos);
  o.filtered = INFINITY;
  EXPECT_NE(refusal(o).find("shares of the mixtures"), std::string::npos);
  o = options(5);
  o.domain_weights = {"code=2", "code=3"};
  EXPECT_EQ(refusal(o), "domain_weights: the domain \"code\" is named twice");
  o = options(15);
  o.domain_weights = {"code=0"};
  EXPECT_EQ(refusal(o),
            "no document of the domains whose weight is not 0 holds the 15 tokens of a sample; the longest has 10");
  o.filtered = 0;
  o.concatenated = 1;
  EXPECT_EQ(refusal(o), "the shards hold 10 tokens of the domains whose weight is not 0, a sample takes 15");
}

TEST_F(SpanSamplerTest, ShardsOfAnotherTokenizerAreRefused) {
  for (uint64_t fingerprint : {1, 2}) {
    ShardWriter writer(directory_ / (std::to_string(fingerprint) + ".tokens"), {10, fingerprint});
    writer.add(std::vector<TokenId>{1, 2}, "text");
    writer.commit();
  }
  EXPECT_NE(error_of<Error>([&] { open_corpus({directory_.path().string()}); }).find("another tokenizer"),
            std::string::npos);
  EXPECT_NE(error_of<Error>([&] { open_corpus({}); }).find("no token shards"), std::string::npos);
}

TEST(KeyedRandom, IsUniform) {
  std::vector<int64_t> counts(10);
  double sum = 0;
  for (uint64_t key = 0; key < 20000; ++key) {
    KeyedRandom random({1, key, 3});
    ++counts[static_cast<size_t>(random.below(10))];
    sum += random.uniform();
  }
  for (int64_t count : counts) EXPECT_NEAR(static_cast<double>(count), 2000, 250);
  EXPECT_NEAR(sum / 20000, 0.5, 0.012);
  EXPECT_NE(KeyedRandom({1, 2}).next(), KeyedRandom({2, 1}).next());
  EXPECT_NE(KeyedRandom({0}).next(), KeyedRandom({0, 0}).next());
}

}  // namespace
}  // namespace cepe
