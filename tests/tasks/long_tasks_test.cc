// Questions about long texts in settings: who reads which part of the document. A word is a token here.
#include "tasks/long/long_tasks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <numeric>

#include "base/error.h"
#include "base/error_of.h"

namespace cepe {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

// Words with the white space before them, each with a number of its own.
class Words {
 public:
  std::vector<TokenId> encode(const std::string& text) {
    const std::lock_guard lock(mutex_);
    std::vector<TokenId> tokens;
    for (size_t at = 0; at < text.size();) {
      const size_t word = std::min(text.find_first_not_of(" \n", at), text.size());
      const size_t end = std::min(text.find_first_of(" \n", word), text.size());
      const auto [place, fresh] = numbers_.emplace(text.substr(at, end - at), words_.size());
      if (fresh) words_.push_back(place->first);
      tokens.push_back(static_cast<TokenId>(place->second));
      at = end;
    }
    return tokens;
  }
  std::string decode(std::span<const TokenId> tokens) {
    const std::lock_guard lock(mutex_);
    std::string text;
    for (const TokenId token : tokens) text += words_.at(static_cast<size_t>(token));
    return text;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, size_t> numbers_;
  std::vector<std::string> words_;
};

std::string numbered(const std::string& word, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += fmt::format("{}{}{}", i == 0 ? "" : " ", word, i);
  return text;
}

LongSet two_stories() {
  LongSet set;
  set.name = "stories";
  set.documents = {{"one", numbered("a", 100)}, {"two", numbered("b", 40)}};
  set.questions = {{"q1", 0, "Who is it?", {"x"}}, {"q2", 0, "What is it?", {"y"}}, {"q3", 1, "Why is it?", {"z"}}};
  return set;
}

LongTaskOptions options_with(std::vector<Placement> placements, int64_t window = 400) {
  const auto words = std::make_shared<Words>();
  LongTaskOptions options;
  options.placements = std::move(placements);
  options.decoder_window = window;
  options.max_tokens = 10;
  options.encode = [words](const std::string& text) { return words->encode(text); };
  options.decode = [words](std::span<const TokenId> tokens) { return words->decode(tokens); };
  options.count_tokens = [words](const Question& question) {
    return static_cast<int64_t>(words->encode(prompt_text(question, PromptForm::task).message).size());
  };
  return options;
}

std::map<std::string, Example> examples_of(LongSet set, const LongTaskOptions& options) {
  const LongTasks made = long_tasks({std::make_shared<const LongSet>(std::move(set))}, options);
  std::map<std::string, Example> examples;
  for (const Task& task : made.tasks) {
    for (int64_t i = 0; i < task.examples; ++i) {
      Example example = task.example(i);
      examples.emplace(example.id, std::move(example));
    }
  }
  return examples;
}

TEST(LongTasks, EachSettingReadsTheDocumentInItsOwnPlace) {
  const auto examples =
      examples_of(two_stories(), options_with({Placement::encoder, Placement::decoder, Placement::split}));
  ASSERT_EQ(examples.size(), 3u * 7u);
  const std::string story = numbered("a", 100), other = numbered("b", 40);
  const Example& encoder = examples.at("stories/q1/encoder");
  ASSERT_EQ(encoder.documents.size(), 1u);
  EXPECT_EQ(encoder.documents[0].name, "one");
  EXPECT_EQ(encoder.documents[0].text, story);
  EXPECT_EQ(encoder.question.text, "");
  EXPECT_EQ(encoder.question.question, "Who is it?");
  EXPECT_THAT(prompt_text(encoder.question, PromptForm::task).message, EndsWith("Question: Who is it?\nAnswer:"));
  EXPECT_THAT(encoder.stop, ElementsAre("\n"));
  EXPECT_EQ(encoder.max_tokens, 10);
  EXPECT_EQ(encoder.cluster, "document 0");
  const std::map<std::string, std::string> tags = {{"task", "stories"},      {"setting", "encoder"},
                                                   {"placement", "encoder"}, {"document", "own"},
                                                   {"length", "128"},        {"cut", "no"}};
  EXPECT_EQ(encoder.tags, tags);

  const Example& decoder = examples.at("stories/q1/decoder");
  EXPECT_THAT(decoder.documents, IsEmpty());
  EXPECT_EQ(decoder.question.text, story);
  const Example& split = examples.at("stories/q1/split");
  EXPECT_EQ(split.documents.at(0).text + split.question.text, story);
  EXPECT_EQ(split.documents[0].text, numbered("a", 50));

  EXPECT_EQ(examples.at("stories/q1/encoder, another's document").documents[0].text, other);
  EXPECT_EQ(examples.at("stories/q3/decoder, another's document").question.text, story);
  EXPECT_EQ(examples.at("stories/q3/decoder, another's document").tags.at("length"), "64") << "of its own document";
  const Example& none = examples.at("stories/q1/no document");
  EXPECT_THAT(none.documents, IsEmpty());
  EXPECT_THAT(prompt_text(none.question, PromptForm::task).message, StartsWith("Answer the question."));
  for (const auto& [id, example] : examples) EXPECT_EQ(example.references.size(), 1u);
}

TEST(LongTasks, LongDocumentsLoseTheirMiddle) {
  LongTaskOptions options = options_with({Placement::decoder, Placement::split}, 80);
  options.no_document = options.other_document = false;
  const auto examples = examples_of(two_stories(), options);
  const Example& decoder = examples.at("stories/q1/decoder");
  EXPECT_EQ(decoder.tags.at("cut"), "yes");
  EXPECT_THAT(decoder.question.text, StartsWith("a0 a1 a2"));
  EXPECT_THAT(decoder.question.text, EndsWith("a98 a99"));
  EXPECT_THAT(decoder.question.text, Not(HasSubstr("a50")));
  EXPECT_EQ(options.count_tokens(decoder.question), 70) << "as much as fits";
  EXPECT_EQ(examples.at("stories/q3/decoder").tags.at("cut"), "no");
  // Split cuts nothing: what the decoder has no place for is the encoder's.
  const Example& split = examples.at("stories/q1/split");
  EXPECT_EQ(split.tags.at("cut"), "no");
  EXPECT_EQ(split.documents.at(0).text + split.question.text, numbered("a", 100));
  EXPECT_LE(options.count_tokens(split.question), 70);

  options.length = 20;
  const auto shorter = examples_of(two_stories(), options);
  const std::string kept = numbered("a", 10) + " a90 a91 a92 a93 a94 a95 a96 a97 a98 a99";
  EXPECT_EQ(shorter.at("stories/q1/decoder").question.text, kept);
  EXPECT_EQ(shorter.at("stories/q1/decoder").tags.at("length"), "32");
  EXPECT_EQ(shorter.at("stories/q1/split").documents.at(0).text + shorter.at("stories/q1/split").question.text, kept);

  std::vector<TokenId> tokens(7);
  std::iota(tokens.begin(), tokens.end(), 0);
  EXPECT_THAT(cut_in_the_middle(tokens, 7), ElementsAre(0, 1, 2, 3, 4, 5, 6));
  EXPECT_THAT(cut_in_the_middle(tokens, 5), ElementsAre(0, 1, 4, 5, 6));
  EXPECT_THAT(cut_in_the_middle(tokens, 1), ElementsAre(6));
}

TEST(LongTasks, OptionsAreChosenOrWritten) {
  LongSet set = two_stories();
  set.metric = LongMetric::choice;
  set.max_tokens = 16;
  for (LongQuestion& question : set.questions) {
    question.options = {"A", "B"};
    question.references = {"B"};
  }
  set.questions[1].references = {"AB"};
  LongTaskOptions options = options_with({Placement::encoder});
  options.no_document = options.other_document = false;
  const LongTasks made = long_tasks({std::make_shared<const LongSet>(set)}, options);
  EXPECT_EQ(made.tasks.at(0).examples, 2);
  EXPECT_EQ(made.tasks.at(0).main_score, "accuracy");
  EXPECT_THAT(made.notes,
              ElementsAre(HasSubstr("have several right options, of which the likeliest one is no answer: 1")));
  EXPECT_THAT(made.tasks.at(0).example(0).options, ElementsAre("A", "B"));
  options.likelihood = false;
  const auto written = examples_of(set, options);
  EXPECT_EQ(written.size(), 3u);
  EXPECT_THAT(written.at("stories/q2/encoder").options, IsEmpty());
}

TEST(LongTasks, PromptsAreTheUsersOrTheFiles) {
  LongTaskOptions options = options_with({Placement::decoder});
  options.no_document = options.other_document = false;
  options.prompts["stories"] = "Story: {context}\nNow {input}\nAnswer:";
  EXPECT_EQ(
      prompt_text(examples_of(two_stories(), options).at("stories/q3/decoder").question, PromptForm::task).message,
      "Story: " + numbered("b", 40) + "\nNow Why is it?\nAnswer:");
  LongSet own = two_stories();
  own.questions[2].before = "Read: ";
  own.questions[2].after = "\nQ: Why?";
  EXPECT_EQ(prompt_text(examples_of(own, options_with({Placement::decoder})).at("stories/q3/decoder").question,
                        PromptForm::task)
                .message,
            "Read: " + numbered("b", 40) + "\nQ: Why?");
  options.prompts["stories"] = "no place";
  EXPECT_THAT(error_of([&] { examples_of(two_stories(), options); }),
              HasSubstr("expected {context} and words beside it, found \"no place\""));
}

TEST(LongTasks, PromptsThatAreOfNoUseAreNamed) {
  LongTaskOptions options = options_with({Placement::encoder});
  const auto notes = [&] { return long_tasks({std::make_shared<const LongSet>(two_stories())}, options).notes; };
  EXPECT_THAT(notes(), IsEmpty());
  options.prompts["stories"] = "{context} {input}";
  EXPECT_THAT(notes(), IsEmpty());
  options.prompts["story"] = "{context} {input}";
  EXPECT_THAT(notes(), ElementsAre("prompts: no data set is called story"));
  options.prompts.erase("stories");
  for (const char* name : {"a", "b", "c", "d", "e"}) options.prompts[name] = "{context} {input}";
  EXPECT_THAT(notes(), ElementsAre("prompts: none is given for stories",
                                   "prompts: no data set is called a, b, c, d, e and 1 more"));
}

TEST(LongTasks, LimitsAndWhatDoesNotFit) {
  LongTaskOptions options = options_with({Placement::encoder});
  options.questions = 2;
  const auto few = examples_of(two_stories(), options);
  EXPECT_EQ(few.size(), 2u * 3u);
  options.questions = 0;
  options.decoder_window = 12;
  EXPECT_THAT(
      error_of([&] { examples_of(two_stories(), options); }),
      HasSubstr("long texts: no question is left: stories: questions left out, which do not fit in the decoder's "
                "window of 12 tokens: 3"));
  options = options_with({Placement::encoder});
  LongSet lonely = two_stories();
  lonely.documents.pop_back();
  lonely.questions.pop_back();
  const LongTasks made = long_tasks({std::make_shared<const LongSet>(lonely)}, options);
  EXPECT_EQ(made.tasks.at(0).examples, 2 * 2);
  EXPECT_THAT(made.notes, ElementsAre(HasSubstr("there is one document alone")));
  options.placements.clear();
  EXPECT_THROW(examples_of(two_stories(), options), Error);
  options = options_with({Placement::encoder});
  options.length = -1;
  EXPECT_THROW(examples_of(two_stories(), options), Error);
  const auto set = std::make_shared<const LongSet>(two_stories());
  EXPECT_THAT(error_of([&] { long_tasks({set, set}, options_with({Placement::encoder})); }),
              HasSubstr("two sets are called stories"));
}

}  // namespace
}  // namespace cepe
