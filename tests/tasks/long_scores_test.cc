// Scores of answers about long texts, compared with the published packages and LongBench's own (golden/long/record.py).
#include "tasks/long/long_scores.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/error_of.h"
#include "base/file.h"
#include "tasks/long/porter_stemmer.h"
#include "tasks/long/rouge.h"

namespace cepe {
namespace {

using nlohmann::json;

const json& recorded() {
  static const json scores = json::parse(read_file(CEPE_TEST_DATA "/long/scores.json"));
  return scores;
}

void expect_scores(const Scores& scores, const std::vector<const char*>& names, const json& values, const json& one) {
  ASSERT_EQ(scores.size(), names.size());
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_NEAR(scores.at(names[i]), values[i].get<double>(), 1e-12) << names[i] << " of " << one.dump();
  }
}

TEST(Rouge, EqualsBothPackages) {
  const json& cases = recorded().at("rouge");
  ASSERT_EQ(cases.size(), 160u);
  int between = 0, stems_differ = 0, packages_differ = 0;
  for (const json& one : cases) {
    const std::string prediction = one.at("prediction");
    const std::vector<std::string> references = one.at("references");
    expect_scores(google_rouge(prediction, references, false), {"rouge1", "rouge2", "rougeL"}, one.at("google"), one);
    expect_scores(google_rouge(prediction, references, true), {"rouge1", "rouge2", "rougeL"}, one.at("stemmed"), one);
    expect_scores(plain_rouge(prediction, references), {"rouge-1", "rouge-2", "rouge-l"}, one.at("plain"), one);
    between += one.at("google")[1] > 0 && one.at("google")[1] < 1;
    stems_differ += one.at("google") != one.at("stemmed");
    packages_differ += std::abs(one.at("google")[2].get<double>() - one.at("plain")[2].get<double>()) > 0.01;
  }
  // The cases tell the definitions apart.
  EXPECT_GT(between, 50);
  EXPECT_GT(stems_differ, 20);
  EXPECT_GT(packages_differ, 50);
}

// Python 3.11: "\u0130stanbul".lower() is "i", U+0307, "stanbul", which rouge-score divides into "i" and "stanbul".
TEST(Rouge, DottedCapitalsAreDividedAsPythonDividesThem) {
  EXPECT_NEAR(google_rouge("\u0130stanbul", {"stanbul"}, false).at("rouge1"), 2.0 / 3, 1e-12);
  EXPECT_EQ(google_rouge("D\u0130\u0130", {"di i"}, false).at("rouge1"), 1);
}

TEST(PorterStemmer, EqualsNltks) {
  const json& stems = recorded().at("stems");
  ASSERT_GT(stems.size(), 700u);
  int shortened = 0;
  for (const auto& [word, stem] : stems.items()) {
    EXPECT_EQ(porter_stem(word), stem.get<std::string>()) << word;
    shortened += word != stem.get<std::string>();
  }
  EXPECT_GT(shortened, 300);
}

TEST(LongScores, EqualLongBenchs) {
  const Scorer f1 = long_scorer({.metric = LongMetric::f1});
  const Scorer classes = long_scorer({.metric = LongMetric::classification, .classes = recorded().at("classes")});
  const Scorer count = long_scorer({.metric = LongMetric::count});
  const Scorer similarity = long_scorer({.metric = LongMetric::similarity});
  std::map<std::string, int> some;
  const auto check = [&](const json& one, const char* name, const char* score, const Scorer& scorer) {
    const json& recorded = one.at(name);
    const std::string truth = recorded[1];
    const double expected = recorded[2];
    EXPECT_NEAR(scorer(recorded[0].get<std::string>(), {truth}).at(score), expected, 1e-12) << one.dump();
    some[name] += expected > 0 && expected < 1;
  };
  for (const json& one : recorded().at("longbench")) {
    // Two texts without words are equal for SQuAD, whose F1 it is, and have nothing in common for LongBench.
    const bool wordless =
        one.at("f1")[2] == 0 && f1(one.at("f1")[0].get<std::string>(), {one.at("f1")[1]}).at("em") == 1;
    if (!wordless) check(one, "f1", "f1", f1);
    check(one, "classification", "classification", classes);
    check(one, "count", "count", count);
    check(one, "retrieval", "count", count);
    check(one, "similarity", "similarity", similarity);
  }
  for (const char* name : {"f1", "classification", "count", "retrieval", "similarity"})
    EXPECT_GT(some[name], 10) << name;
}

TEST(LongScores, ChoicesAreReadFromAnswers) {
  const auto chosen = [](const char* answer) { return chosen_letters(answer, "ABCD"); };
  EXPECT_EQ(chosen("C"), "C");
  EXPECT_EQ(chosen(" (B) because"), "B");
  EXPECT_EQ(chosen("A, C"), "AC");
  EXPECT_EQ(chosen("DBA"), "ABD");
  EXPECT_EQ(chosen("B. D"), "BD");
  EXPECT_EQ(chosen("A, C and D."), "ACD");
  EXPECT_EQ(chosen("I think... The correct answer is (D)."), "D");
  EXPECT_EQ(chosen("the correct answer is C"), "C");
  EXPECT_EQ(chosen("And so on"), "");
  EXPECT_EQ(chosen("A dog"), "") << "an article";
  EXPECT_EQ(chosen("none"), "");
  EXPECT_EQ(chosen(""), "");
  EXPECT_EQ(chosen("A B, C dog"), "AB");
  EXPECT_EQ(chosen("A B dog"), "");
  EXPECT_EQ(chosen("A B"), "AB");
  std::string many;
  for (int i = 0; i < 400000; ++i) many += i % 2 == 0 ? "B," : "A,";
  EXPECT_EQ(chosen(many.c_str()), "AB") << "the stack is not for letters";

  const Scorer choice = long_scorer({.metric = LongMetric::choice});
  EXPECT_EQ(choice("(B) Paris", {"B"}).at("accuracy"), 1);
  EXPECT_EQ(choice("(B) Paris", {"BC"}).at("accuracy"), 0);
  EXPECT_EQ(choice("C, B", {"BC"}).at("accuracy"), 1);
  EXPECT_EQ(choice("true, says the text", {"True"}).at("accuracy"), 1);
  EXPECT_EQ(choice("False", {"True"}).at("accuracy"), 0);
  EXPECT_EQ(choice("(L) because", {"L"}).at("accuracy"), 1);
  EXPECT_EQ(choice("Lions", {"L"}).at("accuracy"), 0);
  EXPECT_EQ(choice("(C) USA", {"C"}).at("accuracy"), 1);
}

TEST(LongScores, NumbersAreTheLastOfAnAnswer) {
  const Scorer number = long_scorer({.metric = LongMetric::number});
  EXPECT_EQ(number("3 and 4 make 7.", {"7"}).at("accuracy"), 1);
  EXPECT_EQ(number("It is $1,200.50", {"1200.5"}).at("accuracy"), 1);
  EXPECT_EQ(number("-5", {"5"}).at("accuracy"), 0);
  EXPECT_EQ(number("7, not 8", {"7"}).at("accuracy"), 0);
  EXPECT_EQ(number("none", {"7"}).at("accuracy"), 0);
}

TEST(LongScores, NamesAreThoseOfTheOption) {
  EXPECT_EQ(long_metric_from_name("rouge", "--metric"), LongMetric::rouge);
  EXPECT_STREQ(main_score_of(LongMetric::rouge), "rougeL");
  EXPECT_EQ(error_of([] { long_metric_from_name("bleu", "--metric"); }),
            "--metric: expected one of auto, f1, rouge, choice, number, classification, count, similarity, found "
            "\"bleu\"");
  EXPECT_THROW(long_scorer({.metric = LongMetric::rouge})("a", {}), Error);
}

}  // namespace
}  // namespace cepe
