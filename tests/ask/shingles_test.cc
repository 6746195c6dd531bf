#include "ask/sources/shingles.h"

#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "ask/ask_fixture.h"

namespace cepe {
namespace {

// Runs of eight words as texts.
std::vector<std::string> runs(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words, all;
  for (std::string word; stream >> word;) words.push_back(word);
  for (size_t i = 0; i + 8 <= words.size(); ++i) {
    std::string run;
    for (size_t k = i; k < i + 8; ++k) run += words[k] + " ";
    all.push_back(run);
  }
  return all;
}

TEST(Shingles, CountWhatTextsShare) {
  AskRandom random{3};
  const auto draw = [&](int64_t words) {
    std::string text;
    for (int64_t i = 0; i < words; ++i) text += std::string(1, static_cast<char>('a' + random.below(2))) + " ";
    return text;
  };
  for (int round = 0; round < 50; ++round) {
    const std::string one = draw(40), other = draw(60);
    ShingleSet set;
    set.add(one);
    const std::vector<std::string> listed = runs(one);
    const std::set<std::string> known(listed.begin(), listed.end());
    int64_t expected = 0;
    for (const std::string& run : runs(other)) expected += known.contains(run) ? 1 : 0;
    EXPECT_EQ(set.shared(other), expected);
  }
}

TEST(Shingles, CaseAndStopsDoNotMatter) {
  ShingleSet set;
  set.add("The quick brown fox, they say, jumps over the dog.");
  EXPECT_EQ(set.shared("the QUICK brown fox they say jumps over the dog"), 3);
  EXPECT_EQ(set.shared("the quick brown cat they say jumps over the dog"), 0);
  set.add("Who was first?");  // fewer than four words say nothing
  EXPECT_EQ(set.shared("who was first"), 0);
  set.add("Who wrote the play Hamlet?");
  EXPECT_EQ(set.shared("Who wrote the play Hamlet"), 1);
}

TEST(Shingles, OverlappingPassagesAndQuestionsAreLeftOut) {
  const std::string passage = "The lighthouse of rock 2 is kept by Keeper 67 and has 32 lamps.";
  const ask_test::Sources all, less(2, passage);
  EXPECT_EQ(all.get().questions.refused_passages(), 0);
  EXPECT_EQ(less.get().questions.refused_passages(), 1);
  EXPECT_EQ(less.get().questions.refused_questions(), 2);
  EXPECT_EQ(less.get().questions.questions(), all.get().questions.questions() - 2);
  for (const Passage& kept : less.get().questions.passages()) EXPECT_NE(kept.text, passage);
}

TEST(Shingles, OverlappingExcerptsAreDrawnAgain) {
  const std::string first = ask_test::corpus_jsonl().substr(0, 4000);
  const ask_test::Sources sources(0, first);
  ShingleSet refused;
  refused.add(first);
  for (uint64_t seed = 0; seed < 40; ++seed) {
    AskRandom random{seed};
    for (const AskDocument& document : sources.get().corpus.draw(random, {.tokens = 3000})) {
      EXPECT_EQ(refused.shared(document.text), 0);
    }
  }
  EXPECT_GT(sources.get().corpus.refused(), 0);
}

}  // namespace
}  // namespace cepe
