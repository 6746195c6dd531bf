#include <gtest/gtest.h>

#include <regex>
#include <set>

#include "ask/ask_fixture.h"

namespace cepe {
namespace {

TEST(FileQuestions, GoldStandsAmongOthers) {
  const ask_test::Sources sources;
  std::set<size_t> places, counts;
  size_t together = 0, in_decoder = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    AskRequest request = sources.request(seed, 1 + static_cast<int64_t>(seed % 30));
    const AskDraft draft = make_file_questions(sources.get(), request);
    ASSERT_FALSE(draft.turns.empty());
    counts.insert(draft.documents.size());
    together += draft.turns.size() > 1 ? 1 : 0;
    std::set<std::string> texts;
    for (const AskDocument& document : draft.documents) EXPECT_TRUE(texts.insert(document.text).second);
    // The rock or barn that a question names tells the passage.
    std::smatch number;
    const AskTurn& turn = draft.turns[static_cast<size_t>(seed) % draft.turns.size()];
    ASSERT_TRUE(std::regex_search(turn.question, number, std::regex("(rock|barn) \\d+")));
    std::string begin = number.str();
    if (begin[0] == 'b') begin[0] = 'B';
    size_t place = draft.documents.size();
    for (size_t d = 0; d < draft.documents.size(); ++d) {
      if (draft.documents[d].text.find(begin + " ") != std::string::npos) place = d;
    }
    const bool decoder = place == draft.documents.size();
    in_decoder += decoder ? 1 : 0;
    const std::string where = decoder ? draft.decoder_text + draft.turns[0].wording : draft.documents[place].text;
    EXPECT_NE(where.find(turn.answer), std::string::npos) << turn.question;
    if (!decoder) places.insert(place);
  }
  EXPECT_GT(counts.size(), 10u);
  EXPECT_GT(places.size(), 10u);
  EXPECT_GT(together, 20u);
  EXPECT_GT(in_decoder, 8u);
  EXPECT_LT(in_decoder, 80u);
}

TEST(FileQuestions, UnanswerableOnesHoldNoAnswer) {
  const ask_test::Sources sources;
  size_t said = 0;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    AskRequest request = sources.request(seed, 10);
    request.unanswerable = 1;
    const AskDraft draft = make_file_questions(sources.get(), request);
    ASSERT_EQ(draft.turns.size(), 1u);
    EXPECT_EQ(draft.turns[0].answer, "unanswerable");
    said += draft.turns[0].wording.find("unanswerable") != std::string::npos ? 1 : 0;
    std::smatch number;
    ASSERT_TRUE(std::regex_search(draft.turns[0].question, number, std::regex("(rock|barn) \\d+")));
    for (const AskDocument& document : draft.documents) {
      EXPECT_EQ(document.text.find("B" + number.str().substr(1) + " was"), std::string::npos);
      EXPECT_EQ(document.text.find("lighthouse of " + number.str() + " is"), std::string::npos);
    }
  }
  EXPECT_GT(said, 50u);
}

// A model's own answers: behind the instruction that they were written for and no other, and never left unanswered, as
// no passage holds their words. Other questions beside them are as ever.
TEST(FileQuestions, AModelsOwnAnswersKeepTheirInstruction) {
  const ask_test::Sources sources;
  for (const bool mixed : {false, true}) {
    std::vector<AskQuestionFile> files(2);
    for (size_t p = 0; p < 120; ++p) {
      AskQuestionFile& file = files[p % 2];
      file.passages.push_back({"", fmt::format("The lamp {} was lit by Anna.", p), ""});
      AskQuestion question{fmt::format("Who lit lamp {}?", p), {"It was Anna who lit it."}, {p / 2}};
      if (p % 2 == 0) {
        question.by_model = true;
        question.instruction = "Answer in full.";
      }
      file.questions.push_back(std::move(question));
    }
    if (!mixed) files.pop_back();
    const QuestionPool pool(std::move(files), ShingleSet(), 8);
    const AskSources own{sources.get().words, sources.get().forms, sources.get().corpus, pool, sources.get().passages};
    size_t unanswered = 0, together = 0, worded = 0;
    for (uint64_t seed = 0; seed < 300; ++seed) {
      AskRequest request = sources.request(seed, 1 + static_cast<int64_t>(seed % 20));
      request.unanswerable = 0.5;
      const AskDraft draft = make_file_questions(own, request);
      bool by_model = false;
      for (const AskTurn& turn : draft.turns) by_model = by_model || !turn.instruction.empty();
      together += by_model && draft.turns.size() > 1 ? 1 : 0;
      worded += draft.turns[0].wording.empty() ? 0 : 1;
      unanswered += draft.turns[0].answer == "unanswerable" ? 1 : 0;
      if (!by_model) continue;
      for (const AskTurn& turn : draft.turns) {
        EXPECT_EQ(turn.answer, "It was Anna who lit it.");
        EXPECT_EQ(turn.wording, "");
        const bool even = turn.question[turn.question.size() - 2] % 2 == 0;
        EXPECT_EQ(turn.instruction, even ? "Answer in full." : "") << turn.question;
      }
    }
    EXPECT_GT(together, 20u);
    EXPECT_EQ(worded > 20, mixed);
    EXPECT_EQ(unanswered > 20, mixed);
  }
}

TEST(FileQuestions, ValidationHasPassagesOfItsOwn) {
  const ask_test::Sources sources;
  const QuestionPool& pool = sources.get().questions;
  std::set<std::string> training, validation, passages, others;
  for (uint64_t seed = 0; seed < 600; ++seed) {
    AskRequest request = sources.request(seed, 1 + static_cast<int64_t>(seed % 30));
    for (const bool natural : {false, true}) {
      const AskDraft draft = (natural ? make_natural : make_file_questions)(sources.get(), request);
      if (!natural) {
        for (const AskTurn& turn : draft.turns) training.insert(turn.question);
      }
      for (const AskDocument& document : draft.documents) passages.insert(document.text);
    }
    AskRequest other = sources.request(seed, 2);
    other.validation = true;
    for (const AskTurn& turn : make_file_questions(sources.get(), other).turns) validation.insert(turn.question);
  }
  for (const std::string& question : validation) {
    EXPECT_FALSE(training.contains(question)) << question;
    // The passage that the question is about, by the number of the rock or barn.
    std::smatch number;
    ASSERT_TRUE(std::regex_search(question, number, std::regex("(ock|arn) \\d+ ?")));
    for (const std::string& passage : passages) {
      EXPECT_EQ((passage + " ").find(number.str() + (number.str().back() == ' ' ? "" : " ")), std::string::npos)
          << passage;
    }
  }
  EXPECT_GE(validation.size(), 2u);
  EXPECT_EQ(pool.drawable(false).size() + pool.drawable(true).size(), pool.passages().size());
  EXPECT_EQ(pool.drawable(true).size(), 3u);  // one of six, two of sixty
}

TEST(FileQuestions, PassagesOfSeveralFilesAreOne) {
  // Two files on the same passages, and questions that share their first passage: nothing may stand on both sides.
  std::vector<AskQuestionFile> files(2);
  for (AskQuestionFile& file : files) {
    for (size_t p = 0; p < 100; ++p) {
      file.passages.push_back({"", fmt::format("passage {}", p), ""});
      file.questions.push_back({fmt::format("one {}", p), {"a"}, {p}});
      file.questions.push_back({fmt::format("both {}", p), {"a"}, {p, (p + 1) % 100}});
    }
  }
  const QuestionPool pool(std::move(files), ShingleSet(), 8);
  EXPECT_EQ(pool.passages().size(), 100u);
  std::set<size_t> gold[2];
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    for (const bool validation : {false, true}) {
      AskRandom random{seed};
      for (const AskQuestion* question : pool.draw(random, validation)) {
        gold[validation].insert(question->gold.begin(), question->gold.end());
      }
    }
  }
  EXPECT_GE(gold[1].size(), 4u);
  EXPECT_GE(gold[0].size(), 80u);
  for (const size_t passage : gold[1]) {
    EXPECT_FALSE(gold[0].contains(passage)) << passage;
    EXPECT_FALSE(pool.may_stand(passage, false));
  }
}

}  // namespace
}  // namespace cepe
