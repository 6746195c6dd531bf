// Files of long texts: a tiny one of each form, and ones with something wrong in them.
#include "tasks/long/long_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/error_of.h"
#include "base/file.h"
#include "base/temporary_directory.h"

namespace cepe {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

class LongFiles : public testing::Test {
 protected:
  LongTexts read(const std::string& name, const std::string& content, LongForm form = LongForm::automatic,
                 LongMetric metric = LongMetric::automatic) const {
    const std::filesystem::path path = directory_.path() / name;
    std::filesystem::create_directories(path.parent_path());
    write_file(path, content);
    return read_long_texts(path, form, metric);
  }
  // Of a file without faults and with one set.
  LongSet set_of(const std::string& name, const std::string& content) const {
    LongTexts texts = read(name, content);
    EXPECT_THAT(texts.faults, IsEmpty());
    EXPECT_EQ(texts.sets.size(), 1u);
    return texts.sets.at(0);
  }

  TemporaryDirectory directory_;
};

TEST_F(LongFiles, LEvalExamsAreOptionsWordsNumbersOrTexts) {
  const LongSet exam = set_of(
      "coursera.jsonl", R"({"input": "A lecture.", "instructions": ["Question 1. Which?\nA. one\nB. two\nC. three",)"
                        R"( "Which?\n (A) one\n (B) two"], "outputs": ["AC", "(B) two"], "evaluation": "exam"})");
  EXPECT_EQ(exam.form, LongForm::leval);
  EXPECT_EQ(exam.name, "coursera");
  EXPECT_EQ(exam.metric, LongMetric::choice);
  ASSERT_EQ(exam.questions.size(), 2u);
  EXPECT_THAT(exam.questions[0].options, ElementsAre("A", "B", "C"));
  EXPECT_THAT(exam.questions[0].references, ElementsAre("AC"));
  EXPECT_THAT(exam.questions[1].options, ElementsAre("A", "B"));
  EXPECT_THAT(exam.questions[1].references, ElementsAre("B"));
  EXPECT_EQ(exam.documents.size(), 1u);
  EXPECT_EQ(exam.questions[1].id, "line 1, instruction 1");

  const LongSet words =
      set_of("sci_fi.jsonl", R"({"input": "x", "instructions": ["So?"], "outputs": ["True [fact: False]"],)"
                             R"( "evaluation": "exam"})");
  EXPECT_THAT(words.questions[0].options, ElementsAre("True", "False"));
  EXPECT_THAT(words.questions[0].references, ElementsAre("True"));
  const LongSet number = set_of("gsm100.jsonl", R"({"input": "x", "instructions": ["2+2?"], "outputs": ["4"],)"
                                                R"( "evaluation": "exam"})");
  EXPECT_EQ(number.metric, LongMetric::number);
  EXPECT_FALSE(number.first_line);
  const LongSet topic =
      set_of("topic.jsonl", R"({"input": "x", "instructions": ["First?"], "outputs": ["The role of art"],)"
                            R"( "evaluation": "exam"})");
  EXPECT_EQ(topic.metric, LongMetric::f1);
  const LongSet summary = set_of("news.jsonl", R"({"input": "x", "instructions": ["Sum."], "outputs": ["y"],)"
                                               R"( "evaluation": "rouge"})");
  EXPECT_EQ(summary.metric, LongMetric::rouge);
  EXPECT_EQ(summary.max_tokens, 512);
}

TEST_F(LongFiles, LongBenchHasASetForEachDataSet) {
  const LongTexts texts =
      read("all.jsonl",
           R"({"input": "Who?", "context": "A.", "answers": ["Ann", "ann"], "dataset": "hotpotqa",)"
           R"( "all_classes": null, "_id": "h1"})"
           "\n"
           R"({"input": "", "context": "A report.", "answers": ["Short."], "dataset": "gov_report", "_id": "g1"})"
           "\n"
           R"({"input": "Q?", "context": "B.", "answers": ["City"], "dataset": "trec",)"
           R"( "all_classes": ["City", "Date"], "_id": "t1"})"
           "\n"
           R"({"input": "问?", "context": "文", "answers": ["答"], "dataset": "multifieldqa_zh", "_id": "z1"})"
           "\n");
  ASSERT_EQ(texts.sets.size(), 3u);
  EXPECT_EQ(texts.sets[0].name, "hotpotqa");
  EXPECT_EQ(texts.sets[0].metric, LongMetric::f1);
  EXPECT_EQ(texts.sets[0].max_tokens, 32);
  EXPECT_FALSE(texts.sets[0].first_line) << "its eval.py scores all of the answer";
  EXPECT_TRUE(texts.sets[2].first_line);
  EXPECT_THAT(texts.sets[0].questions[0].references, ElementsAre("Ann", "ann"));
  EXPECT_EQ(texts.sets[1].metric, LongMetric::rouge);
  EXPECT_EQ(texts.sets[1].questions[0].question, "Write a summary of the text.");
  EXPECT_THAT(texts.sets[2].classes, ElementsAre("City", "Date"));
  ASSERT_EQ(texts.faults.size(), 1u);
  EXPECT_THAT(texts.faults[0], HasSubstr("all.jsonl:4: the scores of multifieldqa_zh need a segmenter of Chinese"));
}

TEST_F(LongFiles, LongBenchV2AndQualityListTheirOptions) {
  const LongSet v2 = set_of("data.json", R"([{"_id": "a", "question": "Which?", "choice_A": "w", "choice_B": "x",)"
                                         R"( "choice_C": "y", "choice_D": "z", "answer": "D", "context": "Long."}])");
  EXPECT_EQ(v2.form, LongForm::longbench_v2);
  EXPECT_EQ(v2.questions[0].question, "Which?\nA. w\nB. x\nC. y\nD. z");
  EXPECT_THAT(v2.questions[0].references, ElementsAre("D"));
  const LongSet quality = set_of(
      "QuALITY.v1.0.1.dev",  // as it is given out, without an ending
      R"({"article_id": "7", "article": "A story.", "questions": [{"question": "Why?", "question_unique_id": "7_1",)"
      R"( "options": ["for", "against"], "gold_label": 2}]})"
      "\n"
      R"({"article_id": "7", "article": "A story.", "questions": [{"question": "How?", "question_unique_id": "7_2",)"
      R"( "options": ["so", "thus"], "gold_label": 1}]})"
      "\n");
  EXPECT_EQ(quality.metric, LongMetric::choice);
  ASSERT_EQ(quality.questions.size(), 2u);
  EXPECT_EQ(quality.documents.size(), 1u) << "the same article";
  EXPECT_EQ(quality.questions[0].question, "Why?\nA. for\nB. against");
  EXPECT_THAT(quality.questions[0].references, ElementsAre("B"));
}

TEST_F(LongFiles, ZeroScrollsPlacesAreCountedInCharacters) {
  const LongSet set = set_of("narrative_qa/validation.jsonl",
                             R"({"id": "i", "pid": "p", )"
                             R"("input": "Réad:\nTéxt é.\n\nQ: Whó?\nA:", "output": "Zoë",)"
                             R"( "document_start_index": 6, "document_end_index": 13, "query_start_index": 15,)"
                             R"( "query_end_index": 22, "truncation_seperator": "..."})");
  EXPECT_EQ(set.name, "narrative_qa/validation");
  EXPECT_EQ(set.documents[0].text, "Téxt é.");
  EXPECT_EQ(set.questions[0].before, "Réad:\n");
  EXPECT_EQ(set.questions[0].question, "Q: Whó?");
  EXPECT_EQ(set.questions[0].after, "\n\nQ: Whó?\nA:");
  EXPECT_EQ(set.metric, LongMetric::f1);
  EXPECT_THAT(error_of([&] {
                read("space_digest/validation.jsonl",
                     R"({"id": "i", "input": "a b", "output": "c", "document_start_index": 0, "document_end_index": 1,)"
                     R"( "query_start_index": 2, "query_end_index": 3})");
              }),
              HasSubstr("the score of space_digest is not computed"));
}

TEST_F(LongFiles, QasperIsReadInBothForms) {
  const std::string qa =
      R"({"question": "What?", "question_id": "q1", "answers": [)"
      R"({"answer": {"unanswerable": false, "extractive_spans": ["one", "two"], "free_form_answer": "",)"
      R"( "yes_no": null}},)"
      R"({"answer": {"unanswerable": false, "extractive_spans": [], "free_form_answer": "free", "yes_no": null}},)"
      R"({"answer": {"unanswerable": false, "extractive_spans": [], "free_form_answer": "", "yes_no": false}},)"
      R"({"answer": {"unanswerable": true, "extractive_spans": [], "free_form_answer": "", "yes_no": null}}]})";
  const LongSet own = set_of("qasper-dev.json", R"({"1503.1": {"title": "T", "abstract": "Abs.", "full_text": [)"
                                                R"({"section_name": "Intro", "paragraphs": ["P1", "P2"]}], "qas": [)" +
                                                    qa + "]}}");
  EXPECT_EQ(own.form, LongForm::qasper);
  EXPECT_EQ(own.documents[0].text, "T\n\nAbs.\n\nIntro\nP1\nP2");
  EXPECT_THAT(own.questions[0].references, ElementsAre("one, two", "free", "No", "Unanswerable"));
  const LongSet row = set_of(
      "row.jsonl",
      R"({"id": "1503.1", "title": "T", "abstract": "Abs.", "full_text": {"section_name": ["Intro"], "paragraphs":)"
      R"( [["P1", "P2"]]}, "qas": {"question": ["What?"], "question_id": ["q1"], "answers": [{"answer":)"
      R"( [{"unanswerable": false, "extractive_spans": [], "free_form_answer": "free", "yes_no": null}]}]}})");
  EXPECT_EQ(row.documents[0].text, own.documents[0].text);
  EXPECT_THAT(row.questions[0].references, ElementsAre("free"));
}

TEST_F(LongFiles, NarrativeQaGovReportAndPlain) {
  const LongSet stories =
      set_of("nqa.jsonl", R"({"document": {"id": "d", "text": "Once."}, "question": {"text": "When?"},)"
                          R"( "answers": [{"text": "once"}, {"text": "then"}]})");
  EXPECT_EQ(stories.form, LongForm::narrativeqa);
  EXPECT_EQ(stories.documents[0].name, "d");
  EXPECT_THAT(stories.questions[0].references, ElementsAre("once", "then"));
  const LongSet reports = set_of("gov.jsonl", R"({"id": "r", "document": "A report.", "summary": "Sum."})");
  EXPECT_EQ(reports.form, LongForm::govreport);
  EXPECT_EQ(reports.metric, LongMetric::rouge);
  EXPECT_EQ(set_of("gov2.jsonl", R"({"report": "A report.", "summary": "Sum."})").documents[0].text, "A report.");
  const LongSet plain = set_of("own.jsonl", R"({"document": "Text.", "question": "Which?", "options": ["x", "y"],)"
                                            R"( "answer": "A"})");
  EXPECT_EQ(plain.metric, LongMetric::choice);
  EXPECT_EQ(plain.questions[0].question, "Which?\nA. x\nB. y");
  EXPECT_TRUE(plain.first_line);
  EXPECT_FALSE(set_of("lines.jsonl", R"({"context": "T", "question": "?", "answer": "one\ntwo"})").first_line);
  EXPECT_EQ(set_of("sums.jsonl", R"({"context": "T", "question": "Sum.", "answers": ["a"], "metric": "rouge"})").metric,
            LongMetric::rouge);
}

TEST_F(LongFiles, WhatIsWrongIsLeftOutAlone) {
  const std::string good = R"({"document": "Text.", "question": "Who?", "answer": "x"})";
  const LongTexts texts =
      read("bad.jsonl", good + "\n{\"document\": \"Text.\", \"question\": \"Who?\"\n" +
                            R"({"document": "Text.", "question": "Who?"})" + "\n" +
                            R"({"document": 5, "question": "Who?", "answer": "x"})" + "\n" +
                            R"({"document": " ", "question": "Who?", "answer": "x"})" + "\n" +
                            R"({"document": "Text.", "question": "", "answer": "x"})" + "\n" +
                            R"({"document": "Text.", "question": "Who?", "answers": ["x", "\n"]})" + "\n[1]\n" + good);
  ASSERT_EQ(texts.sets.size(), 1u);
  EXPECT_EQ(texts.sets[0].questions.size(), 2u);
  const std::vector<std::string> expected = {
      "bad.jsonl:2: not valid JSON in UTF-8",
      "bad.jsonl:3: \"answers\" is missing",
      "bad.jsonl:4: expected \"document\" to be a JSON string, found a JSON number",
      "bad.jsonl:5: the document has no text",
      "bad.jsonl:6: the question is empty",
      "bad.jsonl:7: an answer is empty",
      "bad.jsonl:8: expected a JSON object, found a JSON array"};
  ASSERT_EQ(texts.faults.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_THAT(texts.faults[i], HasSubstr(expected[i]));
}

TEST_F(LongFiles, OneWrongQuestionDoesNotTakeTheOthersOfItsDocument) {
  const LongTexts leval = read("l.jsonl", R"({"input": "x", "instructions": ["A. a\nB. b", "Which?\nA. a\nB. b", 3],)"
                                          R"( "outputs": ["A", "Z", "x"], "evaluation": "exam"})");
  EXPECT_EQ(leval.sets[0].questions.size(), 1u);
  ASSERT_EQ(leval.faults.size(), 2u);
  EXPECT_THAT(leval.faults[0],
              HasSubstr("l.jsonl:1: instructions[1]: expected the answer to be one of the options A, B, found \"Z\""));
  EXPECT_THAT(leval.faults[1], HasSubstr("l.jsonl:1: instructions[2]: expected instruction and output"));
  const LongTexts quality = read("q.jsonl", R"({"article": "x", "questions": [{"question": "?", "options": ["a", "b"],)"
                                            R"( "gold_label": 3}, {"question": "?", "options": ["a", "b"]},)"
                                            R"( {"question": "?", "options": ["a", "b"], "gold_label": 1}]})");
  EXPECT_EQ(quality.sets[0].questions.size(), 1u);
  EXPECT_THAT(quality.faults, ElementsAre(HasSubstr("questions[0]: expected \"gold_label\" to be from 1 to 2"),
                                          HasSubstr("questions[1]: expected \"gold_label\" to be a whole number")));
  const LongTexts qasper =
      read("p.json", R"({"1": {"title": "T", "abstract": "A", "full_text": [], "qas": [)"
                     R"({"question": "?", "question_id": "a", "answers": [{"answer": {}}]},)"
                     R"({"question": "?", "question_id": "b", "answers": [{"answer": {"yes_no": true}}]}]},)"
                     R"("2": {"title": "T"}})");
  EXPECT_EQ(qasper.sets[0].questions.size(), 1u);
  EXPECT_THAT(qasper.faults, ElementsAre(HasSubstr("p.json: \"1\": qas[0]: expected an answer with"),
                                         HasSubstr("p.json: \"2\": \"abstract\" is missing")));
}

TEST_F(LongFiles, QuestionsOfEachScoreAreASet) {
  const LongTexts exam = read("exam.jsonl", R"({"input": "x", "instructions": ["2+2?", "Which?\nA. a\nB. b", "Who?",)"
                                            R"( "3+3?"], "outputs": ["4", "B", "Ann", "6"], "evaluation": "exam"})");
  EXPECT_THAT(exam.faults, IsEmpty());
  ASSERT_EQ(exam.sets.size(), 3u);
  EXPECT_EQ(exam.sets[0].name, "exam (number)");
  EXPECT_EQ(exam.sets[0].questions.size(), 2u);
  EXPECT_EQ(exam.sets[1].name, "exam (choice)");
  EXPECT_EQ(exam.sets[1].metric, LongMetric::choice);
  EXPECT_EQ(exam.sets[1].max_tokens, 16);
  EXPECT_EQ(exam.sets[2].name, "exam (f1)");
  EXPECT_EQ(exam.sets[2].documents.size(), 1u);
}

TEST_F(LongFiles, WhatCouldOnlyScoreNothingIsLeftOut) {
  const auto plain = [&](const std::string& more, LongMetric metric) {
    return error_of([&] {
      read("x.jsonl", R"({"document": "Text.", "question": "Who?", )" + more + "}", LongForm::automatic, metric);
    });
  };
  EXPECT_THAT(plain(R"("answer": "City")", LongMetric::classification),
              HasSubstr("x.jsonl:1: expected the names of all classes, for the score classification, found none"));
  EXPECT_THAT(plain(R"("answer": "four")", LongMetric::number),
              HasSubstr("x.jsonl:1: expected an answer with a number, for the score number, found \"four\""));
  EXPECT_THAT(plain(R"("answer": "four")", LongMetric::count), HasSubstr("for the score count"));
  EXPECT_EQ(plain(R"("answers": ["four", "4"])", LongMetric::number), "");
  EXPECT_THAT(error_of([&] {
                read("trec.jsonl", R"({"input": "Q?", "context": "B.", "answers": ["Town"], "dataset": "trec",)"
                                   R"( "all_classes": ["City", "Date"], "_id": "t1"})");
              }),
              HasSubstr("trec.jsonl:1: expected the answer to be one of the 2 classes, found \"Town\""));
}

TEST_F(LongFiles, LettersAreSortedAndAtMostTwentySix) {
  const LongSet set = set_of("own.jsonl", R"({"document": "Text.", "question": "Which?", "options": ["x", "y", "z"],)"
                                          R"( "answer": "CA"})");
  EXPECT_THAT(set.questions[0].references, ElementsAre("AC")) << "as chosen_letters() gives them";
  json options = json::array();
  for (int i = 0; i < 26; ++i) options.push_back(fmt::format("option {}", i));
  json record = {{"document", "Text."}, {"question", "Which?"}, {"answer", "Z"}, {"options", options}};
  EXPECT_EQ(set_of("z.jsonl", record.dump()).questions[0].options.back(), "Z");
  record["options"].push_back("one more");
  EXPECT_THAT(error_of([&] { read("many.jsonl", record.dump()); }),
              HasSubstr("many.jsonl:1: expected at most 26 \"options\", found 27"));
  const json quality = {
      {"article", "x"},
      {"questions", {{{"question", "?"}, {"options", record["options"]}, {"gold_label", 1}}}},
  };
  EXPECT_THAT(error_of([&] { read("q.jsonl", quality.dump()); }),
              HasSubstr("q.jsonl:1: questions[0]: expected at most 26 \"options\", found 27"));
}

TEST_F(LongFiles, FilesWithoutAQuestionAreRefused) {
  EXPECT_THAT(error_of([&] { read("none.jsonl", ""); }),
              HasSubstr("none.jsonl: expected questions about long texts, found none"));
  EXPECT_THAT(
      error_of([&] { read("other.jsonl", R"({"text": "x"})"); }),
      HasSubstr("other.jsonl:1: expected a record in one of the forms that are read, found an object with \"text\""));
  EXPECT_THAT(error_of([&] { read("half.json", R"([{"document": "x")"); }), HasSubstr("half.json: not valid JSON"));
  EXPECT_THAT(error_of([&] { read("number.json", "5"); }),
              HasSubstr("expected a JSON array or object, found a JSON number"));
  EXPECT_THAT(error_of([&] { read_long_texts(directory_.path() / "absent.jsonl"); }), HasSubstr("absent.jsonl"));
  EXPECT_THAT(
      error_of([&] { read("test.jsonl", R"({"document": "x", "question": "?", "answer": "y"})", LongForm::quality); }),
      HasSubstr("test.jsonl:1: \"article\" is missing"));
  EXPECT_THAT(error_of([] { long_form_from_name("squad", "--data-form"); }),
              StartsWith("--data-form: expected one of auto, leval, longbench"));
}

}  // namespace
}  // namespace cepe
