// An answer from its tokens alone, without a model.
#include "generate/answer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "generate/number_tokenizer.h"

namespace cepe {
namespace {

using testing::ElementsAre;

const NumberTokenizer kTokenizer(100);

TEST(Answers, EndWhereTheyShould) {
  struct Case {
    AnswerOptions options;
    std::vector<TokenId> tokens;
    StopReason reason;
    std::string text;
  };
  const std::vector<Case> cases{
      {{.max_tokens = 3}, {1, 2, 3}, StopReason::max_tokens, "1 2 3 "},
      {{.max_tokens = 9, .room = 2}, {1, 2}, StopReason::window, "1 2 "},
      {{.max_tokens = 2, .room = 2}, {1, 2}, StopReason::max_tokens, "1 2 "},
      {{.end_tokens = {8, 7}}, {1, 7}, StopReason::end_token, "1 "},
      {{.max_tokens = 2, .end_tokens = {7}}, {1, 7}, StopReason::end_token, "1 "},
      {{.stop = {"5 1"}}, {4, 15, 16}, StopReason::stop_string, "4 1"},  // across tokens: "4 15 16 "
      {{.max_tokens = 2, .stop = {"5 16 9"}}, {4, 15}, StopReason::max_tokens, "4 15 "},
      {{.end_tokens = {7}, .stop = {"5 7"}}, {5, 7}, StopReason::end_token, "5 "},
  };
  for (const Case& expected : cases) {
    std::string shown;
    AnswerOptions options = expected.options;
    options.on_text = [&](std::string_view text) { shown += text; };
    Answer answer(kTokenizer, options);
    for (size_t i = 0; i < expected.tokens.size(); ++i) {
      EXPECT_EQ(answer.push(expected.tokens[i]), i + 1 < expected.tokens.size()) << expected.text << i;
    }
    EXPECT_TRUE(answer.ended());
    EXPECT_EQ(answer.result().reason, expected.reason) << expected.text;
    EXPECT_EQ(answer.result().text, expected.text);
    EXPECT_EQ(shown, expected.text);
    EXPECT_THROW(answer.push(1), Error);
  }
}

TEST(Answers, TextThatMayBeAStopStringWaits) {
  std::vector<std::string> pieces;
  Answer answer(kTokenizer, {.stop = {"5 6 7"}, .on_text = [&](std::string_view text) { pieces.emplace_back(text); }});
  for (const TokenId token : {4, 5, 6, 8, 5}) answer.push(token);
  EXPECT_THAT(pieces, ElementsAre("4 ", "5 6 8 "));
  answer.cancel();
  EXPECT_EQ(answer.result().text, "4 5 6 8 ") << "what waits is not shown";
  EXPECT_EQ(answer.result().reason, StopReason::cancelled);
  answer.fail("too late");
  EXPECT_EQ(answer.result().reason, StopReason::cancelled);
  EXPECT_THAT(answer.result().tokens, ElementsAre(4, 5, 6, 8, 5));
}

TEST(Answers, LogProbabilitiesStandBesideTheirTokens) {
  Answer answer(kTokenizer, {.end_tokens = {9}});
  answer.push(3, TokenLogProbabilities{{3, -0.5f}, {{4, -0.25f}, {3, -0.5f}}});
  answer.push(9, TokenLogProbabilities{{9, -0.125f}, {}});
  ASSERT_EQ(answer.result().log_probabilities.size(), 1u) << "the end token is no part of the answer";
  EXPECT_EQ(answer.result().log_probabilities[0].chosen.token, 3);
  EXPECT_EQ(answer.result().log_probabilities[0].best[0].log_probability, -0.25f);
}

TEST(Answers, WhatOnTextThrowsLeavesTheReasonToTheCaller) {
  Answer answer(kTokenizer, {.on_text = [](std::string_view) { fail("closed"); }});
  EXPECT_THROW(answer.push(1), Error);
  EXPECT_FALSE(answer.ended());
  answer.fail("closed");
  EXPECT_EQ(answer.result().reason, StopReason::failed);
  EXPECT_EQ(answer.result().error, "closed");
}

TEST(Answers, RefuseAnEmptyStopString) { EXPECT_THROW(Answer(kTokenizer, {.stop = {""}}), Error); }

TEST(Answers, ReasonsHaveNames) {
  EXPECT_STREQ(stop_reason_name(StopReason::cancelled), "cancelled");
  EXPECT_STREQ(stop_reason_name(StopReason::failed), "failed");
}

}  // namespace
}  // namespace cepe
