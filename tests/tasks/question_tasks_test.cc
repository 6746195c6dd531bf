// Questions in settings, on a made-up set: who reads which passages, and in which order.
#include "tasks/questions/question_tasks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "base/error_of.h"
#include "tasks/questions/question_files.h"

namespace cepe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr int kArticles = 6, kParagraphs = 4;

// Each article's paragraphs tell of towns; the answer to a question stands in its own paragraph, and in one of another
// article, which is no gold passage.
std::shared_ptr<QuestionSet> make_set() {
  auto set = std::make_shared<QuestionSet>();
  set->name = "towns";
  for (int a = 0; a < kArticles; ++a) {
    for (int p = 0; p < kParagraphs; ++p) {
      const std::string town = fmt::format("town{}x{}", a, p);
      set->passages.push_back(
          {"", fmt::format("The mayor of {} is Mayor{}x{}.", town, a, p), fmt::format("article{}", a)});
      OpenQuestion question{town, fmt::format("Who is the mayor of {}?", town), {fmt::format("Mayor{}x{}", a, p)}};
      question.passages = question.gold = {set->passages.size() - 1};
      question.cluster = fmt::format("article{}", a);
      set->questions.push_back(question);
    }
  }
  for (int a = 0; a < kArticles; ++a) {
    for (int p = 0; p < kParagraphs; ++p) {
      set->passages.push_back({"", fmt::format("A street has the name of mayor{}x{}, too.", a, p), "streets"});
    }
  }
  return set;
}

QuestionTaskOptions options_of() {
  QuestionTaskOptions options;
  options.questions = 0;
  options.decoder_window = 1 << 20;
  options.count_tokens = [](const Question& q) {
    return static_cast<int64_t>((q.before + q.text + q.after).size());  // a letter a token
  };
  options.no_passages = options.other_passages = false;
  return options;
}

std::vector<Example> examples_of(const std::shared_ptr<const QuestionSet>& set, const QuestionTaskOptions& options) {
  const QuestionTasks made = question_tasks({set}, options);
  std::vector<Example> examples;
  for (int64_t i = 0; i < made.tasks.at(0).examples; ++i) examples.push_back(made.tasks[0].example(i));
  return examples;
}

// The passages of a prompt's text: "The mayor of ..." or "A street ...".
std::vector<std::string> passages_of(const std::string& text) {
  std::vector<std::string> passages;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find("\n\n", at), text.size());
    const std::string block = text.substr(at, end - at);
    if (!block.starts_with("Question:")) passages.push_back(block);
    at = end + 2;
  }
  return passages;
}

std::vector<std::string> documents_of(const Example& example) {
  std::vector<std::string> texts;
  for (const ContextDocument& document : example.documents) texts.push_back(document.text);
  return texts;
}

// The place of the passage with the answer's own spelling; -1: none.
int64_t place_of(const std::vector<std::string>& passages, const Example& example) {
  const std::string gold = "is " + example.references.at(0) + ".";
  for (size_t i = 0; i < passages.size(); ++i) {
    if (passages[i].ends_with(gold)) return static_cast<int64_t>(i);
  }
  return -1;
}

bool names_answer(std::string text, const Example& example) {
  std::string answer = example.references.at(0);
  for (std::string* s : {&text, &answer}) std::transform(s->begin(), s->end(), s->begin(), ::tolower);
  return text.find(answer) != std::string::npos;
}

TEST(QuestionTasks, PutTheGoldPassageWhereItIsAskedFor) {
  QuestionTaskOptions options = options_of();
  options.decoder_passages = {4};
  options.encoder_passages = {5};
  options.gold_readers = {PassageReader::encoder, PassageReader::decoder};
  options.gold_positions = {"first", "middle", "last", "3"};
  const std::vector<Example> examples = examples_of(make_set(), options);
  ASSERT_EQ(examples.size(), 24u * 8u);
  const std::map<std::string, int64_t> encoder = {{"first", 0}, {"middle", 2}, {"last", 4}, {"3", 3}},
                                       decoder = {{"first", 0}, {"middle", 1}, {"last", 3}, {"3", 3}};
  for (const Example& example : examples) {
    const auto documents = documents_of(example), passages = passages_of(example.question.text);
    ASSERT_EQ(documents.size(), 5u);
    ASSERT_EQ(passages.size(), 4u);
    const bool reads = example.tags.at("reader") == "encoder";
    const std::string position = example.tags.at("position");
    EXPECT_EQ(place_of(documents, example), reads ? encoder.at(position) : -1) << example.id;
    EXPECT_EQ(place_of(passages, example), reads ? -1 : decoder.at(position)) << example.id;
    std::set<std::string> different(documents.begin(), documents.end());
    different.insert(passages.begin(), passages.end());
    EXPECT_EQ(different.size(), 9u) << "no passage twice";
    int64_t with_answer = 0;
    for (const std::string& passage : different) with_answer += names_answer(passage, example);
    EXPECT_EQ(with_answer, 1) << "beside the gold one no passage has the answer";
  }
}

TEST(QuestionTasks, WithoutAGoldPassageNothingHasTheAnswer) {
  QuestionTaskOptions options = options_of();
  options.decoder_passages = {0, 10};
  options.encoder_passages = {20};
  options.gold = {GoldPassage::never};
  const std::vector<Example> examples = examples_of(make_set(), options);
  ASSERT_EQ(examples.size(), 48u);
  for (const Example& example : examples) {
    EXPECT_EQ(example.documents.size(), 20u);
    for (const std::string& text : documents_of(example)) EXPECT_FALSE(names_answer(text, example)) << text;
    EXPECT_FALSE(names_answer(example.question.text, example));
    EXPECT_THAT(example.tags.at("setting"), HasSubstr(", no gold"));
  }
}

TEST(QuestionTasks, DistractorsAreOfTheSameArticleFirst) {
  QuestionTaskOptions options = options_of();
  options.encoder_passages = {kParagraphs};
  int64_t same[2] = {};
  for (const bool article : {false, true}) {
    options.same_article = article;
    for (const Example& example : examples_of(make_set(), options)) {
      for (const ContextDocument& document : example.documents) same[article] += document.name == example.cluster;
    }
  }
  EXPECT_EQ(same[true], 24 * kParagraphs) << "an article has four";
  EXPECT_LT(same[false], 24 * 2) << "the gold one, and some by chance";
}

TEST(QuestionTasks, MorePassagesAddToFewer) {
  QuestionTaskOptions options = options_of();
  options.decoder_passages = {3};
  options.encoder_passages = {0, 2, 6};
  options.gold_readers = {PassageReader::decoder};
  const std::vector<Example> examples = examples_of(make_set(), options);
  for (size_t i = 0; i < examples.size(); i += 3) {
    EXPECT_EQ(examples[i].question.text, examples[i + 1].question.text);
    EXPECT_EQ(examples[i].question.text, examples[i + 2].question.text);
    const auto two = documents_of(examples[i + 1]), six = documents_of(examples[i + 2]);
    EXPECT_TRUE(std::equal(two.begin(), two.end(), six.begin()));
    EXPECT_EQ(examples[i].cluster, examples[i + 2].cluster);
  }
}

TEST(QuestionTasks, RetrievedPassagesKeepTheirOrder) {
  auto set = make_set();
  set->questions.resize(1);
  set->questions[0].passages = {7, 0, 30, 5};
  QuestionTaskOptions options = options_of();
  options.gold = {GoldPassage::retrieved};
  options.decoder_passages = {1};
  options.encoder_passages = {2, 9};
  const std::vector<Example> examples = examples_of(set, options);
  ASSERT_EQ(examples.size(), 2u);
  EXPECT_EQ(examples[0].question.text, set->passages[7].text);
  EXPECT_THAT(documents_of(examples[0]), ElementsAre(set->passages[0].text, set->passages[30].text));
  EXPECT_EQ(documents_of(examples[1]).size(), 3u) << "there are no more";
}

TEST(QuestionTasks, ControlsStandBesideTheSettings) {
  QuestionTaskOptions options = options_of();
  options.no_passages = options.other_passages = true;
  options.same_article = false;
  options.encoder_passages = {20};
  const std::vector<Example> examples = examples_of(make_set(), options);
  ASSERT_EQ(examples.size(), 24u * 3u);
  for (size_t i = 0; i < examples.size(); i += 3) {
    const Example &none = examples[i], &own = examples[i + 1], &other = examples[i + 2];
    EXPECT_EQ(none.tags.at("setting"), "no passages");
    EXPECT_EQ(own.tags.at("setting"), "encoder 20, gold random");
    EXPECT_EQ(other.tags.at("setting"), "encoder 20, another question's");
    EXPECT_TRUE(none.documents.empty());
    EXPECT_EQ(own.references, other.references);
    EXPECT_EQ(own.question.question, other.question.question);
    EXPECT_EQ(own.documents.size(), other.documents.size());
    EXPECT_EQ(place_of(documents_of(other), other), -1);
    for (const ContextDocument& document : other.documents) {
      EXPECT_FALSE(names_answer(document.text, other)) << "though any passage of the file may be drawn";
    }
    int64_t with_gold = 0;  // the other question's
    for (const std::string& text : documents_of(other)) with_gold += text.starts_with("The mayor");
    EXPECT_GE(with_gold, 1);
  }
}

TEST(QuestionTasks, DemonstrationsAreOfOtherClusters) {
  QuestionTaskOptions options = options_of();
  options.demonstrations = 3;
  options.demonstration_passages = true;
  options.decoder_passages = {1};
  options.encoder_passages = {0};
  for (const Example& example : examples_of(make_set(), options)) {
    const std::string& text = example.question.text;
    const std::string article = example.cluster.substr(7);
    size_t count = 0;
    for (size_t at = text.find("Question: "); at != std::string::npos; at = text.find("Question: ", at + 1)) {
      ++count;
      EXPECT_THAT(text.substr(at, 40), Not(HasSubstr("town" + article + "x")));
    }
    EXPECT_EQ(count, 3u);
    EXPECT_FALSE(names_answer(text.substr(0, text.rfind("Answer: ") + 20), example)) << "the answer in none of them";
    EXPECT_EQ(passages_of(text).size(), 4u);
    EXPECT_EQ(place_of(passages_of(text), example), 3) << "the question's own passage comes last";
    EXPECT_THAT(text,
                testing::ContainsRegex("mayor of town[0-9]x[0-9] is Mayor[0-9]x[0-9]\\.\n\nQuestion: Who is the mayor "
                                       "of town[0-9]x[0-9]\\?\nAnswer: Mayor[0-9]x[0-9]\n\n"));
  }
}

TEST(QuestionTasks, WordingsEndWithTheQuestion) {
  QuestionTaskOptions options = options_of();
  options.decoder_passages = {1};
  options.encoder_passages = {0};
  const Example example = examples_of(make_set(), options).front();
  const std::string asked = "Question: " + example.question.question + "\nAnswer:";
  EXPECT_EQ(prompt_text(example.question, PromptForm::question).message, example.question.text + "\n\n" + asked);
  EXPECT_EQ(prompt_text(example.question, PromptForm::task).message,
            "Answer the question with the help of the given passages, some of which may not matter. Give only the "
            "answer, in a few words.\n\n" +
                example.question.text + "\n\n" + asked);
  EXPECT_EQ(prompt_text(example.question, PromptForm::chat).answer_prefix, "");
  EXPECT_THAT(example.stop, ElementsAre("\n"));
}

TEST(QuestionTasks, QuestionsWithoutAnAnswerAreAskedForByName) {
  const auto set =
      std::make_shared<const QuestionSet>(read_questions(std::filesystem::path(CEPE_TEST_DATA) / "qa" / "squad.json"));
  QuestionTaskOptions options = options_of();
  const QuestionTasks answerable = question_tasks({set}, options);
  EXPECT_EQ(answerable.tasks.at(0).examples, 4);
  EXPECT_THAT(answerable.notes, ElementsAre("squad: questions left out, which have no answer: 3"));
  options.unanswerable = true;
  const QuestionTasks all = question_tasks({set}, options);
  ASSERT_EQ(all.tasks.at(0).examples, 7);
  int64_t none = 0;
  for (int64_t i = 0; i < 7; ++i) {
    const Example example = all.tasks[0].example(i);
    none += example.tags.at("answerable") == "no";
    EXPECT_THAT(example.question.before, HasSubstr("say \"unanswerable\""));
    const Scores scores = all.tasks[0].score("unanswerable", example.references);
    EXPECT_EQ(scores.at("em"), example.references.empty() ? 1 : 0);
  }
  EXPECT_EQ(none, 3);
}

TEST(QuestionTasks, LeaveOutWhatDoesNotFitAndSayIt) {
  auto set = make_set();
  set->passages[2].text += std::string(3000, '.');
  QuestionTaskOptions options = options_of();
  options.decoder_passages = {1};
  options.encoder_passages = {0};
  options.decoder_window = 2000;
  const QuestionTasks made = question_tasks({set}, options);
  EXPECT_EQ(made.tasks.at(0).examples, 23);
  EXPECT_THAT(made.notes,
              ElementsAre("towns: questions left out, which do not fit in the decoder's window of 2000 tokens: 1"));
}

TEST(QuestionTasks, ASeedGivesTheSameExamples) {
  QuestionTaskOptions options = options_of();
  options.decoder_passages = {2};
  options.encoder_passages = {3};
  options.questions = 5;
  options.demonstrations = 1;
  const auto texts = [&](uint64_t seed) {
    options.seed = seed;
    std::string all;
    for (const Example& e : examples_of(make_set(), options)) {
      all += e.id + e.question.text;
      for (const std::string& text : documents_of(e)) all += text;
    }
    return all;
  };
  EXPECT_EQ(texts(1), texts(1));
  EXPECT_NE(texts(1), texts(2));
}

TEST(QuestionTasks, SetsWithoutPassagesAreAskedWithout) {
  const auto set = std::make_shared<const QuestionSet>(
      read_questions(std::filesystem::path(CEPE_TEST_DATA) / "qa" / "nq_open.jsonl"));
  QuestionTaskOptions options = options_of();
  options.encoder_passages = {1, 5};
  const QuestionTasks made = question_tasks({set}, options);
  EXPECT_EQ(made.tasks.at(0).examples, 5);
  EXPECT_EQ(made.tasks[0].example(0).tags.at("setting"), "no passages");
  EXPECT_THAT(made.notes, ElementsAre(HasSubstr("nq_open: the file has no passages")));
}

TEST(QuestionTasks, OptionsWithoutSenseAreRefused) {
  const auto refuses = [](const std::function<void(QuestionTaskOptions&)>& change, const std::string& phrase) {
    QuestionTaskOptions options = options_of();
    change(options);
    EXPECT_THAT(error_of([&] { question_tasks({make_set()}, options); }), HasSubstr(phrase));
  };
  refuses([](auto& o) { o.gold_positions = {"5"}, o.encoder_passages = {5}; },
          "expected a place below the 5 passages of the encoder, found 5");
  refuses([](auto& o) { o.gold_positions = {"second"}; }, "expected first, middle, last, random or a number");
  refuses([](auto& o) { o.encoder_passages = {-1}; }, "passages: expected 0 or more, found -1");
  refuses([](auto& o) { o.encoder_passages.clear(); }, "found an empty list");
  refuses([](auto& o) { o.decoder_window = 10; }, "no question is left");
  refuses([](auto& o) { o.demonstrations = 30; },
          "no question is left: towns: questions left out, which have too few of other articles");
  QuestionTaskOptions options = options_of();
  EXPECT_THAT(error_of([&] { question_tasks({make_set(), make_set()}, options); }),
              HasSubstr("two sets are called towns"));
}

}  // namespace
}  // namespace cepe
