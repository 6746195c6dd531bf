#include "eval/statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>
#include <vector>

#include "base/error.h"
#include "base/file.h"

namespace cepe {
namespace {

using Losses = std::vector<double>;

const nlohmann::json& golden() {
  static const nlohmann::json json = nlohmann::json::parse(read_file(CEPE_TEST_DATA "/statistics/statistics.json"));
  return json;
}

std::vector<int64_t> one_each(size_t count) {
  std::vector<int64_t> ids(count);
  for (size_t i = 0; i < count; ++i) ids[i] = static_cast<int64_t>(i);
  return ids;
}

TEST(Statistics, PerplexityIsExpOfTheMean) {
  EXPECT_NEAR(perplexity(Losses{1.0, 2.0}), std::exp(1.5), 1e-12);
  EXPECT_THROW(mean({}), Error);
}

TEST(Statistics, QuantilesOfStudentsTAreScipys) {
  for (const auto& entry : golden().at("t_quantiles")) {
    const double p = entry[0], expected = entry[2];
    const int64_t freedom = entry[1];
    EXPECT_NEAR(student_t_quantile(p, freedom) / expected, 1, 1e-9) << p << " " << freedom;
    EXPECT_NEAR(student_t_quantile(1 - p, freedom) / -expected, 1, 1e-9) << 1 - p << " " << freedom;
  }
  EXPECT_NEAR(student_t_quantile(0.5, 7), 0, 1e-12);
  for (const double p : {0.0, 1.0, -1.0, 2.0, std::nan("")}) EXPECT_THROW(student_t_quantile(p, 3), Error) << p;
  EXPECT_THROW(student_t_quantile(0.9, 0), Error);
}

TEST(Statistics, ErrorsOfAMeanAreStatsmodels) {
  for (const auto& entry : golden().at("clustered")) {
    const std::vector<double> values = entry.at("differences");
    const Estimate estimate = mean_estimate(values, {entry.at("own").get<std::vector<int64_t>>()});
    EXPECT_NEAR(estimate.value, mean(values), 1e-12);
    const int64_t clusters = entry.at("clusters")[0];
    ASSERT_EQ(estimate.standard_error.has_value(), clusters >= kLeastClusters);
    if (!estimate.standard_error) continue;
    EXPECT_NEAR(*estimate.standard_error / entry.at("own_error").get<double>(), 1, 1e-9);
    EXPECT_NEAR(*estimate.half_width / *estimate.standard_error, student_t_quantile(0.975, clusters - 1), 1e-9);
  }
}

TEST(Statistics, ClusteredErrorsAreStatsmodels) {
  int with_one_way = 0, without = 0, two_way_is_largest = 0, one_way_is_largest = 0;
  for (const auto& entry : golden().at("clustered")) {
    const Losses differences = entry.at("differences"), reference(differences.size(), 2.0);
    const std::vector<int64_t> own = entry.at("own"), other = entry.at("other"), clusters = entry.at("clusters");
    Losses nll = reference;
    for (size_t i = 0; i < nll.size(); ++i) nll[i] += differences[i];
    const double scale = std::exp(mean(differences)), own_variance = entry.at("own_variance"),
                 other_variance = entry.at("other_variance"), two_way = entry.at("two_way_variance");

    const Estimate one = perplexity_change(nll, reference, {own});
    ASSERT_EQ(one.standard_error.has_value(), clusters[0] >= kLeastClusters);
    if (one.standard_error) {
      ++with_one_way;
      EXPECT_NEAR(*one.standard_error, scale * entry.at("own_error").get<double>(), 1e-12);
      EXPECT_NEAR(*one.half_width, *one.standard_error * student_t_quantile(0.975, clusters[0] - 1), 1e-12);
    }
    const Estimate both = perplexity_change(nll, reference, {own, other});
    const int64_t fewer = std::min(clusters[0], clusters[1]);
    ASSERT_EQ(both.standard_error.has_value(), fewer >= kLeastClusters);
    if (!both.standard_error) {
      ++without;
      EXPECT_FALSE(both.half_width);
      continue;
    }
    const double largest = std::max({own_variance, other_variance, two_way});
    (largest == two_way ? two_way_is_largest : one_way_is_largest)++;
    EXPECT_NEAR(*both.standard_error, scale * std::sqrt(largest), 1e-12);
    EXPECT_NEAR(*both.half_width, *both.standard_error * student_t_quantile(0.975, fewer - 1), 1e-12);
  }
  EXPECT_TRUE(with_one_way && without && two_way_is_largest && one_way_is_largest) << "a case is missing";
}

TEST(Statistics, WorkedExample) {
  // Differences 0.1 and 0.3 of a document, -0.1 and -0.3 of another, and three documents whose differences are the
  // mean, 0: residuals of documents 0.4 and -0.4, se^2 = 5 / 4 * (0.16 + 0.16) / 7^2; t quantile of 4 degrees 2.776445.
  const Losses reference{2, 3, 1, 2, 2, 2, 2}, nll{2.1, 3.3, 0.9, 1.7, 2, 2, 2};
  const Estimate change = perplexity_change(nll, reference, {{7, 7, 4, 4, 1, 2, 3}});
  EXPECT_NEAR(change.value, 0, 1e-12);
  ASSERT_TRUE(change.standard_error);
  EXPECT_NEAR(*change.standard_error, std::sqrt(5.0 / 4 * 0.32) / 7, 1e-12);
  EXPECT_NEAR(*change.half_width, 2.7764451 * std::sqrt(0.4) / 7, 1e-7);
}

TEST(Statistics, OneWindowADocumentIsThePlainStandardErrorOfAMean) {
  std::mt19937 random(3);
  std::normal_distribution<double> normal;
  Losses nll, reference;
  for (int i = 0; i < 50; ++i) {
    reference.push_back(3 + normal(random));
    nll.push_back(reference.back() - 0.1 + 0.05 * normal(random));
  }
  double mean_difference = 0, squares = 0;
  for (int i = 0; i < 50; ++i) mean_difference += (nll[i] - reference[i]) / 50;
  for (int i = 0; i < 50; ++i) squares += std::pow(nll[i] - reference[i] - mean_difference, 2);
  const double expected = std::exp(mean_difference) * std::sqrt(squares / 49 / 50);
  EXPECT_NEAR(*perplexity_change(nll, reference, {one_each(50)}).standard_error, expected, 1e-12);
  EXPECT_FALSE(perplexity_change(nll, reference, {std::vector<int64_t>(50, 0)}).standard_error)
      << "the windows of one document do not tell how the next document differs";
}

TEST(Statistics, WindowsThatMoveTogetherCountOnce) {
  // Ten copies of each document's difference tell no more than one copy.
  Losses nll, reference, nll_once, reference_once;
  std::vector<int64_t> document, document_once;
  for (int d = 0; d < 6; ++d) {
    const double difference = 0.01 * d * d;
    for (int i = 0; i < 10; ++i) {
      nll.push_back(2 + difference);
      reference.push_back(2);
      document.push_back(d);
    }
    nll_once.push_back(2 + difference);
    reference_once.push_back(2);
    document_once.push_back(d);
  }
  EXPECT_NEAR(*perplexity_change(nll, reference, {document}).standard_error,
              *perplexity_change(nll_once, reference_once, {document_once}).standard_error, 1e-12);
}

TEST(Statistics, GainsAreChangesTurnedRound) {
  const Losses own{1, 2, 3, 1, 2, 3}, control{1.2, 2.3, 3.1, 1.1, 2.4, 3.1};
  const Estimate gain = reading_gain({own, control}, {one_each(6)});
  const Estimate change = perplexity_change(own, control, {one_each(6)});
  EXPECT_NEAR(gain.value, 1 - std::exp(2.0) / std::exp(2.2), 1e-12);
  EXPECT_EQ(gain.standard_error, change.standard_error);
  EXPECT_EQ(gain.half_width, change.half_width);
}

// Against the jackknife over clusters, which takes no derivative: leave out a cluster, compute the value again.
TEST(Statistics, TheErrorOfAGainsDifferenceIsTheJackknifes) {
  std::mt19937 random(4);
  std::normal_distribution<double> normal;
  constexpr int kDocuments = 200, kWindows = 3 * kDocuments;
  std::vector<Losses> losses(4);  // own, control, their own, their control
  std::vector<int64_t> document;
  for (int i = 0; i < kWindows; ++i) {
    document.push_back(i / 3);
    const double shared = normal(random);
    for (int side = 0; side < 4; ++side) losses[side].push_back(3 + shared + 0.1 * side + 0.05 * normal(random));
  }
  const auto value = [&](int64_t left_out) {
    std::vector<Losses> kept(4);
    for (int i = 0; i < kWindows; ++i) {
      if (document[i] == left_out) continue;
      for (int side = 0; side < 4; ++side) kept[side].push_back(losses[side][i]);
    }
    return perplexity(kept[2]) / perplexity(kept[3]) - perplexity(kept[0]) / perplexity(kept[1]);
  };
  double squares = 0;
  for (int64_t d = 0; d < kDocuments; ++d) squares += std::pow(value(d) - value(-1), 2);
  const double jackknife = std::sqrt(squares * (kDocuments - 1) / kDocuments);
  const Estimate difference = gain_difference({losses[0], losses[1]}, {losses[2], losses[3]}, {document});
  EXPECT_NEAR(difference.value, value(-1), 1e-12);
  EXPECT_NEAR(*difference.standard_error / jackknife, 1, 0.02);
}

TEST(Statistics, FewerThanFiveClustersHaveNoError) {
  const Losses nll{1, 2, 3, 4, 5, 6}, reference{1, 1, 1, 1, 1, 1};
  EXPECT_TRUE(perplexity_change(nll, reference, {{0, 1, 2, 3, 4, 4}}).half_width);
  EXPECT_FALSE(perplexity_change(nll, reference, {{0, 1, 2, 3, 3, 3}}).half_width);
  EXPECT_FALSE(perplexity_change(nll, reference, {{0, 1, 2, 3, 3, 3}}).standard_error);
  EXPECT_FALSE(perplexity_change(nll, reference, {one_each(6), {0, 1, 2, 3, 3, 3}}).half_width);
  EXPECT_NEAR(perplexity_change(nll, reference, {{0, 0, 0, 0, 0, 0}}).value, std::exp(2.5) - 1, 1e-12);
}

TEST(Statistics, UnequalListsAreRefused) {
  const Losses two{1, 2}, one{1};
  EXPECT_THROW(perplexity_change(two, one, {one_each(2)}), Error);
  EXPECT_THROW(perplexity_change(two, two, {one_each(1)}), Error);
  EXPECT_THROW(perplexity_change(two, two, {}), Error);
  EXPECT_THROW(gain_difference({two, two}, {one, one}, {one_each(2)}), Error);
}

}  // namespace
}  // namespace cepe
