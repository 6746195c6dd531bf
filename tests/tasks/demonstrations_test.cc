// Demonstrations: how they are drawn and divided.
#include "tasks/icl/demonstrations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/error_of.h"

namespace cepe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Texts "t0 of a", ... of labels a, b and c.
LabelledTextSet set_of(int asked, int shown) {
  LabelledTextSet set{.name = "letters", .task = label_task_from_name("plain", "--task")};
  for (int i = 0; i < asked; ++i) set.asked.push_back({fmt::format("question {}", i), std::string(1, "abc"[i % 3])});
  for (int i = 0; i < shown; ++i) {
    const std::string label(1, "abc"[i % 3]);
    set.shown.push_back({fmt::format("t{} of {}", i, label), label});
  }
  return set;
}

const FitsWindow kAll = [](const std::string&) { return true; };

std::string label_in(const std::string& demonstration) { return demonstration.substr(demonstration.rfind(' ') + 1); }
// "a": the label that the text itself names.
std::string own_label(const std::string& demonstration) {
  return demonstration.substr(demonstration.find(" of ") + 4, 1);
}

TEST(IclSettings, ArePairsWithControls) {
  IclOptions options;
  options.decoder_shots = {2, 0};
  options.encoder_shots = {0, 1, 18};
  options.decoder_alone = {2, 40};
  std::vector<std::string> names;
  for (const IclSetting& setting : icl_settings(options)) names.push_back(setting.name());
  EXPECT_THAT(names, ElementsAre("no demonstrations", "decoder 2", "decoder 2 + encoder 1", "decoder 2 + encoder 18",
                                 "decoder 2 + encoder 18, shuffled labels", "encoder 1", "encoder 18",
                                 "encoder 18, shuffled labels", "decoder 40"));
  options.seeds = {1, 1};
  EXPECT_THAT(error_of([&] { icl_settings(options); }), HasSubstr("each once"));
  options.seeds = {1};
  options.decoder_shots = {-1};
  EXPECT_THAT(error_of([&] { icl_settings(options); }), HasSubstr("found -1"));
}

TEST(Demonstrations, AreBalancedNestedAndDrawnBySeed) {
  IclOptions options;
  options.decoder_shots = {2};
  options.encoder_shots = {4, 10};
  options.limit = 0;
  const IclSource source(set_of(6, 60), options, kAll);
  ASSERT_EQ(source.scenes(), 6 * 3);
  std::set<std::string> lists;
  for (int64_t i = 0; i < source.scenes(); ++i) {
    const IclScene scene = source.scene(i);
    ASSERT_EQ(std::ssize(scene.prompts), source.prompts(i));
    EXPECT_EQ(scene.prompts.size(), i % 3 == 0 ? 5u : 4u) << "no demonstrations with the first seed alone";
    const IclPrompt &four = scene.prompts[scene.prompts.size() - 4], &ten = scene.prompts[scene.prompts.size() - 2];
    ASSERT_EQ(ten.encoder_texts.size(), 10u);
    EXPECT_EQ(four.decoder_text, ten.decoder_text);
    EXPECT_TRUE(std::equal(four.encoder_texts.begin(), four.encoder_texts.end(), ten.encoder_texts.begin()));
    EXPECT_EQ(ten.sources.size(), 10u);
    // Twelve in all are four rounds of the three labels, each text once, each with its own label.
    std::vector<std::string> all = ten.encoder_texts;
    const size_t end = four.decoder_text.find("\n\n");
    all.insert(all.begin(), {four.decoder_text.substr(0, end), four.decoder_text.substr(end + 2)});
    ASSERT_TRUE(all[1].ends_with("\n\n"));
    all[1].resize(all[1].size() - 2);
    for (size_t round = 0; round < 12; round += 3) {
      std::set<std::string> labels;
      for (size_t j = round; j < round + 3; ++j) {
        EXPECT_EQ(label_in(all[j]), own_label(all[j])) << all[j];
        EXPECT_TRUE(all[j].starts_with("Text: t"));
        labels.insert(label_in(all[j]));
      }
      EXPECT_EQ(labels.size(), 3u);
    }
    EXPECT_EQ(std::set<std::string>(all.begin(), all.end()).size(), 12u);
    lists.insert(fmt::format("{}", fmt::join(all, "|")));
  }
  EXPECT_EQ(lists.size(), 18u) << "drawn anew for each text and seed";
  EXPECT_EQ(IclSource(set_of(6, 60), options, kAll).scene(7).prompts[1].encoder_texts,
            source.scene(7).prompts[1].encoder_texts);
}

TEST(Demonstrations, ShuffledLabelsChangePlaces) {
  IclOptions options;
  options.encoder_shots = {12};
  options.limit = 0;
  const IclSource source(set_of(3, 60), options, kAll);
  int changed = 0;
  for (int64_t i = 0; i < source.scenes(); ++i) {
    const IclScene scene = source.scene(i);
    const IclPrompt &own = scene.prompts[scene.prompts.size() - 2], &shuffled = scene.prompts.back();
    ASSERT_TRUE(shuffled.setting.shuffled);
    EXPECT_EQ(own.decoder_text, shuffled.decoder_text);
    std::vector<std::string> before, after;
    for (size_t j = 0; j < 12; ++j) {
      const auto text_of = [](const std::string& one) { return one.substr(0, one.rfind(' ')); };
      EXPECT_EQ(text_of(own.encoder_texts[j]), text_of(shuffled.encoder_texts[j]));
      before.push_back(label_in(own.encoder_texts[j]));
      after.push_back(label_in(shuffled.encoder_texts[j]));
      changed += before.back() != after.back();
    }
    EXPECT_THAT(after, testing::UnorderedElementsAreArray(before));
  }
  EXPECT_GT(changed, 9 * 12 / 3) << "two of three in the mean";
}

TEST(Demonstrations, NeverHaveTheAskedText) {
  LabelledTextSet set = set_of(0, 4);
  set.asked = set.shown;  // one file for both
  IclOptions options;
  options.decoder_shots = {9};  // more than there are: drawn again
  options.encoder_shots = {0};
  options.limit = 0;
  const IclSource source(set, options, kAll);
  for (int64_t i = 0; i < source.scenes(); ++i) {
    const IclScene scene = source.scene(i);
    const std::string& text = scene.prompts.back().decoder_text;
    EXPECT_EQ(text.find(scene.text), std::string::npos);
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 9 * 3);
  }
}

TEST(Demonstrations, TextsAreChosenByLimitAndWindow) {
  IclOptions options;
  options.limit = 5;
  options.in_order = true;
  const auto ids = [&](const FitsWindow& fits) {
    const IclSource source(set_of(20, 30), options, fits);
    std::vector<std::string> ids;
    for (int64_t i = 0; i < source.scenes(); i += 3) ids.push_back(source.scene(i).id);
    EXPECT_EQ(source.labels(), (std::vector<std::string>{"a", "b", "c"}));
    return ids;
  };
  EXPECT_THAT(ids(kAll), ElementsAre("letters/1/42", "letters/2/42", "letters/3/42", "letters/4/42", "letters/5/42"));
  const FitsWindow fits = [](const std::string& prompt) { return !prompt.ends_with("question 1\nLabel:"); };
  EXPECT_THAT(ids(fits), ElementsAre("letters/1/42", "letters/3/42", "letters/4/42", "letters/5/42", "letters/6/42"));
  options.in_order = false;
  EXPECT_THAT(ids(kAll), testing::Not(ElementsAre("letters/1/42", "letters/2/42", "letters/3/42", "letters/4/42",
                                                  "letters/5/42")));
  EXPECT_THAT(error_of([&] { ids([](const std::string&) { return false; }); }), HasSubstr("no text fits"));
  LabelledTextSet one = set_of(1, 1);
  EXPECT_THAT(error_of([&] { IclSource(one, options, kAll); }), HasSubstr("at least two labels"));
}

}  // namespace
}  // namespace cepe
