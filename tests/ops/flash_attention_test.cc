// The CPU's flash attention against its formula in double precision, one number at a time, for each instruction set
// that this processor has. Without LibTorch, so that scripts/check_aarch64.sh runs it for another processor.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "ops/cpu/flash_attention.h"
#include "ops/cpu/targets.h"

namespace cepe::cpu {
namespace {

constexpr double kTolerance = 2e-6;  // of the norm of the difference to the norm of what is expected

class FlashAttention : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { use_target(GetParam()); }
  void TearDown() override { use_target(""); }
};

INSTANTIATE_TEST_SUITE_P(Kernels, FlashAttention, testing::ValuesIn(targets()),
                         [](const auto& info) { return info.param; });

struct Shape {
  int64_t tokens, heads, width, keys;
  int64_t seen_before = FlashQueries::kAll;
  bool padded = false;
};

std::vector<float> random(int64_t count, uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> made(static_cast<size_t>(count));
  for (float& x : made) x = normal(engine);
  return made;
}

// Queries (tokens, heads, width), keys and values (keys, width), the formula's result and its log-sum-exp by row.
struct Problem {
  explicit Problem(const Shape& shape)
      : shape(shape),
        q(random(rows() * shape.width, 1)),
        k(random(shape.keys * shape.width, 2)),
        v(random(shape.keys * shape.width, 3)) {
    for (float& x : q) x *= 3;
    // Whole blocks of padding, lone keys, and none at the end.
    for (int64_t n = 0; n < shape.keys; ++n)
      real.push_back(!shape.padded || (n % 3 != 1 && n >= 70 && n + 5 < shape.keys));
  }
  int64_t rows() const { return shape.tokens * shape.heads; }
  bool sees(int64_t row, int64_t key) const {
    return real[static_cast<size_t>(key)] && key <= row / shape.heads + shape.seen_before;
  }

  void solve() {
    const int64_t K = shape.width;
    expected.assign(static_cast<size_t>(rows() * K), 0);
    log_sum_exp.clear();
    for (int64_t r = 0; r < rows(); ++r) {
      std::vector<double> score(static_cast<size_t>(shape.keys));
      double highest = -std::numeric_limits<double>::infinity(), total = 0;
      for (int64_t n = 0; n < shape.keys; ++n) {
        if (!sees(r, n)) continue;
        for (int64_t i = 0; i < K; ++i) score[n] += static_cast<double>(q[r * K + i]) * k[n * K + i] * scale();
        highest = std::max(highest, score[n]);
      }
      for (int64_t n = 0; n < shape.keys; ++n) total += sees(r, n) ? std::exp(score[n] - highest) : 0;
      for (int64_t n = 0; n < shape.keys; ++n) {
        if (!sees(r, n)) continue;
        const double weight = std::exp(score[n] - highest) / total;
        for (int64_t i = 0; i < K; ++i) expected[r * K + i] += weight * v[n * K + i];
      }
      log_sum_exp.push_back(highest + std::log(total));
    }
  }
  double scale() const { return 1 / std::sqrt(static_cast<double>(shape.width)); }
  const bool* mask() const { return shape.padded ? reinterpret_cast<const bool*>(real.data()) : nullptr; }

  Shape shape;
  std::vector<float> q, k, v;
  std::vector<char> real;
  std::vector<double> expected, log_sum_exp;
};

struct Result {
  std::vector<float> out, log_sum_exp;
};

// Queries and results lie in rows that are wider than they need to be: strides are the caller's affair.
template <class Keys>
Result run(const Problem& problem, const Keys& keys, int64_t rows_of_a_call) {
  const int64_t K = problem.shape.width, H = problem.shape.heads, head = K + 3, token = H * head + 5;
  std::vector<float> spread(static_cast<size_t>(problem.shape.tokens * token), NAN), out(spread.size());
  const auto at = [&](int64_t row) { return row / H * token + row % H * head; };
  for (int64_t r = 0; r < problem.rows(); ++r) std::copy_n(&problem.q[r * K], K, &spread[at(r)]);
  Result result{{}, std::vector<float>(static_cast<size_t>(problem.rows()))};
  std::vector<float> scratch(static_cast<size_t>(flash_scratch(K)), NAN);
  FlashQueries queries{.query = spread.data(),
                       .query_token = token,
                       .query_head = head,
                       .out = out.data(),
                       .out_token = token,
                       .out_head = head,
                       .log_sum_exp = result.log_sum_exp.data(),
                       .heads = H,
                       .width = K,
                       .scale = static_cast<float>(problem.scale()),
                       .seen_before = problem.shape.seen_before};
  for (; queries.first < problem.rows(); queries.first += rows_of_a_call) {
    queries.count = std::min(rows_of_a_call, problem.rows() - queries.first);
    flash_attention(queries, keys, scratch.data());
  }
  for (int64_t r = 0; r < problem.rows(); ++r) result.out.insert(result.out.end(), &out[at(r)], &out[at(r)] + K);
  return result;
}

double error_of(const std::vector<float>& found, const std::vector<double>& expected) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += (found[i] - expected[i]) * (found[i] - expected[i]), size += expected[i] * expected[i];
  }
  return std::sqrt(difference / (size > 0 ? size : 1));
}

void expect_formula(const Problem& problem, const Result& found, const std::string& what) {
  const auto width = static_cast<size_t>(problem.shape.width);
  EXPECT_LT(error_of(found.out, problem.expected), kTolerance) << what;
  for (size_t r = 0; r < problem.log_sum_exp.size(); ++r) {
    if (std::isfinite(problem.log_sum_exp[r])) {
      EXPECT_NEAR(found.log_sum_exp[r], problem.log_sum_exp[r], 1e-5) << what << ", row " << r;
      continue;
    }
    EXPECT_EQ(found.log_sum_exp[r], -std::numeric_limits<float>::infinity()) << what << ", row " << r;
    for (size_t i = 0; i < width; ++i) EXPECT_EQ(found.out[r * width + i], 0) << what << ", row " << r;
  }
}

TEST_P(FlashAttention, EqualsTheFormula) {
  const std::vector<Shape> shapes = {{1, 1, 64, 1},
                                     {1, 3, 64, 65},
                                     {70, 3, 64, 200},
                                     {5, 7, 128, 129},
                                     {33, 1, 96, 64},
                                     {9, 2, 8, 300, FlashQueries::kAll, true},
                                     {67, 3, 64, 67, 0},                         // causal
                                     {21, 3, 64, 150, 129},                      // after others
                                     {40, 2, 64, 20, -20},                       // 20 tokens before the first key
                                     {80, 1, 32, 210, 130, true},                // causal and padded
                                     {3, 1, 16, 60, FlashQueries::kAll, true}};  // no key is real
  for (const Shape& shape : shapes) {
    Problem problem(shape);
    problem.solve();
    const int64_t apart = shape.width + 4;
    std::vector<float> k(static_cast<size_t>(shape.keys * apart), NAN), v = k;
    for (int64_t n = 0; n < shape.keys; ++n) {
      std::copy_n(&problem.k[n * shape.width], shape.width, &k[n * apart]);
      std::copy_n(&problem.v[n * shape.width], shape.width, &v[n * apart]);
    }
    const FlashKeys keys{k.data(), v.data(), apart, apart, shape.keys, problem.mask()};
    for (const int64_t rows : {kFlashRows, int64_t{50}}) {
      expect_formula(problem, run(problem, keys, rows),
                     std::to_string(shape.tokens) + " tokens on " + std::to_string(shape.keys) + " keys");
    }
  }
}

// The formula on what a kept context holds: each number as it was rounded, times its token's scale.
template <class Element, class Round>
void expect_kept(Problem problem, KeyValueType type, const std::vector<float>& scales, Round round) {
  const int64_t K = problem.shape.width, S = problem.shape.keys, padded = (S + kBlock - 1) / kBlock * kBlock;
  std::vector<Element> k(static_cast<size_t>(padded * K)), v(k.size());
  for (int64_t i = 0; i < S * K; ++i) {
    const int64_t token = i / K, scale = static_cast<int64_t>(scales.size()) > token ? token : -1;
    const auto [key, key_read] = round(problem.k[i]);
    const auto [value, value_read] = round(problem.v[i]);
    k[token / kBlock * kBlock * K + i % K * kBlock + token % kBlock] = key, v[i] = value;
    problem.k[i] = key_read * (scale < 0 ? 1 : scales[scale]);
    problem.v[i] = value_read * (scale < 0 ? 1 : scales[scale]);
  }
  problem.solve();
  const float* const by_token = scales.empty() ? nullptr : scales.data();
  const KeyValueSpan span{k.data(), v.data(), type, S, problem.mask(), by_token, by_token};
  expect_formula(problem, run(problem, span, kFlashRows), "kept, type " + std::to_string(static_cast<int>(type)));
}

TEST_P(FlashAttention, EqualsTheFormulaOnKeptKeys) {
  for (const Shape& shape : {Shape{30, 3, 64, 200}, Shape{11, 1, 16, 131, FlashQueries::kAll, true}}) {
    const Problem problem(shape);
    expect_kept<float>(problem, KeyValueType::float32, {}, [](float x) { return std::pair(x, x); });
    expect_kept<uint16_t>(problem, KeyValueType::bfloat16, {}, [](float x) {
      const uint32_t bits = std::bit_cast<uint32_t>(x) & 0xffff0000;
      return std::pair(static_cast<uint16_t>(bits >> 16), std::bit_cast<float>(bits));
    });
    std::vector<float> scales = random((shape.keys + kBlock - 1) / kBlock * kBlock, 7);
    for (float& scale : scales) scale /= 25;
    expect_kept<int8_t>(problem, KeyValueType::int8, scales, [](float x) {
      const auto whole = static_cast<int8_t>(x * 25);
      return std::pair(whole, static_cast<float>(whole));
    });
  }
}

TEST_P(FlashAttention, WhatIsNotANumberStaysWithItsQuery) {
  Problem problem({20, 2, 64, 100});
  problem.q[7 * 64 + 3] = NAN;
  const Result found = run(problem, FlashKeys{problem.k.data(), problem.v.data(), 64, 64, 100, nullptr}, kFlashRows);
  for (int64_t i = 0; i < problem.rows() * 64; ++i) EXPECT_EQ(std::isnan(found.out[i]), i / 64 == 7) << i;
}

// Scores far apart: what was read before a much higher score counts for nothing, and nothing overflows.
TEST_P(FlashAttention, ScoresFarApart) {
  Problem problem({30, 1, 8, 200});
  for (float& x : problem.q) x *= 100;
  problem.solve();
  const Result found = run(problem, FlashKeys{problem.k.data(), problem.v.data(), 8, 8, 200, nullptr}, kFlashRows);
  EXPECT_LT(error_of(found.out, problem.expected), 1e-4);  // scores of hundreds have errors of 1e-5
}

}  // namespace
}  // namespace cepe::cpu
