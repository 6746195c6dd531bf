#include "text/bm25.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>
#include <sstream>

#include "base/error.h"

namespace cepe {
namespace {

std::vector<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), {}};
}

// The formula, word for word: the score of each passage.
std::vector<double> scores_by_hand(const std::vector<std::string>& passages, const std::string& query) {
  double mean = 0;
  for (const std::string& passage : passages) mean += static_cast<double>(words(passage).size());
  const auto n = static_cast<double>(passages.size());
  mean /= n;
  const std::vector<std::string> asked = words(query);
  std::vector<double> scores;
  for (const std::string& passage : passages) {
    const std::vector<std::string> own = words(passage);
    double score = 0;
    for (const std::string& word : std::set<std::string>(asked.begin(), asked.end())) {
      double df = 0;
      for (const std::string& other : passages) {
        const std::vector<std::string> theirs = words(other);
        df += std::find(theirs.begin(), theirs.end(), word) != theirs.end() ? 1 : 0;
      }
      const auto tf = static_cast<double>(std::count(own.begin(), own.end(), word));
      const double idf = std::log(1 + (n - df + 0.5) / (df + 0.5));
      if (tf > 0) {
        score += idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * static_cast<double>(own.size()) / mean));
      }
    }
    scores.push_back(score);
  }
  return scores;
}

std::vector<size_t> best_by_hand(const std::vector<std::string>& passages, const std::string& query, size_t count) {
  const std::vector<double> scores = scores_by_hand(passages, query);
  std::vector<std::pair<double, size_t>> ranked;
  for (size_t p = 0; p < scores.size(); ++p) {
    if (scores[p] > 0) ranked.emplace_back(-scores[p], p);
  }
  std::sort(ranked.begin(), ranked.end());
  std::vector<size_t> best;
  for (size_t i = 0; i < std::min(count, ranked.size()); ++i) best.push_back(ranked[i].second);
  return best;
}

struct Passages {
  std::vector<std::string> texts;
  Bm25Index index;
};

// 60 passages; with many different words each stands in fewer than a tenth of them.
Passages passages(int different_words) {
  std::mt19937 random(5);
  Passages made;
  for (int p = 0; p < 60; ++p) {
    std::string text;
    const unsigned length = 5 + random() % 26;
    for (unsigned w = 0; w < length; ++w) text += fmt::format("word{} ", random() % different_words);
    made.texts.push_back(text);
    made.index.add(text);
  }
  return made;
}

std::string query_of(const std::vector<std::string>& texts, std::mt19937& random) {
  std::string query;
  for (int w = 0; w < 4; ++w) {
    const std::vector<std::string> own = words(texts[random() % texts.size()]);
    query += own[random() % own.size()] + " ";
  }
  return query;
}

TEST(Bm25, RanksAsTheFormula) {
  const Passages made = passages(900);
  std::mt19937 random(6);
  for (int q = 0; q < 20; ++q) {
    const std::string query = query_of(made.texts, random);
    EXPECT_EQ(made.index.search(query, 10), best_by_hand(made.texts, query, 10)) << query;
  }
  EXPECT_TRUE(made.index.search("nothing of this", 10).empty());
}

TEST(Bm25, ScoresEveryPassageByEveryWord) {
  const Passages made = passages(40);  // most words stand in more than a tenth
  std::mt19937 random(7);
  for (int q = 0; q < 20; ++q) {
    const std::string query = query_of(made.texts, random);
    const std::vector<double> expected = scores_by_hand(made.texts, query), scores = made.index.scores(query);
    ASSERT_EQ(scores.size(), expected.size());
    for (size_t p = 0; p < scores.size(); ++p) EXPECT_NEAR(scores[p], expected[p], 1e-12) << query;
  }
  EXPECT_EQ(made.index.scores("nothing of this"), std::vector<double>(60, 0.0));
}

}  // namespace
}  // namespace cepe
