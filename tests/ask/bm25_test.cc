#include "ask/sources/bm25.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <sstream>

#include "ask/random.h"
#include "base/error.h"

namespace cepe {
namespace {

std::vector<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), {}};
}

// The formula, word for word, over all passages.
std::vector<size_t> by_hand(const std::vector<std::string>& passages, const std::string& query, size_t count) {
  double mean = 0;
  for (const std::string& passage : passages) mean += static_cast<double>(words(passage).size());
  const auto n = static_cast<double>(passages.size());
  mean /= n;
  const std::vector<std::string> asked = words(query);
  std::vector<std::pair<double, size_t>> scores;
  for (size_t p = 0; p < passages.size(); ++p) {
    const std::vector<std::string> own = words(passages[p]);
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
    if (score > 0) scores.emplace_back(-score, p);
  }
  std::sort(scores.begin(), scores.end());
  std::vector<size_t> best;
  for (size_t i = 0; i < std::min(count, scores.size()); ++i) best.push_back(scores[i].second);
  return best;
}

TEST(Bm25, RanksAsTheFormula) {
  AskRandom random{5};
  std::vector<std::string> passages;
  Bm25Index index;
  for (int p = 0; p < 60; ++p) {
    std::string text;
    const int64_t length = random.between(5, 30);
    // Each word in fewer than a tenth of the passages.
    for (int64_t w = 0; w < length; ++w) text += fmt::format("word{} ", random.between(0, 900));
    passages.push_back(text);
    index.add(text);
  }
  for (int q = 0; q < 20; ++q) {
    std::string query;
    for (int w = 0; w < 4; ++w) query += random.pick(words(random.pick(passages))) + " ";
    EXPECT_EQ(index.search(query, 10), by_hand(passages, query, 10)) << query;
  }
  EXPECT_TRUE(index.search("nothing of this", 10).empty());
}

}  // namespace
}  // namespace cepe
