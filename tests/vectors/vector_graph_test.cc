// The graph beside brute force, and files that are not what was saved.
#include "vectors/vector_graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/error_of.h"
#include "base/file.h"
#include "base/temporary_directory.h"
#include "vectors/clustered_vectors.h"

namespace cepe {
namespace {

using testing::HasSubstr;

constexpr int64_t kWidth = 48, kRows = 2000;
constexpr size_t kQueries = 40;

class Vectors : public testing::Test {
 protected:
  VectorRows rows() const { return {all_.data(), kWidth, kRows}; }
  std::unique_ptr<VectorGraph> graph(int threads = 1) const {
    return std::make_unique<VectorGraph>(rows(), GraphOptions{}, threads, nullptr);
  }
  const float* query(size_t q) const { return queries_.data() + q * kWidth; }

  // The share of brute force's first ten that the graph finds too; scores are the products.
  double recall(const VectorGraph& graph, const std::set<int64_t>& without = {}) const {
    double found = 0;
    for (size_t q = 0; q < kQueries; ++q) {
      const auto best = brute_force(all_, kWidth, query(q), 10, without);
      const auto nearest = graph.nearest(query(q), 10, 100);
      EXPECT_EQ(nearest.size(), 10u);
      float before = 2;
      for (const auto& [row, score] : nearest) {
        EXPECT_FALSE(without.contains(row));
        EXPECT_NEAR(score, product(query(q), all_.data() + row * kWidth, kWidth), 1e-5);
        EXPECT_LE(score, before);
        before = score;
        found += std::count(best.begin(), best.end(), row);
      }
    }
    return found / (10.0 * kQueries);
  }

  const std::vector<float> all_ = clustered_vectors(kRows, kWidth, 1),
                           queries_ = clustered_vectors(kQueries, kWidth, 2);
  const TemporaryDirectory directory_;
  const std::filesystem::path file_ = directory_ / "graph";
};

TEST_F(Vectors, ItsFirstTenAreNearlyAlwaysBruteForces) {
  EXPECT_GE(recall(*graph()), 0.95);
  EXPECT_GE(recall(*graph(3)), 0.95);
}

TEST_F(Vectors, ASavedGraphFindsTheSame) {
  const auto made = graph();
  const GraphFile saved = made->save(file_);
  EXPECT_EQ(saved.rows, kRows);
  EXPECT_EQ(saved.sha256, graph()->save(directory_ / "again").sha256);  // one thread: the same graph
  const VectorGraph read(file_, saved, {}, rows());
  for (size_t q = 0; q < kQueries; ++q) EXPECT_EQ(read.nearest(query(q), 10, 60), made->nearest(query(q), 10, 60));
}

TEST_F(Vectors, ForgottenRowsAreNotFound) {
  const auto made = graph();
  std::set<int64_t> gone;
  for (int64_t row = 0; row < kRows; row += 2) gone.insert(row);
  for (size_t q = 0; q < kQueries; ++q) gone.insert(made->nearest(query(q), 1, 60)[0].first);
  for (const int64_t row : gone) made->forget(row);
  EXPECT_GE(recall(*made, gone), 0.95);
  EXPECT_THAT(error_of([&] { made->forget(kRows); }), HasSubstr("has 2000 vectors, and none of row 2000"));
}

TEST_F(Vectors, FewAndNoVectors) {
  for (const int64_t count : {0, 1, 2}) {
    const VectorRows some{all_.data(), kWidth, count};
    const GraphFile saved = VectorGraph(some, {}, 2, nullptr).save(file_);
    EXPECT_EQ(VectorGraph(file_, saved, {}, some).nearest(query(0), 5, 50).size(), static_cast<size_t>(count));
  }
}

TEST_F(Vectors, WhatIsNotFiniteIsRefused) {
  std::vector<float> bad = all_;
  bad[5 * kWidth + 3] = NAN;
  for (const int threads : {1, 3}) {
    EXPECT_THAT(error_of([&] { VectorGraph({bad.data(), kWidth, kRows}, {}, threads, nullptr); }),
                HasSubstr("that of slot 5 is not finite"));
  }
  EXPECT_THAT(error_of([&] { VectorGraph(rows(), {.links = 1}, 1, nullptr); }), HasSubstr("expected 2 to 256 links"));
}

TEST_F(Vectors, AnotherFileThanWasSavedIsOneSentence) {
  const GraphFile saved = graph()->save(file_);
  const std::string bytes = read_file(file_);
  const auto refusal = [&](std::string changed, GraphFile expected, const GraphOptions& options = {}) {
    write_file(file_, changed);
    return error_of([&] { VectorGraph(file_, expected, options, rows()); });
  };
  EXPECT_THAT(refusal(bytes.substr(0, bytes.size() - 4), saved), HasSubstr("graph: the file is damaged: it has"));
  EXPECT_THAT(refusal("", saved), HasSubstr("it has 0 bytes"));
  std::string flipped = bytes;
  flipped[bytes.size() / 2] ^= 1;
  EXPECT_THAT(refusal(flipped, saved), HasSubstr("its SHA-256 is not the recorded one"));
  EXPECT_THAT(refusal(bytes, saved, {.links = 8}), HasSubstr("does not begin as a graph of 2000 vectors with 8 links"));
  GraphFile other = saved;
  other.rows = 1999;
  EXPECT_THAT(refusal(bytes, other), HasSubstr("does not begin as a graph of 1999 vectors"));
  other.rows = kRows + 1;
  EXPECT_THAT(refusal(bytes, other), HasSubstr("does not begin as"));
}

// Whoever changes a file may change its hash as well: whatever the bytes, a search reads nothing outside the graph.
TEST_F(Vectors, BytesUnderTheirOwnHashHarmNobody) {
  const VectorRows few{all_.data(), kWidth, 150};
  const GraphFile saved = VectorGraph(few, {.links = 4, .candidates = 20}, 1, nullptr).save(file_);
  const std::string bytes = read_file(file_);
  std::mt19937 random(3);
  int refused = 0, searched = 0;
  for (int attempt = 0; attempt < 900; ++attempt) {
    std::string changed = bytes;
    const auto at = [&] { return random() % changed.size(); };
    if (attempt % 3 == 0) changed.resize(at());
    const int changes = 1 + static_cast<int>(random() % 3);
    for (int i = 0; i < changes && !changed.empty(); ++i) changed[at()] = static_cast<char>(random());
    std::ofstream(file_, std::ios::binary) << changed;  // without a wait for the disk
    const GraphFile claimed{saved.rows, static_cast<int64_t>(changed.size()), sha256_bytes(changed)};
    try {
      const VectorGraph graph(file_, claimed, {.links = 4, .candidates = 20}, few);
      for (const auto& [row, score] : graph.nearest(query(0), 10, 20)) EXPECT_LT(row, 150);
      ++searched;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("graph"));
      ++refused;
    }
  }
  EXPECT_GT(refused, 300);
  EXPECT_GT(searched, 50);
}

}  // namespace
}  // namespace cepe
