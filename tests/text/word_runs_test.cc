#include "text/word_runs.h"

#include <gtest/gtest.h>

#include <string>

namespace cepe {
namespace {

bool shares(const std::string& text, const std::string& other) { return WordRuns(text).holds_part_of(WordRuns(other)); }

TEST(WordRuns, EightWordsWhateverTheirCaseAndPunctuation) {
  const std::string text = "At noon the grey ferry left the harbour of Bergen, and nobody saw it again.";
  EXPECT_TRUE(shares(text, "They say: THE GREY FERRY (left) the harbour of Bergen yesterday."));
  EXPECT_FALSE(shares(text, "They say the grey ferry left the harbour of Porto."));  // seven
  EXPECT_FALSE(shares(text, "They say the grey ferry slowly left the harbour of Bergen yesterday."));
}

TEST(WordRuns, AShortTextAsAWhole) {
  EXPECT_TRUE(shares("At noon the grey ferry left.", "The grey ferry"));
  EXPECT_FALSE(shares("The grey ferry", "At noon the grey ferry left."));  // what is read holds more than it
  EXPECT_FALSE(shares("At noon the grey ferry left.", "the green ferry"));
  EXPECT_FALSE(shares("At noon the grey ferry left.", ""));
  EXPECT_FALSE(shares("", "the"));
  EXPECT_TRUE(shares("ÉTÉ À LA MER", "été à"));
}

TEST(WordRuns, SixteenCharactersOfAScriptWithoutSpaces) {
  const std::string text = "春眠不覚暁処処聞啼鳥夜来風雨声花落知多少";
  EXPECT_TRUE(shares(text, "詩:春眠不覚暁,処処聞啼鳥,夜来風雨声花。"));  // sixteen, and more
  EXPECT_FALSE(shares(text, "詩:春眠不覚暁,処処聞啼鳥,夜来風雨。"));     // fourteen
}

}  // namespace
}  // namespace cepe
