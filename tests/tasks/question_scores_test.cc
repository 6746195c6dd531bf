// The scores are compared with the published definitions (tests/golden/qa/record_scores.py).
#include "tasks/questions/question_scores.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"

namespace cepe {
namespace {

TEST(QuestionScores, EqualThePublishedDefinitions) {
  const auto cases = nlohmann::json::parse(read_file(CEPE_TEST_DATA "/qa/scores.json"));
  ASSERT_EQ(cases.size(), 240u);
  const Scorer squad = question_scorer({}), hotpot = question_scorer({.yes_no = true}),
               squad2 = question_scorer({.unanswerable = true});
  int64_t right = 0, contained = 0, partly = 0, differ = 0;
  for (const auto& recorded : cases) {
    const std::string prediction = recorded.at("prediction");
    const std::vector<std::string> answers = recorded.at("answers");
    EXPECT_EQ(normalised_answer(prediction), recorded.at("normal").get<std::string>()) << recorded;
    EXPECT_EQ(says_unanswerable(prediction), recorded.at("says_unanswerable").get<bool>()) << recorded;
    const Scores two = squad2(prediction, answers);
    EXPECT_EQ(two.at("em"), recorded.at("em2").get<double>()) << recorded;
    EXPECT_NEAR(two.at("f1"), recorded.at("f12").get<double>(), 1e-12) << recorded;
    EXPECT_EQ(two.at("unanswerable"), recorded.at("says_unanswerable") == answers.empty() ? 1.0 : 0.0) << recorded;
    EXPECT_EQ(two.contains("has_answer"), !answers.empty());
    if (answers.empty()) continue;
    const Scores scores = squad(prediction, answers);
    EXPECT_EQ(scores.at("em"), recorded.at("em").get<double>()) << recorded;
    EXPECT_NEAR(scores.at("f1"), recorded.at("f1").get<double>(), 1e-12) << recorded;
    EXPECT_EQ(scores.at("has_answer"), recorded.at("has_answer").get<bool>() ? 1.0 : 0.0) << recorded;
    EXPECT_NEAR(hotpot(prediction, answers).at("f1"), recorded.at("hotpot_f1").get<double>(), 1e-12) << recorded;
    right += scores.at("em") == 1;
    contained += scores.at("has_answer") == 1 && scores.at("em") == 0;
    partly += scores.at("f1") > 0 && scores.at("f1") < 1;
    differ += recorded.at("hotpot_f1") != recorded.at("f1");
  }
  // The cases say something about each score.
  EXPECT_GT(right, 20);
  EXPECT_GT(contained, 20);
  EXPECT_GT(partly, 20);
  EXPECT_GE(differ, 3);
}

TEST(QuestionScores, ContainAnswersBySignsNotByLetters) {
  EXPECT_TRUE(AnswerFinder({"art"}).found_in("It is Art."));
  EXPECT_FALSE(AnswerFinder({"art"}).found_in("a party")) << "inside a word";
  EXPECT_TRUE(AnswerFinder({"12"}).found_in("12,000")) << "the comma stands alone";
  EXPECT_FALSE(AnswerFinder({"New York"}).found_in("New in York"));
  EXPECT_TRUE(AnswerFinder({"x", "York"}).found_in("New York"));
  EXPECT_FALSE(AnswerFinder({}).found_in("anything"));
  EXPECT_FALSE(AnswerFinder({" "}).found_in("anything"));
}

TEST(QuestionScores, NeedAReferenceUnlessThereMayBeNone) {
  EXPECT_THROW(question_scorer({})("a", {}), Error);
  EXPECT_EQ(question_scorer({.unanswerable = true})("b", {}).at("em"), 0);
  EXPECT_EQ(question_scorer({.unanswerable = true})("Unanswerable.", {}).at("f1"), 1);
}

}  // namespace
}  // namespace cepe
