// Files of questions: excerpts of published ones and made-up ones of their forms (tests/golden/qa/excerpts.py).
#include "tasks/questions/question_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <filesystem>

#include "base/error.h"
#include "base/error_of.h"
#include "base/file.h"
#include "base/temporary_directory.h"

namespace cepe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const std::filesystem::path kGolden = std::filesystem::path(CEPE_TEST_DATA) / "qa";

QuestionSet golden_set(const std::string& file) { return read_questions(kGolden / file); }

TEST(ReadQuestions, NqOpenHasAnswersAlone) {
  const QuestionSet set = golden_set("nq_open.jsonl");
  EXPECT_EQ(set.form, QuestionForm::nq_open);
  EXPECT_EQ(set.name, "nq_open");
  ASSERT_EQ(set.questions.size(), 5u);
  EXPECT_EQ(set.questions[0].question, "when was the last time anyone was on the moon");
  EXPECT_THAT(set.questions[0].answers, ElementsAre("14 December 1972 UTC", "December 1972"));
  EXPECT_EQ(set.questions[4].id, "line 5");
  EXPECT_THAT(set.passages, IsEmpty());
  EXPECT_NE(set.questions[0].cluster, set.questions[1].cluster);
}

TEST(ReadQuestions, LostInTheMiddleMarksItsGoldPassage) {
  const QuestionSet set = golden_set("lost_in_the_middle.jsonl");
  EXPECT_EQ(set.form, QuestionForm::dpr);
  ASSERT_EQ(set.questions.size(), 4u);
  ASSERT_EQ(set.passages.size(), 4u);
  for (size_t q = 0; q < 4; ++q) {
    EXPECT_THAT(set.questions[q].gold, ElementsAre(q));
    EXPECT_THAT(set.passages[q].text, HasSubstr(set.questions[q].answers[0]));
  }
  EXPECT_EQ(set.questions[1].cluster, "Deadpool 2");
  EXPECT_THAT(passage_text(set.passages[1]), testing::StartsWith("Deadpool 2\nDeadpool 2 is scheduled"));
}

TEST(ReadQuestions, RetrievalResultsTakeTheFirstPassageWithAnAnswerAsGold) {
  const QuestionSet set = golden_set("dpr.json");
  EXPECT_EQ(set.form, QuestionForm::dpr);
  ASSERT_EQ(set.questions.size(), 1u);
  EXPECT_THAT(set.questions[0].passages, ElementsAre(0, 1, 2));
  EXPECT_THAT(set.questions[0].gold, ElementsAre(1));
}

TEST(ReadQuestions, SquadKeepsQuestionsWithoutAnAnswer) {
  const QuestionSet set = golden_set("squad.json");
  EXPECT_EQ(set.form, QuestionForm::squad);
  ASSERT_EQ(set.questions.size(), 7u);
  EXPECT_EQ(set.passages.size(), 4u);
  EXPECT_EQ(set.questions[0].id, "Baro-1");
  EXPECT_THAT(set.questions[0].answers, ElementsAre("Dola")) << "each once";
  EXPECT_EQ(set.questions[1].question, "Who painted Baro?") << "one line";
  EXPECT_THAT(set.questions[1].answers, IsEmpty());
  EXPECT_THAT(set.questions[1].gold, ElementsAre(0)) << "the passage that it is asked about";
  EXPECT_EQ(set.questions[5].cluster, "Towns");
  EXPECT_EQ(set.questions[6].cluster, "Rivers");
  EXPECT_EQ(passage_text(set.passages[3]), "The Tiva ends in the sea.") << "no title";
}

TEST(ReadQuestions, HotpotQaKeepsEveryFifthQuestionAndAllPassages) {
  const QuestionSet set = golden_set("hotpotqa.json");
  EXPECT_EQ(set.form, QuestionForm::hotpotqa);
  ASSERT_GE(set.questions.size(), 2u);
  ASSERT_LT(set.questions.size(), 6u);
  std::vector<bool> asked(set.passages.size());
  for (const OpenQuestion& question : set.questions) {
    int64_t remainder = 0;
    for (const char c : question.id) remainder = (16 * remainder + std::stoi(std::string(1, c), nullptr, 16)) % 5;
    EXPECT_EQ(remainder, 0);
    EXPECT_EQ(question.gold.size(), 2u) << "two titles support an answer";
    EXPECT_GT(question.passages.size(), 2u);
    EXPECT_EQ(question.cluster, set.passages[question.gold[0]].title);
    for (const size_t passage : question.passages) asked[passage] = true;
  }
  EXPECT_GT(std::count(asked.begin(), asked.end(), false), 0) << "of the questions that are left out";
}

TEST(ReadQuestions, PopQaReadsAnswersThatAreAText) {
  const QuestionSet set = golden_set("popqa.json");
  EXPECT_EQ(set.form, QuestionForm::popqa);
  ASSERT_EQ(set.questions.size(), 3u);
  EXPECT_THAT(set.questions[0].answers,
              ElementsAre("politician", "political leader", "political figure", "polit.", "pol"));
  EXPECT_EQ(set.questions[0].gold.size(), 2u);
  EXPECT_EQ(set.questions[0].id, "0");
}

TEST(ReadQuestions, TriviaQaAddsAliases) {
  const QuestionSet set = golden_set("triviaqa.json");
  EXPECT_EQ(set.form, QuestionForm::triviaqa);
  EXPECT_THAT(set.questions.at(0).answers, ElementsAre("Sea", "Ocean", "the sea"));
  EXPECT_EQ(set.questions[0].id, "tc_0");
  const QuestionSet flashrag = golden_set("flashrag.jsonl");
  EXPECT_EQ(flashrag.form, QuestionForm::flashrag);
  EXPECT_EQ(flashrag.questions.size(), 3u);
  EXPECT_THAT(flashrag.questions[0].answers, testing::Contains("Samuel Clemens"));
}

TEST(ReadQuestions, PlainRecordsTakeWhatTheyHave) {
  const QuestionSet set = golden_set("plain.jsonl");
  EXPECT_EQ(set.form, QuestionForm::plain);
  ASSERT_EQ(set.questions.size(), 3u);
  EXPECT_EQ(set.questions[0].id, "3");
  EXPECT_THAT(set.questions[0].gold, ElementsAre(0));
  EXPECT_EQ(set.passages[1].title, "Meve");
  EXPECT_THAT(set.questions[1].gold, ElementsAre(3)) << "the first with an answer";
  EXPECT_THAT(set.questions[2].answers, IsEmpty());
  EXPECT_THAT(set.questions[2].gold, ElementsAre(4));
}

// The text as one gzip member.
std::string gzipped(const std::string& text) {
  z_stream stream = {};
  EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string packed(text.size() + 100, '\0'), source = text;
  stream.next_in = reinterpret_cast<Bytef*>(source.data());
  stream.avail_in = static_cast<uInt>(source.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

class QuestionFiles : public testing::Test {
 protected:
  QuestionSet read(const std::string& name, const std::string& content,
                   QuestionForm form = QuestionForm::automatic) const {
    write_file(directory_.path() / name, content);
    return read_questions(directory_.path() / name, form);
  }
  void refuses(const std::string& name, const std::string& content, const std::string& phrase,
               QuestionForm form = QuestionForm::automatic) const {
    EXPECT_THAT(error_of([&] { read(name, content, form); }), HasSubstr(phrase)) << content;
  }
  TemporaryDirectory directory_;
};

TEST_F(QuestionFiles, MayBeLinesListsAndCompressed) {
  const std::string one = R"({"question": "a?", "answer": ["b"]})", two = R"({"question": "c?", "answer": ["d"]})";
  for (const auto& [name, content] :
       {std::pair{"lines.jsonl", one + "\n\n" + two + "\n"}, std::pair{"lines.json", one + "\n" + two},
        std::pair{"list.json", "[" + one + ",\n" + two + "]"},
        std::pair{"mark.json", "\xEF\xBB\xBF[" + one + "," + two + "]"}, std::pair{"other.txt", one + "\n" + two}}) {
    EXPECT_EQ(read(name, content).questions.size(), 2u) << name;
    std::string packed(ZSTD_compressBound(content.size()), '\0');
    packed.resize(ZSTD_compress(packed.data(), packed.size(), content.data(), content.size(), 1));
    const QuestionSet set = read(std::string(name) + ".zst", packed);
    EXPECT_EQ(set.questions.size(), 2u) << name;
    EXPECT_EQ(set.questions[1].question, "c?");
  }
  EXPECT_EQ(read("lines.jsonl.zst.jsonl", one).name, "lines.jsonl.zst");
}

TEST_F(QuestionFiles, AreReadFromGzip) {
  const std::string text = R"({"question": "a?", "answer": ["b"]})"
                           "\n"
                           R"({"question": "c?", "answer": ["d"]})";
  const std::string packed = gzipped(text);
  for (const char* name : {"x.jsonl.gz", "x.json.gz", "by_its_bytes.jsonl"}) {
    EXPECT_EQ(read(name, packed).questions.size(), 2u) << name;
  }
  EXPECT_EQ(read("x.jsonl.gz", packed).name, "x");
  EXPECT_EQ(
      read("two.jsonl.gz", gzipped(text + "\n") + gzipped(R"({"question": "e?", "answer": ["f"]})")).questions.size(),
      3u)
      << "members one after another";
  for (const size_t size : {size_t{4}, packed.size() / 2, packed.size() - 1}) {
    refuses("half.jsonl.gz", packed.substr(0, size), "half.jsonl.gz: the gzip stream ends in the middle");
  }
  std::string damaged = packed;
  damaged[packed.size() - 5] ^= 1;  // of the checksum
  refuses("damaged.jsonl.gz", damaged, "damaged.jsonl.gz: not a valid gzip stream: incorrect");
  refuses("x.jsonl.GZ", packed, "a compressed text file is named .gz, in small letters");
}

TEST_F(QuestionFiles, WhatIsWrongIsLeftOutWhereThatIsAskedFor) {
  std::vector<std::string> faults;
  const QuestionChoice choice{.faults = &faults};
  write_file(directory_.path() / "x.jsonl",
             R"({"question": "a?", "answers": ["b"], "documents": ["b c", " ", "d"], "gold": [1, 2]})"
             "\n{\"question\"\n"
             R"({"question": "", "answers": ["b"]})"
             "\n"
             R"({"question": "c?", "answers": ["d"]})");
  const QuestionSet lines = read_questions(directory_.path() / "x.jsonl", QuestionForm::automatic, choice);
  ASSERT_EQ(lines.questions.size(), 2u);
  EXPECT_THAT(lines.questions[0].passages, ElementsAre(0, 1));
  EXPECT_EQ(lines.passages[lines.questions[0].gold.at(0)].text, "d") << "the blank one is gold no longer";
  EXPECT_THAT(faults, ElementsAre(HasSubstr("x.jsonl:1: a passage has no text"), HasSubstr("x.jsonl:2: not valid JSON"),
                                  HasSubstr("x.jsonl:3: the question is empty")));
  faults.clear();
  write_file(
      directory_.path() / "squad.json",
      R"({"data": [{"title": "t", "paragraphs": [{"context": " ", "qas": [{"question": "a?", "answers": []}]},)"
      R"( {"context": "c", "qas": [{"question": "b?"}, {"question": "c?", "answers": [{"text": "c"}]}]}]}, 3]})");
  const QuestionSet squad = read_questions(directory_.path() / "squad.json", QuestionForm::automatic, choice);
  EXPECT_EQ(squad.questions.size(), 2u);
  EXPECT_THAT(faults, ElementsAre(HasSubstr("data[0].paragraphs[0]: a passage has no text"),
                                  HasSubstr("data[0].paragraphs[1]: \"answers\" is missing"),
                                  HasSubstr("data[1]: expected a JSON object")));
  faults.clear();
  write_file(directory_.path() / "left.jsonl",
             R"({"question": "a?", "answers": ["b"], "documents": ["b c"]})"
             "\n"
             R"({"question": "b?", "answers": [""], "documents": ["b c", "of no question"]})"
             "\n"
             R"({"question": "c?", "answers": ["d"], "documents": ["d e", "b c"]})");
  const QuestionSet left = read_questions(directory_.path() / "left.jsonl", QuestionForm::automatic, choice);
  ASSERT_EQ(left.passages.size(), 2u) << "a record that is left out leaves no distractors";
  EXPECT_EQ(left.passages[1].text, "d e");
  EXPECT_THAT(left.questions.at(1).passages, ElementsAre(1, 0));
  faults.clear();
  write_file(directory_.path() / "none.jsonl", "[1]\n[2]\n");
  EXPECT_THAT(
      error_of([&] { read_questions(directory_.path() / "none.jsonl", QuestionForm::automatic, choice); }),
      HasSubstr("none.jsonl: expected questions, found none: " + (directory_.path() / "none.jsonl:1").string()));
}

TEST_F(QuestionFiles, TriviaQasPagesAreItsPassages) {
  std::string page;
  for (int i = 0; i < 150; ++i) page += "w" + std::to_string(i) + (i % 10 == 9 ? "\n" : " ");
  std::filesystem::create_directories(directory_.path() / "evidence/wikipedia");
  std::filesystem::create_directories(directory_.path() / "evidence/web/0");
  write_file(directory_.path() / "evidence/wikipedia/Sea.txt", page);
  write_file(directory_.path() / "evidence/web/0/1.txt", "Rivers end in the Ocean.");
  write_file(
      directory_.path() / "x.json",
      R"({"Data": [{"Question": "Where?", "Answer": {"Value": "Ocean"}, "EntityPages": [)"
      R"({"DocSource": "TagMe", "Filename": "Sea.txt", "Title": "Sea"}, {"Title": "not kept"}], "SearchResults": [)"
      R"({"Filename": "0/1.txt", "Title": "Rivers"}, {"Filename": "0/2.txt"}, {"Filename": "../x.json"}]}]})");
  std::vector<std::string> faults;
  const QuestionChoice choice{.faults = &faults, .evidence = directory_.path() / "evidence"};
  const QuestionSet set = read_questions(directory_.path() / "x.json", QuestionForm::automatic, choice);
  ASSERT_EQ(set.questions.size(), 1u);
  ASSERT_EQ(set.passages.size(), 3u);
  EXPECT_THAT(set.passages[0].text, testing::StartsWith("w0 w1"));
  EXPECT_THAT(set.passages[0].text, testing::EndsWith("w98 w99"));
  EXPECT_THAT(set.passages[1].text, testing::StartsWith("w100 "));
  EXPECT_THAT(set.passages[1].text, testing::EndsWith(" w149"));
  EXPECT_EQ(set.passages[1].title, "Sea");
  EXPECT_THAT(set.questions[0].gold, ElementsAre(2)) << "the one with an answer";
  EXPECT_THAT(
      faults,
      ElementsAre(HasSubstr("web/0/2.txt: cannot open the file"),
                  HasSubstr("x.json: Data[0]: expected a \"Filename\" below the evidence, found \"../x.json\"")));
  EXPECT_THAT(read_questions(directory_.path() / "x.json").passages, IsEmpty()) << "without the evidence";
}

TEST_F(QuestionFiles, WhatIsWrongIsNamedWithItsPlace) {
  const std::string good = R"({"question": "a?", "answers": ["b"]})"
                           "\n";
  refuses("x.jsonl", good + "{\"question\"",
          "x.jsonl:2: not valid JSON in UTF-8: it breaks off or goes wrong at byte 12");
  refuses("x.jsonl", good + "[1]", "x.jsonl:2: expected a JSON object with a question, found a JSON array");
  refuses("x.jsonl", good + "\n" + R"({"question": 3, "answers": ["b"]})",
          "x.jsonl:3: expected \"question\" to be a JSON string, found a JSON number");
  refuses("x.jsonl", good + R"({"question": "a?", "answers": "b"})",
          "x.jsonl:2: expected \"answers\" to be a JSON array");
  refuses("x.jsonl", good + R"({"question": "a?", "answers": [null]})",
          "x.jsonl:2: expected \"answers\" to hold JSON str");
  refuses("x.jsonl", good + R"({"question": "a?", "answers": [" "]})", "x.jsonl:2: an answer is empty");
  refuses("x.jsonl", good + R"({"question": "\n", "answers": ["b"]})", "x.jsonl:2: the question is empty");
  refuses("x.jsonl", good + R"({"question": "a?"})", "x.jsonl:2: \"answers\" is missing");
  refuses("x.jsonl", good + R"({"question": "a?", "answers": ["b"], "documents": [1]})",
          "x.jsonl:2: expected a JSON object");
  refuses("x.jsonl", good + R"({"question": "a?", "answers": ["b"], "documents": [" "]})", "a passage has no text");
  refuses("x.jsonl", good + R"({"question": "a?", "answers": ["b"], "documents": ["c"], "gold": [1]})",
          "x.jsonl:2: expected \"gold\" to hold numbers below 1, the count of \"documents\", found 1");
  refuses("x.jsonl", good + R"({"question": "a?", "answers": ["b"], "documents": ["c"], "gold": [-1]})", "found -1");
  refuses("x.jsonl",
          R"({"id": "z", "question": "a?", "answers": ["b"]})"
          "\n"
          R"({"id": "z", "question": "c?", "answers": ["d"]})",
          "x.jsonl:2: the id \"z\" is another question's");
  refuses("x.jsonl", R"({"id": [], "question": "a?", "answers": ["b"]})",
          "expected \"id\" to be a JSON string or a whole");
  refuses("x.jsonl", "{\"question\": \"\xFF\", \"answers\": [\"b\"]}", "x.jsonl:1: not valid JSON");
  refuses("x.jsonl", "\n \n", "x.jsonl: expected questions, found none");
  refuses("x.json", R"([{"text": "a", "title": "b"}])", "x.json: [0]: expected a question in one of the forms");
  refuses("x.json", "[]", "expected questions, found none");
  refuses("x.json", "3", "expected a JSON object with a question, found a JSON number");
  refuses("x.json", std::string(100'000, '['), "not valid JSON");
  refuses("x.json.gz", good, "x.json.gz: not a valid gzip stream");
  EXPECT_THAT(error_of([&] { read_questions(directory_.path() / "none.json"); }), HasSubstr("none.json"));
  EXPECT_THAT(error_of([&] { read_questions(directory_.path()); }), HasSubstr("found a directory"));
}

TEST_F(QuestionFiles, EachFormSaysWhatItLacks) {
  refuses("x.json", R"([{"question": "a?", "answers": ["b"], "ctxs": [{"title": "t"}]}])",
          "x.json: [0]: \"text\" is missing");
  refuses("x.json", R"([{"question": "a?", "answers": [], "ctxs": []}])",
          "expected \"answers\" to hold an answer, found none");
  refuses("x.json", R"({"data": [{"paragraphs": [{"context": "c", "qas": [{"question": "a?"}]}]}]})",
          "x.json: data[0].paragraphs[0]: \"answers\" is missing");
  refuses("x.json", R"({"data": [{"title": "t"}]})", "x.json: data[0]: \"paragraphs\" is missing");
  refuses("x.json", R"({"Data": [{"Question": "a?", "Answer": "b"}]})",
          "x.json: Data[0]: expected \"Answer\" to be a JSON object");
  refuses("x.json",
          R"([{"_id": "5", "question": "a?", "answer": "b", "context": [["t", ["s"]]], "supporting_facts": ["t"]}])",
          "expected \"supporting_facts\" to hold pairs");
  refuses("x.json", R"([{"question": "a?", "possible_answers": "politician"}])",
          "expected \"possible_answers\" to hold a list");
  refuses("x.json", R"([{"question": "a?", "golden_answers": [2]}])",
          "expected \"golden_answers\" to hold JSON strings");
  refuses("x.json", R"([{"question": "a?", "answer": ["b"]}])", "\"data\"", QuestionForm::squad);
  refuses("x.json", R"({"question": "a?", "answer": ["b"]})", "expected a JSON array of questions",
          QuestionForm::plain);
  EXPECT_THAT(error_of([] { question_form_from_name("trivia", "--form"); }),
              HasSubstr("--form: expected one of auto, dpr, squad"));
}

// Whatever a damaged file holds, it is read or refused.
TEST_F(QuestionFiles, DamageIsReadOrRefused) {
  for (const char* name : {"squad.json", "hotpotqa.json", "popqa.json", "plain.jsonl", "dpr.json", "triviaqa.json"}) {
    const std::string whole = read_file(kGolden / name);
    for (size_t i = 0; i < 60; ++i) {
      std::string damaged = whole;
      const size_t at = (i * 7919) % whole.size();
      if (i % 3 == 0) damaged.resize(at);
      if (i % 3 == 1) damaged[at] = "[]{}\",:0\xC3"[i % 9];
      if (i % 3 == 2) damaged.erase(at, 1 + i);
      const std::string error = error_of([&] { read(name, damaged); });
      if (!error.empty()) {
        EXPECT_THAT(error, HasSubstr(name));
      }
    }
  }
}

}  // namespace
}  // namespace cepe
