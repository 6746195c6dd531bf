#include "tasks/recall_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "base/temporary_directory.h"

namespace cepe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::filesystem::path kGolden = std::filesystem::path(CEPE_TEST_DATA) / "ruler";

// The sentences of a text, split by split_essays.
std::vector<std::string> sentences(std::string_view text) {
  const Essays essays = split_essays(text);
  std::vector<std::string> made(1);
  for (size_t i = 0; i < essays.words.size(); ++i) {
    made.back() += (made.back().empty() ? "" : " ") + essays.words[i];
    if (essays.ends[i] && i + 1 < essays.words.size()) made.emplace_back();
  }
  return made;
}

TEST(SplitEssays, EndsSentencesWhereAReaderWould) {
  EXPECT_THAT(sentences("It rained. \"Who is there?\" he asked.  Mr. Gryce\nsaid: \"I am!\" (So he was.) J. S. Bach, "
                        "e.g. at 3.5 p.m. sharp"),
              ElementsAre("It rained.", "\"Who is there?\" he asked.", "Mr. Gryce said: \"I am!\"", "(So he was.)",
                          "J. S. Bach, e.g. at 3.5 p.m. sharp"));
  EXPECT_THAT(split_essays(" \n\t").words, ElementsAre());
}

TEST(ReadSquad, KeepsAnswerableQuestionsWithTheirParagraphs) {
  const DocumentQuestions squad = read_squad(kGolden / "squad.json");
  EXPECT_EQ(squad.documents.size(), 40u);
  ASSERT_EQ(squad.questions.size(), 40u) << "one of two is impossible";
  EXPECT_TRUE(std::is_sorted(squad.documents.begin(), squad.documents.end()));
  for (const DocumentQuestion& question : squad.questions) {
    ASSERT_EQ(question.gold.size(), 1u);
    EXPECT_THAT(squad.documents[question.gold[0]], HasSubstr(question.answers.at(0)));
    EXPECT_EQ(question.related.size(), 3u) << "four paragraphs an article";
    EXPECT_THAT(question.related, testing::Not(testing::Contains(question.gold[0])));
  }
}

TEST(ReadHotpotQa, KeepsEveryFifthQuestionOnTenDocuments) {
  const DocumentQuestions hotpot = read_hotpotqa(kGolden / "hotpotqa.json");
  EXPECT_EQ(hotpot.documents.size(), 40u) << "of all questions";
  EXPECT_EQ(hotpot.questions.size(), 20u) << "the golden has every other _id divisible by five";
  for (const DocumentQuestion& question : hotpot.questions) {
    EXPECT_EQ(question.gold.size(), 10u);
    int found = 0;
    for (const size_t d : question.gold) {
      found += hotpot.documents[d].find("was " + question.answers.at(0) + ".") != std::string::npos;
    }
    EXPECT_GE(found, 1);
  }
}

class RecallDataFiles : public testing::Test {
 protected:
  TemporaryDirectory directory_;
  std::filesystem::path write(const std::string& name, const std::string& content) {
    write_file(directory_.path() / name, content);
    return directory_.path() / name;
  }
  static void refuses(const std::function<void()>& read, const std::string& phrase) {
    EXPECT_THAT(error_of<Error>(read), HasSubstr(phrase));
  }
};

TEST_F(RecallDataFiles, AreReadByTheirNames) {
  write("nounlist.txt", "town\n\n road \ntown\n");
  write("adjectivelist.txt", "grey\n");
  write("PaulGrahamEssays.json", R"({"text": "One. Two."})");
  const RecallData data = read_recall_data(directory_.path(), {});
  EXPECT_THAT(data.nouns, ElementsAre("road", "town"));
  EXPECT_THAT(data.adjectives, ElementsAre("grey"));
  EXPECT_THAT(data.verbs, ElementsAre());
  EXPECT_THAT(data.essays.words, ElementsAre("One.", "Two."));
  EXPECT_TRUE(data.squad.questions.empty());
}

TEST_F(RecallDataFiles, QuestionsAreReadForTheTasksThatAskThem) {
  write("squad.json", read_file(kGolden / "squad.json"));
  write("hotpotqa.json", "damaged");
  const RecallData data = read_recall_data(directory_.path(), {}, {"vt", "qa_1"});
  EXPECT_EQ(data.squad.questions.size(), 40u);
  EXPECT_TRUE(data.hotpotqa.questions.empty());
  EXPECT_TRUE(read_recall_data(directory_.path(), {}, {"vt"}).squad.questions.empty());
  refuses([&] { read_recall_data(directory_.path(), {}, {"qa_2"}); }, "hotpotqa.json");
  refuses([&] { read_recall_data(directory_.path(), {}); }, "hotpotqa.json");
}

TEST_F(RecallDataFiles, EssaysMayBeAnyText) {
  std::filesystem::create_directory(directory_.path() / "texts");
  write("texts/b.txt", "Second.");
  write("texts/a.jsonl", "{\"text\": \"First one.\"}\n{\"text\": \"First two.\"}\n");
  const RecallData data = read_recall_data(directory_.path(), directory_.path() / "texts");
  EXPECT_THAT(data.essays.words, ElementsAre("First", "one.", "First", "two.", "Second."));
}

TEST_F(RecallDataFiles, WhatTheyLackIsNamed) {
  const auto squad = [&](const std::string& content) { return [=, this] { read_squad(write("s.json", content)); }; };
  refuses(squad("{}"), "s.json: \"data\" is missing");
  refuses(squad("[]"), "expected a JSON object with \"data\", found a JSON array");
  refuses(squad(R"({"data": [{"paragraphs": [{"context": 3}]}]})"),
          "data[0].paragraphs[0]: expected \"context\" to be a JSON string");
  refuses(squad(R"({"data": [{"paragraphs": [{"context": "a", "qas": [{"question": "b"}]}]}]})"),
          "data[0].paragraphs[0]: \"answers\" is missing");
  refuses(squad(R"({"data": []})"), "expected questions, found none");
  refuses(squad("{\"data\""), "s.json");
  const auto hotpot = [&](const std::string& content) {
    return [=, this] { read_hotpotqa(write("h.json", content)); };
  };
  refuses(hotpot("{}"), "expected a JSON array of questions");
  refuses(hotpot(R"([{"question": "a", "answer": "b", "context": [["t"]]}])"),
          "[0]: expected \"context\" to hold pairs");
  refuses(hotpot(R"([{"question": "a", "answer": "b", "context": [["t", [1]]]}])"), "sentences to be strings");
  refuses(hotpot(R"([{"_id": "xyz", "question": "a", "answer": "b", "context": []}])"), "hexadecimal");
  refuses(hotpot(R"([{"_id": "1", "question": "a", "answer": "b", "context": []}])"), "divisible by five, found none");
  refuses([&] { read_recall_data(directory_.path() / "none", {}); }, "expected a directory with data");
  refuses([&] { read_recall_data(directory_.path(), directory_.path() / "none"); }, "none");
  write("nounlist.txt", "\n \n");
  refuses([&] { read_recall_data(directory_.path(), {}); }, "nounlist.txt: the list has no word");
  write("nounlist.txt", "a\xFF\n");
  refuses([&] { read_recall_data(directory_.path(), {}); }, "nounlist.txt:1: expected UTF-8");
}

}  // namespace
}  // namespace cepe
