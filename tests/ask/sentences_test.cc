#include "ask/sources/sentences.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cepe {
namespace {

using testing::ElementsAre;

TEST(Sentences, AreCutBehindStopsAndLines) {
  EXPECT_THAT(
      split_sentences("Mr. Hale came at 5.30 p.m. and left. \"Why?\" he said. He (J. Smith) went.\n  x = 1;\ny"),
      ElementsAre("Mr. Hale came at 5.30 p.m. and left. ", "\"Why?\" he said. ", "He (J. Smith) went.\n", "  x = 1;\n",
                  "y"));
  EXPECT_THAT(split_sentences("One! Two? three. Four"), ElementsAre("One! ", "Two? three. ", "Four"));
  EXPECT_TRUE(split_sentences("").empty());
}

TEST(Sentences, PiecesAreTheText) {
  for (const std::string text : {"a. B.\n\n\n C? d", ".", "\n\n", "  A. \n B", "a.\" B) c. D"}) {
    std::string joined;
    for (const std::string_view piece : split_sentences(text)) joined += piece;
    EXPECT_EQ(joined, text);
  }
}

TEST(Sentences, WordsAndOccurrences) {
  EXPECT_EQ(on_one_line(" a \n\n b\tc "), "a b c");
  EXPECT_EQ(count_occurrences("aaaa", "aa"), 2u);
  EXPECT_EQ(first_words("one two three", 9), "one two");
  EXPECT_EQ(first_words("one two", 20), "one two");
  EXPECT_EQ(first_words("ééé", 3), "é");
}

}  // namespace
}  // namespace cepe
