// Recall tasks on a tokenizer that counts words: budgets, places, placements, and what a user is told.
#include "tasks/recall.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <set>
#include <sstream>
#include <thread>

#include "base/error.h"
#include "base/temporary_directory.h"

namespace cepe {
namespace {

using testing::HasSubstr;

int64_t words_in(const std::string& text) {
  std::istringstream stream(text);
  int64_t count = 0;
  for (std::string word; stream >> word;) ++count;
  return count;
}

std::string all_of(const Question& q) { return q.before + q.text + q.after + q.answer_prefix; }

std::shared_ptr<const RecallData> make_data() {
  auto data = std::make_shared<RecallData>();
  std::string text;
  for (int i = 0; i < 300; ++i) text += "Sentence number " + std::to_string(i) + " stands here. ";
  data->essays = split_essays(text);
  for (int i = 0; i < 60; ++i) {
    data->adjectives.push_back("adjective" + std::to_string(i));
    data->nouns.push_back("noun" + std::to_string(i));
    data->verbs.push_back("verb" + std::to_string(i));
  }
  data->squad = read_squad(CEPE_TEST_DATA "/ruler/squad.json");
  data->hotpotqa = read_hotpotqa(CEPE_TEST_DATA "/ruler/hotpotqa.json");
  return data;
}

RecallOptions make_options() {
  RecallOptions options;
  options.lengths = {700, 1500};
  options.depths = {0, 50, 100};
  options.placements = {Placement::encoder, Placement::decoder, Placement::split};
  options.examples = 3;
  options.decoder_window = 1500;
  options.count_tokens = [](const Question& q) { return words_in(all_of(q)); };
  return options;
}

std::vector<Example> examples_of(const Task& task) {
  std::vector<Example> examples;
  for (int64_t i = 0; i < task.examples; ++i) examples.push_back(task.example(i));
  return examples;
}

// The whole text, wherever it stands.
std::string text_of(const Example& example) {
  std::string text;
  for (const ContextDocument& document : example.documents) text += document.text;
  return text + example.question.text;
}

TEST(RecallTasks, HaveAllOfRulersAndTwoMore) {
  const RecallTasks made = recall_tasks(make_data(), make_options());
  EXPECT_EQ(recall_task_names().size(), 15u);
  ASSERT_EQ(made.tasks.size(), 15u);
  for (size_t i = 0; i < made.tasks.size(); ++i) {
    const Task& task = made.tasks[i];
    EXPECT_EQ(task.name, recall_task_names()[i]);
    EXPECT_EQ(task.main_score, "match");
    // Lengths, placements, examples; and depths.
    EXPECT_EQ(task.examples, 2 * 3 * 3 * (task.name == "needle" || task.name == "kv" ? 3 : 1)) << task.name;
  }
}

TEST(RecallTasks, HoldWhatIsAskedForAndFillTheLength) {
  const RecallOptions options = make_options();
  for (const Task& task : recall_tasks(make_data(), options).tasks) {
    std::set<std::string> ids;
    for (const Example& example : examples_of(task)) {
      EXPECT_TRUE(ids.insert(example.id).second) << example.id;
      EXPECT_EQ(example.tags.at("task"), task.name);
      ASSERT_FALSE(example.references.empty());
      for (const std::string& reference : example.references) {
        EXPECT_THAT(text_of(example), HasSubstr(reference)) << example.id;
      }
      EXPECT_EQ(task.score(example.references.back(), example.references).at("match"),
                task.name.starts_with("qa") ? 1.0 : 1.0 / static_cast<double>(example.references.size()));
      Question whole = example.question;
      whole.text = text_of(example);
      const int64_t tokens = words_in(all_of(whole)) + example.max_tokens,
                    length = std::stoll(example.tags.at("length"));
      EXPECT_LE(tokens, length) << example.id;
      // A unit is 18 words of noise at most, or a document; qa has but forty documents.
      if (!task.name.starts_with("qa")) {
        EXPECT_GT(tokens, length - 22) << example.id;
      }
    }
  }
}

TEST(RecallTasks, ArePureFunctionsOfSeedAndIndex) {
  RecallOptions options = make_options();
  const auto data = make_data();
  const RecallTasks one = recall_tasks(data, options), again = recall_tasks(data, options);
  options.seed = 2;
  const RecallTasks other = recall_tasks(data, options);
  for (size_t t = 0; t < one.tasks.size(); ++t) {
    std::set<std::string> different;
    for (int64_t i = one.tasks[t].examples; i-- > 0;) {  // in another order
      const Example a = one.tasks[t].example(i), b = again.tasks[t].example(i), c = other.tasks[t].example(i);
      EXPECT_EQ(text_of(a) + all_of(a.question), text_of(b) + all_of(b.question));
      EXPECT_EQ(a.references, b.references);
      EXPECT_NE(text_of(a) + all_of(a.question), text_of(c) + all_of(c.question)) << a.id;
      different.insert(text_of(a) + a.question.question);
    }
    EXPECT_EQ(static_cast<int64_t>(different.size()), one.tasks[t].examples / 3) << "a text for all placements";
  }
}

TEST(RecallTasks, AreTheSameFromManyThreads) {
  const RecallTasks serial = recall_tasks(make_data(), make_options()),
                    made = recall_tasks(make_data(), make_options());
  for (size_t t = 0; t < made.tasks.size(); ++t) {
    std::vector<Example> examples(static_cast<size_t>(made.tasks[t].examples));
    std::atomic<size_t> next = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (size_t e = next++; e < examples.size(); e = next++) {
          examples[e] = made.tasks[t].example(static_cast<int64_t>(e));
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (size_t e = 0; e < examples.size(); ++e) {
      const Example alone = serial.tasks[t].example(static_cast<int64_t>(e));
      EXPECT_EQ(examples[e].id, alone.id);
      EXPECT_EQ(text_of(examples[e]) + all_of(examples[e].question), text_of(alone) + all_of(alone.question));
    }
  }
}

TEST(RecallTasks, MeasureATextOnceForAllPlacements) {
  RecallOptions options = make_options();
  options.tasks = {"niah_single_2"};
  auto counts = std::make_shared<std::atomic<int64_t>>(0);
  options.count_tokens = [counts](const Question& q) { return ++*counts, words_in(all_of(q)); };
  const Task task = recall_tasks(make_data(), options).tasks.at(0);
  *counts = 0;
  task.example(0);
  const int64_t first = *counts;
  EXPECT_GT(first, 2);
  EXPECT_EQ(task.example(1).tags.at("placement"), "decoder");
  EXPECT_EQ(task.example(2).tags.at("placement"), "split");
  EXPECT_EQ(*counts, first);
  task.example(3);
  EXPECT_GT(*counts, first) << "another text";
}

TEST(RecallTasks, ShareNoDraws) {
  RecallOptions options = make_options();
  options.tasks = {"niah_single_1", "niah_single_2", "niah_multikey_1", "niah_multikey_2", "needle"};
  std::set<std::string> values;
  for (const Task& task : recall_tasks(make_data(), options).tasks) values.insert(task.example(0).references.at(0));
  EXPECT_EQ(values.size(), 5u);
}

TEST(RecallTasks, StandTheSameTextWhereItIsWanted) {
  for (const Task& task : recall_tasks(make_data(), make_options()).tasks) {
    const std::vector<Example> examples = examples_of(task);
    for (size_t i = 0; i < examples.size(); i += 3) {
      const Example &encoder = examples[i], &decoder = examples[i + 1], &split = examples[i + 2];
      EXPECT_EQ(encoder.tags.at("placement"), "encoder");
      EXPECT_EQ(decoder.tags.at("placement"), "decoder");
      EXPECT_EQ(split.tags.at("placement"), "split");
      EXPECT_EQ(encoder.question.text, "");
      EXPECT_TRUE(decoder.documents.empty());
      ASSERT_EQ(split.documents.size(), 1u);
      EXPECT_EQ(text_of(encoder), text_of(decoder));
      EXPECT_EQ(text_of(encoder), text_of(split)) << split.id;
      EXPECT_EQ(encoder.references, split.references);
      EXPECT_EQ(encoder.question.after, decoder.question.after);
      const double share = static_cast<double>(split.question.text.size()) / static_cast<double>(text_of(split).size());
      EXPECT_NEAR(share, 0.5, 0.15) << split.id;
    }
  }
}

TEST(RecallTasks, ASplitFillsHalfOfWhatTheQuestionLeavesOfTheWindow) {
  RecallOptions options = make_options();
  options.tasks = {"niah_single_2"};
  options.lengths = {20'000};
  const Example example = recall_tasks(make_data(), options).tasks.at(0).example(1);
  EXPECT_EQ(example.tags.at("placement"), "split") << "20,000 tokens do not fit into a decoder's window of 1,500";
  const int64_t text = words_in(example.question.text), beside = words_in(all_of(example.question)) - text;
  EXPECT_NEAR(static_cast<double>(text), 0.5 * static_cast<double>(1500 - beside - example.max_tokens), 30);
}

TEST(RecallTasks, QuestionsWhoseOwnDocumentsAreTooLongAreLeftOut) {
  auto data = std::make_shared<RecallData>();
  std::string longest;
  for (int i = 0; i < 900; ++i) longest += "word ";
  data->squad.documents = {"A short one.", longest, "Another short one."};
  for (size_t i = 0; i < 12; ++i) data->squad.questions.push_back({"Which?", {"one"}, {i % 3}, {}, ""});
  RecallOptions options = make_options();
  options.tasks = {"qa_1"};
  options.lengths = {700};
  options.placements = {Placement::encoder};
  options.examples = 24;
  const RecallTasks made = recall_tasks(data, options);
  EXPECT_THAT(made.notes.at(0), HasSubstr("qa_1: 8 of 24 examples take more than 700 tokens by themselves: left out"));
  const std::vector<Example> examples = examples_of(made.tasks.at(0));
  EXPECT_EQ(examples.size(), 16u);
  std::set<std::string> clusters;
  for (const Example& example : examples) clusters.insert(example.cluster);
  EXPECT_EQ(clusters.size(), 8u) << "each of the 8 questions is asked twice, and varies with itself";
}

TEST(RecallTasks, HideTheNeedleAtTheDepth) {
  RecallOptions options = make_options();
  options.depths = {0, 10, 50, 100};
  options.placements = {Placement::encoder};
  for (const std::string name : {"needle", "kv"}) {
    options.tasks = {name};
    for (const Example& example : examples_of(recall_tasks(make_data(), options).tasks.at(0))) {
      const std::string text = text_of(example);
      const double depth = std::stod(example.tags.at("depth"));
      const double place = static_cast<double>(text.find(example.references[0])) / static_cast<double>(text.size());
      EXPECT_NEAR(100 * place, depth, 8) << example.id;
    }
  }
}

TEST(RecallTasks, LongListsRepeatTheirWords) {
  RecallOptions options = make_options();
  options.tasks = {"cwe"};
  options.lengths = {30'000};
  options.placements = {Placement::encoder};
  const Example example = recall_tasks(make_data(), options).tasks.at(0).example(0);
  std::map<std::string, int> counts;
  std::istringstream stream(text_of(example));
  for (std::string number, word; stream >> number >> word;) ++counts[word];
  EXPECT_LE(counts.size(), 180u) << "the vocabulary";
  int least_common = 1 << 30, most_other = 0;
  for (const auto& [word, count] : counts) {
    const bool common = std::count(example.references.begin(), example.references.end(), word) > 0;
    if (common) least_common = std::min(least_common, count);
    if (!common) most_other = std::max(most_other, count);
  }
  EXPECT_EQ(least_common, 10 * most_other) << "30 to 3, times the same number";
}

TEST(RecallTasks, SayWhatIsLeftOut) {
  auto data = std::make_shared<RecallData>(*make_data());
  data->squad = {};
  data->essays = {};
  RecallOptions options = make_options();
  options.lengths = {60, 700, 4000};
  const RecallTasks made = recall_tasks(data, options);
  std::string notes;
  for (const std::string& note : made.notes) notes += note + "\n";
  EXPECT_THAT(notes, HasSubstr("niah_single_2: the data has no essays: left out"));
  EXPECT_THAT(notes, HasSubstr("qa_1: the data has no squad.json: left out"));
  EXPECT_THAT(notes,
              HasSubstr("vt: its shortest text and the answer take more than nine tenths of 60 tokens: left out"));
  EXPECT_THAT(notes, HasSubstr("4000 tokens exceed the decoder's window of 1500: the placement decoder is left out"));
  for (const Task& task : made.tasks) {
    for (int64_t i = 0; i < task.examples; ++i) EXPECT_NE(task.example(i).tags.at("length"), "60");
  }
}

TEST(RecallTasks, RefuseOptionsWithoutSense) {
  const auto refused = [](const std::function<void(RecallOptions&)>& change) {
    RecallOptions options = make_options();
    change(options);
    auto data = std::make_shared<RecallData>(*make_data());
    data->squad = {};
    return error_of<Error>([&] { recall_tasks(data, options); });
  };
  EXPECT_THAT(refused([](auto& o) { o.tasks = {"niah"}; }),
              HasSubstr("there is no recall task \"niah\"; there are niah"));
  EXPECT_THAT(refused([](auto& o) { o.tasks = {"qa_1"}; }), HasSubstr("qa_1: the data has no squad.json"));
  EXPECT_THAT(refused([](auto& o) { o.lengths = {}; }), HasSubstr("an empty list"));
  EXPECT_THAT(refused([](auto& o) { o.lengths = {0}; }), HasSubstr("expected 1 or more tokens, found 0"));
  EXPECT_THAT(refused([](auto& o) { o.depths = {101}; }), HasSubstr("percent from 0 to 100, found 101"));
  EXPECT_THAT(refused([](auto& o) { o.examples = 0; }), HasSubstr("examples: expected 1 or more"));
  EXPECT_THAT(refused([](auto& o) { o.lengths = {20}; }), HasSubstr("no task has an example"));
}

}  // namespace
}  // namespace cepe
