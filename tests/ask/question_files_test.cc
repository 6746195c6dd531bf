#include "ask/sources/question_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ask/ask_fixture.h"
#include "base/error_of.h"

namespace cepe {
namespace {

using ask_test::write;
using testing::ElementsAre;
using testing::StartsWith;

TEST(QuestionFiles, SquadAndFlat) {
  const TemporaryDirectory directory;
  write(directory, "squad.json", ask_test::squad_json());
  const AskQuestionFile squad =
      read_question_file("squad.json;share=2.5", directory.path(), QuestionChoice::HotpotQa::training);
  EXPECT_EQ(squad.share, 2.5);
  ASSERT_EQ(squad.questions.size(), 12u);  // the impossible ones are left out
  ASSERT_EQ(squad.passages.size(), 6u);
  EXPECT_EQ(squad.passages[1].title, "Lighthouses");
  EXPECT_EQ(squad.questions[3].question, "How many lamps has the lighthouse of rock 1?");
  EXPECT_THAT(squad.questions[3].answers, ElementsAre("31"));
  EXPECT_THAT(squad.questions[3].gold, ElementsAre(1u));

  write(directory, "flat.json", R"([{"context": "C one", "question": "Q", "answer": "one"},
                                    {"context": "C one", "question": "R", "answer": ["other", "C one", "C"]}])");
  const AskQuestionFile flat = read_question_file("flat.json", directory.path(), QuestionChoice::HotpotQa::training);
  EXPECT_EQ(flat.passages.size(), 1u);
  EXPECT_THAT(flat.questions[1].answers, ElementsAre("C", "C one", "other"));
  // Case and accents may differ; an answer that stands nowhere is none, but yes and no need not stand.
  write(directory, "found.json",
        R"([{"context": "The CAF\u00c9 is red.", "question": "Q", "answer": ["tea", "caf\u00e9"]},
                                     {"context": "The cafe is red.", "question": "R", "answer": "blue"},
                                     {"context": "The cafe is red.", "question": "S", "answer": "Yes"}])");
  const AskQuestionFile found = read_question_file("found.json", directory.path(), QuestionChoice::HotpotQa::training);
  ASSERT_EQ(found.questions.size(), 2u);
  EXPECT_EQ(found.questions[0].answers[0], "caf\u00e9");
  EXPECT_EQ(found.questions[1].question, "S");
  // A title that the file does not have is none.
  write(directory, "untitled.json", R"({"data": [{"paragraphs": [{"context": "C one", "qas": [
      {"id": "1", "question": "Q", "answers": [{"text": "one", "answer_start": 2}]}]}]}]})");
  EXPECT_EQ(read_question_file("untitled.json", directory.path(), QuestionChoice::HotpotQa::training).passages[0].title,
            "");
}

TEST(QuestionFiles, HotpotQaIsTrainedOnWhereItDoesNotMeasure) {
  const TemporaryDirectory directory;
  // Hexadecimal 5 and a are divisible by five, 6 is not, 1a (26) is not, 19 (25) is.
  std::string list;
  for (const char* id : {"5", "6", "a", "1a", "19"}) {
    list += std::string(list.empty() ? "[" : ",") + R"({"_id": ")" + id + R"(", "question": "Q)" + id +
            R"(", "answer": "yes", "supporting_facts": [["B", 0]], "context": [["A", ["x."]], ["B", ["y.", " z."]]]})";
  }
  write(directory, "h.json", list + "]");
  const auto names = [&](QuestionChoice::HotpotQa part) {
    std::vector<std::string> all;
    for (const AskQuestion& q : read_question_file("h.json", directory.path(), part).questions)
      all.push_back(q.question);
    return all;
  };
  EXPECT_THAT(names(QuestionChoice::HotpotQa::training), ElementsAre("Q6", "Q1a"));
  EXPECT_THAT(names(QuestionChoice::HotpotQa::measuring), ElementsAre("Q5", "Qa", "Q19"));
  const AskQuestionFile file = read_question_file("h.json", directory.path(), QuestionChoice::HotpotQa::training);
  ASSERT_EQ(file.passages.size(), 2u);
  EXPECT_EQ(file.passages[1].text, "y. z.");
  EXPECT_THAT(file.questions[0].gold, ElementsAre(1u));
}

TEST(QuestionFiles, LinesOddAndEven) {
  const TemporaryDirectory directory;
  std::string lines;
  for (int i = 1; i <= 4; ++i) {
    lines += fmt::format(R"({{"question": "Q{0}", "answers": ["A{0}"], "ctxs": [{{"title": "T", "text": "no"}}, )"
                         R"({{"title": "T", "text": "has A{0}", "isgold": true}}]}})"
                         "\n",
                         i);
  }
  write(directory, "n.jsonl",
        lines + R"({"question": "P", "answers": ["x"], "ctxs": [{"text": "an x"}, {"text": "b"}]})" + "\n");
  const auto odd = read_question_file("n.jsonl;lines=odd", directory.path(), QuestionChoice::HotpotQa::training);
  ASSERT_EQ(odd.questions.size(), 3u);
  EXPECT_EQ(odd.questions[1].question, "Q3");
  EXPECT_EQ(odd.passages[odd.questions[1].gold.at(0)].text, "has A3");
  EXPECT_EQ(odd.passages[odd.questions[2].gold.at(0)].text, "an x");
  const auto even = read_question_file("n.jsonl;lines=even", directory.path(), QuestionChoice::HotpotQa::training);
  ASSERT_EQ(even.questions.size(), 2u);
  EXPECT_EQ(even.questions[0].question, "Q2");
}

TEST(QuestionFiles, MalformedOnesAreRefusedByPlace) {
  const TemporaryDirectory directory;
  const auto refused = [&](const std::string& name, const std::string& text, const std::string& settings = "") {
    const std::string path = write(directory, name, text);
    const std::string sentence =
        error_of([&] { read_question_file(name + settings, directory.path(), QuestionChoice::HotpotQa::training); });
    return sentence.starts_with(path) ? sentence.substr(path.size()) : sentence;
  };
  const std::string good = R"({"question": "Q", "answers": ["A"], "documents": ["d holds A"]})";
  EXPECT_EQ(refused("a.jsonl", good + "\n{\"question\": 3, \"answers\": [\"A\"]}\n"),
            ":2: expected \"question\" to be a JSON string, found a JSON number");
  EXPECT_THAT(refused("a.jsonl", good + "\n\nnothing\n"), StartsWith(":3: not valid JSON"));
  EXPECT_EQ(refused("a.jsonl", R"({"question": "Q", "answers": ["A"], "documents": ["d"]})"),
            ": expected questions with an answer and a passage that answers, found none");
  EXPECT_EQ(refused("a.json", "[]", ";lines=odd"),
            ": expected an object a line, of which odd or even ones can be taken, found one JSON value");
  EXPECT_EQ(refused("a.jsonl", good, ";lines=third"),
            "a.jsonl;lines=third: expected lines=odd or lines=even, found \"lines=third\"");
  EXPECT_EQ(refused("a.jsonl", good, ";weight=1"),
            "a.jsonl;weight=1: expected lines= or share= after the file's name, found \"weight=1\"");
}

}  // namespace
}  // namespace cepe
