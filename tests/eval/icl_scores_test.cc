// Scores of in-context learning beside scikit-learn's (tests/golden/icl), and likelihoods beside direct computations.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "base/error_of.h"
#include "base/file.h"
#include "eval/icl/continuation_scores.h"
#include "eval/icl/icl_report.h"
#include "eval/icl/label_rankings.h"
#include "model/checkpoint/checkpoint.h"

namespace cepe {
namespace {

using nlohmann::json;
using testing::HasSubstr;

std::vector<IclRecord> records_of(const json& one) {
  std::vector<IclRecord> records;
  for (size_t seed = 0; seed < one.at("right").size(); ++seed) {
    for (size_t text = 0; text < one["right"][seed].size(); ++text) {
      IclRecord record;
      record.tags = {{"task", "t"}, {"setting", "decoder 2"}, {"decoder", "2"}, {"encoder", "0"}, {"labels", "own"}};
      record.tags["seed"] = std::to_string(seed);
      record.cluster = std::to_string(text);
      record.label = one["right"][seed][text];
      record.chosen["likelihood"] = one["chosen"][seed][text];
      records.push_back(std::move(record));
    }
  }
  return records;
}

TEST(IclScores, AreThoseOfScikitLearn) {
  const json cases = json::parse(read_file(CEPE_TEST_DATA "/icl/scores.json"));
  ASSERT_EQ(cases.size(), 6u);
  for (const json& one : cases) {
    const IclReport report = report_icl(records_of(one));
    ASSERT_EQ(report.results.size(), 2u);
    for (const auto& [name, golden] : {std::pair("accuracy", "accuracy"), {"macro_f1", "f1"}}) {
      const auto found = std::find_if(report.results.begin(), report.results.end(),
                                      [score = name](const Result& result) { return result.score == score; });
      ASSERT_NE(found, report.results.end());
      EXPECT_NEAR(found->value.value, one.at(golden).get<double>(), 1e-12);
      EXPECT_NEAR(found->value.standard_error.value(), one.at(std::string(golden) + "_error").get<double>(), 1e-7);
    }
    EXPECT_EQ(report.by_seed.size(), 2 * one["right"].size());
  }
}

TEST(IclScores, RankLabelsByFourRules) {
  const auto ranked = rank_labels({{-4, -3, -6}, {-3, -1, -7}, {1, 1, 4}});
  EXPECT_EQ(ranked.at("likelihood"), 1u);
  EXPECT_EQ(ranked.at("per_token"), 2u);             // -4, -3, -1.5
  EXPECT_EQ(ranked.at("calibrated"), 2u);            // -1, -2, 1
  EXPECT_EQ(ranked.at("calibrated_per_token"), 2u);  // -1, -2, 0.25
  const auto alone = rank_labels({{-1, -1}, {}, {1, 2}});
  EXPECT_EQ(alone.at("likelihood"), 0u) << "of equal ones the earlier";
  EXPECT_EQ(alone.at("per_token"), 1u);
  EXPECT_FALSE(alone.contains("calibrated"));
}

class ContinuationScores : public testing::Test {
 protected:
  ContinuationScores() {
    at::set_num_threads(1);
    OpenOptions open;
    open.dtype = at::kDouble;
    opened_ = open_model(std::filesystem::path(CEPE_TEST_DATA) / "generate/published", open);
  }
  static at::Tensor ids(const std::vector<TokenId>& tokens) {
    return at::tensor(std::vector<int64_t>(tokens.begin(), tokens.end())).unsqueeze(0);
  }
  // From all logits of prompt and continuation as one text.
  double direct(const std::vector<TokenId>& continuation, const Latents* context) const {
    std::vector<TokenId> text = prompt_;
    text.insert(text.end(), continuation.begin(), continuation.end());
    DecodeInput input{ids(text)};
    input.context = context;
    const at::Tensor log_p = logits(opened_.model, decode(opened_.model, input))[0].log_softmax(-1);
    double sum = 0;
    for (size_t i = 0; i < continuation.size(); ++i) {
      sum += log_p[static_cast<int64_t>(prompt_.size() + i) - 1][continuation[i]].item<double>();
    }
    return sum;
  }

  OpenedModel opened_;
  const std::vector<TokenId> prompt_ = {5, 60, 7, 8, 91, 12, 13};
  const std::vector<std::vector<TokenId>> continuations_ = {{20, 21, 22}, {30}, {40, 41}, {20, 21, 22, 23, 24}, {31}};
};

TEST_F(ContinuationScores, AreThoseOfTheWholeText) {
  const at::NoGradGuard no_gradients;
  const Latents latents = encode(opened_.model, {at::arange(40, 60).view({1, 2, 10}), {}});
  const ContinuationScorer scorer(opened_.model);
  for (const Latents* context : std::vector<const Latents*>{nullptr, &latents}) {
    for (const int64_t at_once : {1, 25, 8192}) {  // one by one, two together, all together
      const std::vector<double> scores = scorer.scores(prompt_, continuations_, context, at_once);
      ASSERT_EQ(scores.size(), continuations_.size());
      for (size_t i = 0; i < scores.size(); ++i) {
        EXPECT_NEAR(scores[i], direct(continuations_[i], context), 1e-9) << "continuation " << i;
      }
    }
  }
  EXPECT_GT(std::abs(direct(continuations_[0], nullptr) - direct(continuations_[0], &latents)), 1e-6);
}

TEST_F(ContinuationScores, OfPromptsReadTogetherAreThoseOfEach) {
  const at::NoGradGuard no_gradients;
  std::vector<Latents> contexts;
  for (const int64_t chunks : {1, 2, 2, 3}) {
    contexts.push_back(encode(opened_.model, {at::arange(40, 40 + 10 * chunks).view({1, chunks, 10}), {}}));
  }
  const std::vector<std::vector<TokenId>> texts = {
      {5, 60, 7}, {5, 60, 7}, {9, 8, 7, 6}, {5}, {70, 71, 72, 73, 74, 75, 76, 77, 78}, {5, 60, 7, 3}, {1, 2}};
  std::vector<ScoredPrompt> prompts;
  for (size_t i = 0; i < texts.size(); ++i) {
    prompts.push_back({texts[i], i < contexts.size() ? &contexts[i] : nullptr});
  }
  const ContinuationScorer scorer(opened_.model);
  for (const int64_t rows : {2, 100}) {
    for (const int64_t at_once : {1, 9, 8192}) {
      const auto scores = scorer.scores_of_all(prompts, continuations_, rows, at_once);
      ASSERT_EQ(scores.size(), prompts.size());
      for (size_t i = 0; i < prompts.size(); ++i) {
        const std::vector<double> alone = scorer.scores(texts[i], continuations_, prompts[i].context);
        for (size_t c = 0; c < alone.size(); ++c) EXPECT_NEAR(scores[i][c], alone[c], 1e-10) << i << ", " << c;
      }
    }
  }
  EXPECT_TRUE(scorer.scores_of_all({}, continuations_, 4).empty());
}

// Logits in bfloat16 are often the same number; the labels' likelihoods are not.
TEST_F(ContinuationScores, OfABfloat16ModelDoNotTie) {
  const at::NoGradGuard no_gradients;
  OpenOptions open;
  open.dtype = at::kBFloat16;
  const OpenedModel opened = open_model(std::filesystem::path(CEPE_TEST_DATA) / "generate/published", open);
  const ContinuationScorer scorer(opened.model);
  const int64_t tokens = opened.model.config.decoder.vocab_size;
  std::vector<std::vector<TokenId>> one, two;
  for (TokenId token = 0; token < tokens; ++token) {
    one.push_back({token});
    two.push_back({20, token});
  }
  const std::vector<double> first = scorer.scores(prompt_, one, nullptr), second = scorer.scores(prompt_, two, nullptr);
  const at::Tensor hidden_D = decode(opened.model, {ids(prompt_)})[0][-1].to(at::kDouble);
  const at::Tensor log_p = head_weight(opened.model).to(at::kDouble).matmul(hidden_D).log_softmax(0);
  for (TokenId token = 0; token < tokens; ++token) {
    EXPECT_NEAR(first[static_cast<size_t>(token)], log_p[token].item<double>(), 1e-5) << token;
  }
  const auto distinct = [](const std::vector<double>& all) {
    return std::ssize(std::set<double>(all.begin(), all.end()));
  };
  const at::Tensor rounded = log_p.to(at::kBFloat16).to(at::kDouble);
  EXPECT_LT(distinct({rounded.const_data_ptr<double>(), rounded.const_data_ptr<double>() + tokens}), tokens);
  EXPECT_EQ(distinct(first), tokens);
  EXPECT_EQ(distinct(second), tokens);
}

TEST_F(ContinuationScores, NeedTokens) {
  const auto refused = [&](const std::vector<TokenId>& prompt, const std::vector<std::vector<TokenId>>& all) {
    EXPECT_THAT(error_of([&] { ContinuationScorer(opened_.model).scores(prompt, all, nullptr); }),
                HasSubstr("at least one token"));
  };
  refused({}, continuations_);
  refused(prompt_, {{1}, {}});
}

}  // namespace
}  // namespace cepe
