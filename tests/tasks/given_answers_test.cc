// Files of another program's answers: what is read, and what is refused.
#include "tasks/given_answers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error_of.h"
#include "base/random.h"
#include "base/temporary_directory.h"

namespace cepe {
namespace {

using testing::HasSubstr;

class GivenAnswersTest : public testing::Test {
 protected:
  GivenAnswers read(const std::string& content) const {
    std::ofstream(directory_ / "a.jsonl") << content;
    return read_given_answers(directory_ / "a.jsonl");
  }
  void refused(const std::string& content, const std::string& phrase) const {
    EXPECT_THAT(error_of([&] { read(content); }), HasSubstr(phrase)) << content;
  }
  // Examples "0", "1" and so on, with a document each.
  static Task task(int64_t examples, const std::string& asked) {
    return {.name = "t",
            .examples = examples,
            .example =
                [asked](int64_t index) {
                  Example example{.id = std::to_string(index), .documents = {{"d", "a text"}}, .question = {}};
                  example.question.question = asked;
                  return example;
                },
            .score = {},
            .main_score = ""};
  }

  TemporaryDirectory directory_;
};

TEST_F(GivenAnswersTest, AreReadByTheirIds) {
  const auto answers = read(
                           "{\"id\": \"b\", \"text\": \"two\\nlines\", \"seconds\": 1.5, \"peak_memory_bytes\": 1e18}\n"
                           "{\"text\": \"\", \"id\": \"a\", \"more\": [1]}\n")
                           .by_id;
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers.at("a").text, "");
  EXPECT_EQ(answers.at("a").seconds, 0);
  EXPECT_EQ(answers.at("a").peak_memory, 0);
  EXPECT_EQ(answers.at("b").text, "two\nlines");
  EXPECT_EQ(answers.at("b").seconds, 1.5);
  EXPECT_EQ(answers.at("b").peak_memory, 1'000'000'000'000'000'000);
}

TEST_F(GivenAnswersTest, MalformedLinesAreNamed) {
  const std::string good = "{\"id\": \"a\", \"text\": \"t\"}\n",
                    object = "a.jsonl:2: expected an object with the strings";
  for (const char* line : {"[1]", "3", "null", "\"a\"", "{}", "{\"id\": \"b\"}", "{\"text\": \"t\"}",
                           "{\"id\": 1, \"text\": \"t\"}", "{\"id\": \"b\", \"text\": null}"}) {
    refused(good + line + "\n", object);
  }
  refused(good + "{\"id\": \"b\", \"text\": \"t\"\n", "a.jsonl:2");
  refused(good + "{\"id\": \"b\", \"text\": \"\xff\"}\n", "a.jsonl");
  refused(good + good, "a.jsonl:2: expected one answer to a, found a second");
}

TEST_F(GivenAnswersTest, NumbersThatMakeNoSenseAreRefused) {
  for (const std::string name : {"seconds", "peak_memory_bytes"}) {
    for (const char* value : {"-1", "1e300", "1.1e18", "\"1\"", "null", "true", "[]"}) {
      std::string line = "{\"id\": \"a\", \"text\": \"t\", \"";
      line += name + "\": " + value + "}\n";
      refused(line, "a.jsonl:1: expected \"" + name + "\" to be a number from 0 to 1e18, found ");
    }
  }
}

TEST_F(GivenAnswersTest, BelongToTheInputThatTheyName) {
  const std::vector<Task> tasks = {task(2, "who?")}, others = {task(2, "where?")};
  write_example_inputs(tasks, PromptForm::question, directory_ / "inputs.jsonl");
  std::string line, answers;
  for (std::ifstream inputs(directory_ / "inputs.jsonl"); std::getline(inputs, line);) {
    const auto record = nlohmann::json::parse(line);
    EXPECT_EQ(record.at("input").get<std::string>().size(), 64u);
    answers += nlohmann::json{{"id", record.at("id")}, {"input", record.at("input")}, {"text", "t"}}.dump() + "\n";
  }
  EXPECT_EQ(check_given_answers(read(answers), tasks, PromptForm::question).unmatched, 0);
  const std::vector<Task> subset = {task(1, "who?")};
  EXPECT_EQ(check_given_answers(read(answers), subset, PromptForm::question).unmatched, 1);
  const std::string phrase = "a.jsonl: 0: expected an answer to what the example reads, found one to another input";
  EXPECT_THAT(error_of([&] { check_given_answers(read(answers), others, PromptForm::question); }), HasSubstr(phrase));
  EXPECT_THAT(error_of([&] { check_given_answers(read(answers), tasks, PromptForm::task); }), HasSubstr(phrase));
  refused("{\"id\": \"a\", \"text\": \"t\", \"input\": 3}\n", "a.jsonl:1: expected \"input\" to be a string, found 3");
  // Answers that name no input are taken as they are.
  EXPECT_EQ(check_given_answers(read("{\"id\": \"0\", \"text\": \"t\"}\n"), subset, PromptForm::task).unmatched, 0);
}

TEST_F(GivenAnswersTest, EveryExampleHasOne) {
  const std::vector<Task> tasks = {task(1, "who?"), task(2, "who?")};
  const GivenAnswers answers = read("{\"id\": \"0\", \"text\": \"t\"}\n");
  EXPECT_THAT(error_of([&] { check_given_answers(answers, tasks, PromptForm::task); }),
              HasSubstr("a.jsonl: expected an answer to 1, found none"));
  Task chosen = task(1, "who?");
  chosen.example = [](int64_t) { return Example{.id = "0", .question = {}, .options = {"A", "B"}}; };
  EXPECT_THAT(error_of([&] { check_given_answers(answers, {&chosen, 1}, PromptForm::task); }),
              HasSubstr("a.jsonl: 0: an option is to be chosen by likelihood"));
}

TEST_F(GivenAnswersTest, CostWhatThoseOfTheRunDo) {
  const std::vector<Task> tasks = {task(2, "who?")};
  const auto line = [](const char* id, double seconds, int64_t memory) {
    return nlohmann::json{{"id", id}, {"text", "t"}, {"seconds", seconds}, {"peak_memory_bytes", memory}}.dump() + "\n";
  };
  const GivenAnswers answers = read(line("0", 1.5, 9) + line("1", 0.25, 7) + line("2", 8, 100));
  const GivenTotals totals = check_given_answers(answers, tasks, PromptForm::task);
  EXPECT_EQ(totals.seconds, 1.75);
  EXPECT_EQ(totals.most_memory, 9);
  EXPECT_EQ(totals.unmatched, 1);
}

// Bytes of all kinds are read or refused with a sentence, never anything else.
TEST_F(GivenAnswersTest, HostileBytesAreRefused) {
  KeyedRandom random{19};
  const std::string whole = "{\"id\": \"a\", \"text\": \"t\", \"seconds\": 1, \"peak_memory_bytes\": 2}\n";
  const std::string alphabet = "\"\",\n 01e-{}[]:\\\x80\xC3\xA9";
  for (int i = 0; i < 200; ++i) {
    std::string content = whole;
    for (int64_t n = 1 + random.below(3); n > 0; --n) {
      content[static_cast<size_t>(random.below(std::ssize(content)))] =
          alphabet[static_cast<size_t>(random.below(std::ssize(alphabet)))];
    }
    const std::string error = error_of([&] { read(content); });
    EXPECT_TRUE(error.empty() || error.find("a.jsonl") != std::string::npos) << error;
  }
}

}  // namespace
}  // namespace cepe
