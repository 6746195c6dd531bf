#include "generate/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "base/error.h"

namespace cepe {
namespace {

std::map<TokenId, double> as_map(const std::vector<Candidate>& candidates) {
  std::map<TokenId, double> out;
  for (const Candidate& candidate : candidates) out[candidate.token] = candidate.probability;
  return out;
}

void expect_same(const std::map<TokenId, double>& found, const std::map<TokenId, double>& expected, double tolerance) {
  ASSERT_EQ(found.size(), expected.size());
  for (const auto& [token, probability] : expected) {
    ASSERT_TRUE(found.contains(token)) << "token " << token;
    EXPECT_NEAR(found.at(token), probability, tolerance) << "token " << token;
  }
}

// The definitions, written the slow way on whole probability vectors: each step renormalises what is left.
std::map<TokenId, double> reference(const std::vector<float>& logits, const std::vector<TokenId>& seen,
                                    const SamplerOptions& o) {
  const size_t V = logits.size();
  std::vector<double> score(logits.begin(), logits.end());
  for (size_t i = 0; i < V; ++i) {
    if (std::find(seen.begin(), seen.end(), static_cast<TokenId>(i)) == seen.end()) continue;
    score[i] = score[i] > 0 ? score[i] / o.repetition_penalty : score[i] * o.repetition_penalty;
  }
  std::vector<bool> kept(V, true);
  const auto probabilities = [&] {
    double total = 0;
    std::vector<double> p(V, 0.0);
    for (size_t i = 0; i < V; ++i) total += kept[i] ? std::exp(score[i] / o.temperature) : 0.0;
    for (size_t i = 0; i < V; ++i) p[i] = kept[i] ? std::exp(score[i] / o.temperature) / total : 0.0;
    return p;
  };
  if (o.top_k > 0) {
    const std::vector<double> scores_before = score;
    for (size_t i = 0; i < V; ++i) {
      const auto strictly_better =
          std::count_if(scores_before.begin(), scores_before.end(), [&](double s) { return s > scores_before[i]; });
      kept[i] = strictly_better < o.top_k;
    }
  }
  if (o.top_p < 1.0) {
    const std::vector<double> p = probabilities();
    for (size_t i = 0; i < V; ++i) {
      double better = 0;
      for (size_t j = 0; j < V; ++j) better += p[j] > p[i] || (p[j] == p[i] && j < i) ? p[j] : 0.0;
      if (better >= o.top_p) kept[i] = false;
    }
  }
  if (o.min_p > 0) {
    const std::vector<double> p = probabilities();
    const double best = *std::max_element(p.begin(), p.end());
    for (size_t i = 0; i < V; ++i) kept[i] = kept[i] && p[i] >= o.min_p * best;
  }
  std::map<TokenId, double> out;
  const std::vector<double> p = probabilities();
  const double least = *std::max_element(p.begin(), p.end()) * 0x1p-41;  // what rounds to no weight is never chosen
  for (size_t i = 0; i < V; ++i) {
    if (kept[i] && p[i] >= least) out[static_cast<TokenId>(i)] = p[i];
  }
  return out;
}

std::vector<float> random_logits(std::mt19937& random, size_t count, double scale) {
  std::normal_distribution<double> normal(0.0, scale);
  std::vector<float> out(count);
  for (float& value : out) value = static_cast<float>(normal(random));
  return out;
}

TEST(Sampler, EqualsTheRecordedLogitsProcessors) {
  std::ifstream file(CEPE_TEST_DATA "/generate/sampler.json");
  const nlohmann::json cases = nlohmann::json::parse(file);
  ASSERT_GE(cases.size(), 20u);
  for (const auto& entry : cases) {
    SCOPED_TRACE(entry["options"].dump());
    SamplerOptions options;
    options.temperature = entry["options"].value("temperature", 1.0);
    options.top_k = entry["options"].value("top_k", 0);
    options.top_p = entry["options"].value("top_p", 1.0);
    options.min_p = entry["options"].value("min_p", 0.0);
    options.repetition_penalty = entry["options"].value("repetition_penalty", 1.0);
    Sampler sampler(options);
    sampler.observe(entry["seen"].get<std::vector<TokenId>>());
    std::map<TokenId, double> expected;
    for (const auto& [token, probability] : entry["kept"].items()) expected[std::stoi(token)] = probability;
    expect_same(as_map(sampler.candidates(entry["logits"].get<std::vector<float>>())), expected, 2e-6);
  }
}

TEST(Sampler, EqualsTheSlowFormulas) {
  std::mt19937 random(5);
  const auto uniform = [&](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random);
  };
  for (int round = 0; round < 300; ++round) {
    const size_t V = 2 + random() % 120;
    const std::vector<float> logits = random_logits(random, V, uniform(0.1, 4.0));
    std::vector<TokenId> seen;
    for (size_t i = 0; i < V / 3; ++i) seen.push_back(static_cast<TokenId>(random() % V));
    SamplerOptions options;
    options.temperature = uniform(0.3, 2.0);
    if (random() % 2) options.top_k = 1 + static_cast<int64_t>(random() % (V + 5));
    if (random() % 2) options.top_p = uniform(0.01, 1.0);
    if (random() % 2) options.min_p = uniform(0.0, 1.0);
    if (random() % 2) options.repetition_penalty = uniform(0.7, 1.6);
    Sampler sampler(options);
    sampler.observe(seen);
    expect_same(as_map(sampler.candidates(logits)), reference(logits, seen, options), 1e-5);
  }
}

TEST(Sampler, DrawsFollowTheProbabilities) {
  const std::vector<float> logits = {0.0f, 1.0f, 2.0f, -1.0f, 0.5f};
  Sampler sampler({.temperature = 1.0, .seed = 3});
  const std::vector<Candidate> expected = sampler.candidates(logits);
  std::vector<int> counts(logits.size(), 0);
  const int draws = 200000;
  for (int i = 0; i < draws; ++i) ++counts[static_cast<size_t>(sampler.sample(logits))];
  double chi_square = 0;
  for (const Candidate& c : expected) {
    const double mean = c.probability * draws;
    chi_square += (counts[static_cast<size_t>(c.token)] - mean) * (counts[static_cast<size_t>(c.token)] - mean) / mean;
  }
  EXPECT_LT(chi_square, 18.5);  // 4 degrees of freedom: exceeded once in a thousand
}

TEST(Sampler, TheSeedDecidesTheDraws) {
  std::mt19937 random(1);
  const std::vector<float> logits = random_logits(random, 1000, 1.0);
  const auto draw = [&](uint64_t seed) {
    Sampler sampler({.temperature = 1.0, .top_k = 200, .top_p = 0.95, .seed = seed});
    std::vector<TokenId> out;
    for (int i = 0; i < 50; ++i) out.push_back(sampler.sample(logits));
    return out;
  };
  EXPECT_EQ(draw(7), draw(7));
  EXPECT_NE(draw(7), draw(8));
}

TEST(Sampler, GreedyTakesTheBestAndTheLowerOfEquals) {
  Sampler sampler({});
  EXPECT_EQ(sampler.sample(std::vector<float>{-3, 2, 5, 5, 1}), 2);
  EXPECT_EQ(sampler.sample(std::vector<float>{-3, -2}), 1);
  Sampler penalised({.repetition_penalty = 3.0});
  EXPECT_EQ(penalised.sample(std::vector<float>{2, 5, 1}), 1);  // 5 once, then 5 / 3
  EXPECT_EQ(penalised.sample(std::vector<float>{2, 5, 1}), 0);
  EXPECT_EQ(penalised.sample(std::vector<float>{2, 5, 1}), 1);  // 2 / 3, 5 / 3, 1
  EXPECT_EQ(penalised.sample(std::vector<float>{-2, -1.9f, -5}),
            2);  // -6, -5.7, -5: a penalty lowers negative ones too
}

TEST(Sampler, ExtremeNumbersStayDefined) {
  const float lowest = std::numeric_limits<float>::lowest(), none = -std::numeric_limits<float>::infinity();
  const std::vector<float> logits = {3e38f, lowest, none, 2.9e38f};
  for (const double temperature : {1e-300, 1e-3, 1.0, 1e6}) {
    Sampler sampler({.temperature = temperature, .top_p = 0.99, .min_p = 0.5});
    EXPECT_EQ(sampler.sample(logits), 0) << temperature;
  }
}

TEST(Sampler, RefusesBadOptionsAndLogits) {
  EXPECT_THROW(Sampler({.temperature = -0.1}), Error);
  EXPECT_THROW(Sampler({.temperature = std::nan("")}), Error);
  EXPECT_THROW(Sampler({.top_k = -1}), Error);
  EXPECT_THROW(Sampler({.top_p = 0.0}), Error);
  EXPECT_THROW(Sampler({.top_p = 1.1}), Error);
  EXPECT_THROW(Sampler({.min_p = 1.5}), Error);
  EXPECT_THROW(Sampler({.repetition_penalty = 0.0}), Error);
  Sampler sampler({.temperature = 1.0});
  EXPECT_THROW(sampler.sample(std::vector<float>{0, NAN}), Error);
  EXPECT_THROW(sampler.sample(std::vector<float>{0, INFINITY}), Error);
  EXPECT_THROW(sampler.sample(std::vector<float>{-INFINITY}), Error);
  EXPECT_THROW(sampler.sample(std::vector<float>{}), Error);
}

}  // namespace
}  // namespace cepe
