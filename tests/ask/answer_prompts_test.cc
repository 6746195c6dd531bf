#include "ask/answer_prompts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "ask/ask_fixture.h"
#include "ask/sources/question_files.h"
#include "base/error_of.h"
#include "base/file.h"

namespace cepe {
namespace {

using ask_test::write;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<json> lines_of(const std::filesystem::path& path) {
  std::vector<json> lines;
  std::istringstream text(read_file(path));
  for (std::string line; std::getline(text, line);) lines.push_back(json::parse(line));
  return lines;
}

TEST(AnswerPrompts, APromptHasItsPassagesAndItsIdTheQuestion) {
  const TemporaryDirectory directory;
  write(directory, "q.json", R"([
    {"question": "Who lit it?", "answer": "Anna", "documents": [{"title": "Lamp", "text": "Anna lit it."},
                                                                {"title": "Door", "text": "It was shut."}],
     "gold": [0]},
    {"question": "And then?", "answers": ["x"]},
    {"question": "When?", "answer": "June", "context": "It rained in June."}])");
  const std::string file = (directory / "q.json").string();
  const AnswerPromptsCounts counts = write_answer_prompts({file}, directory / "p.jsonl", {"Answer in full."});
  EXPECT_EQ(counts.prompts, 2);
  EXPECT_EQ(counts.without_passage, 1);
  const std::vector<json> lines = lines_of(directory / "p.jsonl");
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0]["prompt"], "Answer in full.\n\nLamp\nAnna lit it.\n\nWho lit it?");
  EXPECT_EQ(lines[0]["id"]["question"], "Who lit it?");
  EXPECT_EQ(lines[0]["id"]["passages"], json::parse(R"([{"title": "Lamp", "text": "Anna lit it."}])"));
  EXPECT_EQ(lines[0]["id"]["instruction"], "Answer in full.");
  EXPECT_EQ(lines[1]["prompt"], "Answer in full.\n\nIt rained in June.\n\nWhen?");
  write(directory, "none.json", R"([{"question": "Q", "answers": ["a"]}, {"question": "R", "answers": ["b"]}])");
  EXPECT_THAT(
      error_of<Error>([&] { write_answer_prompts({(directory / "none.json").string()}, directory / "out.jsonl"); }),
      HasSubstr("expected a question with a passage"));
  EXPECT_FALSE(std::filesystem::exists(directory / "out.jsonl"));
  EXPECT_THAT(error_of<Error>([&] { write_answer_prompts({file + ";share=2"}, directory / "out.jsonl"); }),
              HasSubstr("q.json;share=2: share= says how often"));
}

// SQuAD 2.0's questions without an answer have a paragraph, which does not answer them.
TEST(AnswerPrompts, WhatCannotBeAnsweredIsNotAsked) {
  const TemporaryDirectory directory;
  write(directory, "squad.json", R"({"data": [{"title": "Lamp", "paragraphs": [{"context": "Anna lit it.", "qas": [
    {"id": "1", "question": "Who lit it?", "answers": [{"text": "Anna"}], "is_impossible": false},
    {"id": "2", "question": "Who paid?", "answers": [], "plausible_answers": [{"text": "Anna"}],
     "is_impossible": true}]}]}]})");
  const AnswerPromptsCounts counts = write_answer_prompts({(directory / "squad.json").string()}, directory / "p.jsonl");
  EXPECT_EQ(counts.prompts, 1);
  EXPECT_EQ(counts.without_passage, 1);
  const std::vector<json> lines = lines_of(directory / "p.jsonl");
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0]["id"]["question"], "Who lit it?");
  EXPECT_FALSE(lines[0]["id"].contains("instruction"));
}

// What a model wrote of such prompts is a source: its own words, though no passage holds them; what was cut off, failed
// or is empty is none.
TEST(AnswerPrompts, AnswersAreTakenAsTheyAre) {
  const TemporaryDirectory directory;
  write(directory, "q.json", R"([{"question": "Who?", "answer": "Anna", "context": "Anna lit it."}])");
  write_answer_prompts({(directory / "q.json").string()}, directory / "p.jsonl", {"Say who."});
  const json id = lines_of(directory / "p.jsonl")[0]["id"];
  const auto answer = [&](int place, const std::string& text, const std::string& reason) {
    json asked = id;
    asked["question"] = fmt::format("Who {}?", place);
    return json({{"id", asked}, {"index", place}, {"text", text}, {"stop_reason", reason}}).dump() + "\n";
  };
  json failed = {{"id", id}, {"index", 4}, {"error", "no"}};
  write(directory, "a.jsonl",
        failed.dump() + "\n" + answer(0, " It was\n\nShe who lights. \n", "end_token") +
            answer(1, "cut", "max_tokens") + answer(2, "", "end_token") + answer(3, "cut", "window") +
            answer(4, "Stopped", "stop_string"));
  const AskQuestionFile file = read_question_file("a.jsonl", directory.path(), QuestionChoice::HotpotQa::training);
  ASSERT_EQ(file.questions.size(), 2u);
  EXPECT_EQ(file.questions[0].question, "Who 0?");
  EXPECT_EQ(file.questions[0].instruction, "Say who.");
  EXPECT_TRUE(file.questions[0].by_model);
  EXPECT_THAT(file.questions[0].answers, ElementsAre("It was\n\nShe who lights."));
  EXPECT_THAT(file.questions[1].answers, ElementsAre("Stopped"));
  ASSERT_EQ(file.passages.size(), 1u);
  EXPECT_EQ(file.passages[0].text, "Anna lit it.");
  EXPECT_THAT(file.questions[1].gold, ElementsAre(0u));
  write(directory, "bad.jsonl",
        R"({"id": {"question": "Q"}, "text": "t", "stop_reason": "end_token"})"
        "\n");
  EXPECT_THAT(
      error_of<Error>([&] { read_question_file("bad.jsonl", directory.path(), QuestionChoice::HotpotQa::training); }),
      HasSubstr("bad.jsonl:1: \"passages\" is missing"));
}

}  // namespace
}  // namespace cepe
