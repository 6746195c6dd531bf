#include "ask/kinds/patterns.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ask/kinds/phrases.h"

namespace cepe {
namespace {

using testing::IsEmpty;
using testing::UnorderedElementsAre;
using Asked = std::pair<std::string, std::string>;

std::vector<Asked> asked(const std::string& title, const std::string& text) {
  std::vector<Asked> all;
  for (const AskTurn& turn : questions_about(title, text)) all.emplace_back(turn.question, turn.answer);
  return all;
}

TEST(Patterns, AskAboutLives) {
  EXPECT_THAT(asked("Jelly Roll Morton",
                    "Ferdinand Joseph LaMothe (October 20, 1890 – July 10, 1941), known professionally as Jelly Roll "
                    "Morton, was an American pianist.\n"),
              UnorderedElementsAre(Asked{"When was Jelly Roll Morton born?", "October 20, 1890"},
                                   Asked{"When did Jelly Roll Morton die?", "July 10, 1941"}));
  EXPECT_THAT(asked("Ada Quill", "Ada Quill (born 3 May 1960) is a Welsh chemist and writer who lives in Cardiff.\n"),
              UnorderedElementsAre(Asked{"When was Ada Quill born?", "3 May 1960"},
                                   Asked{"Who is Ada Quill?", "a Welsh chemist and writer"}));
}

TEST(Patterns, AWarWasNotBorn) {
  EXPECT_THAT(asked("Salt War", "The Salt War (3 May 1541 – 4 June 1542) was a war between the king and the town.\n"),
              UnorderedElementsAre(Asked{"What was the Salt War?", "a war between the king and the town"}));
  EXPECT_THAT(asked("Ada Quill", "Ada Quill (3 May 1841 – 4 June 1902) was a Welsh chemist in Cardiff.\n"),
              testing::Contains(Asked{"When did Ada Quill die?", "4 June 1902"}));
}

TEST(Patterns, AWordThatBeginsASentenceNeedsTheArticle) {
  EXPECT_THAT(asked("Tower Bridge", "Some first sentence stands here. Construction was completed in 1961 by many."),
              UnorderedElementsAre(Asked{"In the article \"Tower Bridge\", when was Construction completed?", "1961"}));
  EXPECT_THAT(asked("Linbridge", "Some first sentence stands here. Linbridge was founded in 1361 by many."),
              UnorderedElementsAre(Asked{"When was Linbridge founded?", "1361"}));
  EXPECT_THAT(asked("Ada Quill", "Some first sentence stands here. Ada Quill died in December at last."), IsEmpty());
}

TEST(Patterns, AskAboutStatements) {
  EXPECT_THAT(asked("Marble Hall",
                    "Marble Hall is a large ruined theatre near the river, known for its dome. Marble Hall was "
                    "built in 1871. The Marble Hall was designed by Anna B. Hale in two years. Marble "
                    "Hall is located in Springfield, Illinois. Marble Hall has 12 towers."),
              UnorderedElementsAre(Asked{"What is Marble Hall?", "a large ruined theatre near the river"},
                                   Asked{"When was Marble Hall built?", "1871"},
                                   Asked{"Who designed the Marble Hall?", "Anna B. Hale"},
                                   Asked{"Where is Marble Hall located?", "Springfield, Illinois"},
                                   Asked{"How many towers does Marble Hall have?", "12"}));
  EXPECT_THAT(
      asked("Blue Door", "A first sentence without anything. The album was released on 4 March 1999 in Japan."),
      UnorderedElementsAre(Asked{"In the article \"Blue Door\", when was the album released?", "4 March 1999"}));
  EXPECT_THAT(
      asked("X", "Nothing to see in here. In 1917, he followed a bandleader to California."),
      UnorderedElementsAre(Asked{"In which year did this happen: he followed a bandleader to California?", "1917"}));
}

TEST(Patterns, LeaveOutWhatIsNotSure) {
  for (const char* sentence :
       {"It was founded in 1887 by two men.", "He was born in Paris in a small house.",
        "After the war, the Hall was built in 1900 again.", "The bridge and the tower was built in 1850 at once.",
        "The Song was written by John Hale and Paul Reed in May.", "Marble Hall is located in the north of the town.",
        "Marble Hall was built in 1871-72 by the town.", "These were released in 1999 by many.",
        "Marble Hall was directed by several people at once.", "Marble Hall has one tower and no bell.",
        "Marble Hall was painted by John Hale, Paul Reed and others.",
        "Marble Hall was founded by US-based writer John Hale."}) {
    EXPECT_THAT(asked("Town", std::string("Some first sentence stands here. ") + sentence), IsEmpty()) << sentence;
  }
}

TEST(Patterns, AQuestionWithTwoAnswersIsNone) {
  EXPECT_THAT(asked("X", "Marble Hall was built in 1871. Marble Hall was built in 1900."), IsEmpty());
}

TEST(Phrases, DatesAndNames) {
  const auto date = [](const std::string& text, bool whole) { return text.substr(0, date_length(text, whole)); };
  EXPECT_EQ(date("1956, and", false), "1956");
  EXPECT_EQ(date("1956", true), "");
  EXPECT_EQ(date("June 1956.", false), "June 1956");
  EXPECT_EQ(date("12 June 1956 in", true), "12 June 1956");
  EXPECT_EQ(date("June 12, 1956 in", true), "June 12, 1956");
  EXPECT_EQ(date("1990s", false), "");
  EXPECT_EQ(date("Jane 1956", false), "");
  const auto name = [](const std::string& text, bool commas) { return text.substr(0, name_length(text, commas)); };
  EXPECT_EQ(name("John F. Kennedy in", false), "John F. Kennedy");
  EXPECT_EQ(name("Ludwig van Beethoven, a", false), "Ludwig van Beethoven");
  EXPECT_EQ(name("Springfield, Illinois, where", true), "Springfield, Illinois");
  EXPECT_EQ(name("the University of Oslo and", false), "the University of Oslo");
  EXPECT_EQ(name("the north", false), "");
}

}  // namespace
}  // namespace cepe
