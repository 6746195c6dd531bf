#include "eval/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "base/error.h"

namespace cepe {
namespace {

TEST(Statistics, PerplexityIsExpOfTheMean) {
  EXPECT_NEAR(perplexity(std::vector<double>{1.0, 2.0}), std::exp(1.5), 1e-12);
}

TEST(Statistics, WorkedExample) {
  // Differences 0.1, 0.3 of one document and -0.1 of another: mean 0.1, document residuals 0.2 and -0.2,
  // se^2 = 2 / 1 * (0.04 + 0.04) / 3^2.
  const std::vector<double> reference{2.0, 3.0, 1.0}, nll{2.1, 3.3, 0.9};
  const std::vector<int64_t> document{7, 7, 4};
  const PairedChange change = paired_change(nll, reference, document);
  EXPECT_NEAR(change.change, std::exp(0.1) - 1, 1e-12);
  EXPECT_NEAR(change.change, perplexity(nll) / perplexity(reference) - 1, 1e-12);
  ASSERT_TRUE(change.standard_error);
  EXPECT_NEAR(*change.standard_error, std::exp(0.1) * 0.4 / 3, 1e-12);
}

TEST(Statistics, OneSpanADocumentIsThePlainStandardErrorOfAMean) {
  std::mt19937 random(3);
  std::normal_distribution<double> normal;
  std::vector<double> nll, reference;
  std::vector<int64_t> own_document, one_document;
  for (int i = 0; i < 50; ++i) {
    reference.push_back(3 + normal(random));
    nll.push_back(reference.back() - 0.1 + 0.05 * normal(random));
    own_document.push_back(i);
    one_document.push_back(0);
  }
  double mean_difference = 0, squares = 0;
  for (int i = 0; i < 50; ++i) mean_difference += (nll[i] - reference[i]) / 50;
  for (int i = 0; i < 50; ++i) squares += std::pow(nll[i] - reference[i] - mean_difference, 2);
  const double expected = std::exp(mean_difference) * std::sqrt(squares / 49 / 50);
  EXPECT_NEAR(*paired_change(nll, reference, own_document).standard_error, expected, 1e-12);
  EXPECT_NEAR(*paired_change(nll, reference, one_document).standard_error, expected, 1e-12);
}

TEST(Statistics, SpansThatMoveTogetherCountOnce) {
  // Ten copies of each document's difference tell no more than one copy.
  std::vector<double> nll, reference, nll_once, reference_once;
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
  EXPECT_NEAR(*paired_change(nll, reference, document).standard_error,
              *paired_change(nll_once, reference_once, document_once).standard_error, 1e-12);
}

TEST(Statistics, ASingleSpanHasNoStandardError) {
  const std::vector<double> one{1.0};
  const std::vector<int64_t> document{0};
  EXPECT_FALSE(paired_change(one, one, document).standard_error);
  EXPECT_EQ(paired_change(one, one, document).change, 0);
  EXPECT_THROW(paired_change(one, std::vector<double>{}, document), Error);
  EXPECT_THROW(mean({}), Error);
}

}  // namespace
}  // namespace cepe
