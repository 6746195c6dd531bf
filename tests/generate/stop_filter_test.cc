#include "generate/stop_filter.h"

#include <gtest/gtest.h>

#include <random>

#include "base/error.h"

namespace cepe {
namespace {

TEST(StopFilter, FindsAStopStringAcrossPieces) {
  StopFilter filter({"\n\nUser:"});
  EXPECT_EQ(filter.push("Hello.\n"), "Hello.");
  EXPECT_EQ(filter.push("\nUs"), "");
  EXPECT_FALSE(filter.stopped());
  EXPECT_EQ(filter.push("er: more"), "");
  EXPECT_TRUE(filter.stopped());
  EXPECT_EQ(filter.push("and more"), "");
  EXPECT_EQ(filter.finish(), "");
}

TEST(StopFilter, ShowsWhatTurnsOutNotToBeAStopString) {
  StopFilter filter({"aab"});
  EXPECT_EQ(filter.push("xaa"), "x");
  EXPECT_EQ(filter.push("a"), "a");  // "aa" may still become the stop string
  EXPECT_EQ(filter.push("c"), "aac");
  EXPECT_EQ(filter.push("aa"), "");
  EXPECT_EQ(filter.finish(), "aa");
  EXPECT_FALSE(filter.stopped());
}

TEST(StopFilter, WithoutStopStringsNothingWaits) {
  StopFilter filter({});
  EXPECT_EQ(filter.push("caf\u00e9"), "caf\u00e9");
}

// All of a text, in pieces of one byte.
std::string shown_of(const std::string& text, const std::vector<std::string>& stops, LeadingSpace leading) {
  StopFilter filter(stops, leading);
  std::string shown;
  for (const char c : text) shown += filter.push(std::string(1, c));
  return shown + filter.finish();
}

TEST(StopFilter, LeadingSpaceEndsNoTextWhereItIsDropped) {
  const auto dropped = [](const std::string& text, const std::vector<std::string>& stops) {
    const std::string shown = shown_of(text, stops, LeadingSpace::dropped);
    StopFilter whole(stops, LeadingSpace::dropped);
    EXPECT_EQ(whole.push(text) + whole.finish(), shown) << text;
    return shown;
  };
  EXPECT_EQ(dropped("\n\n Paris\nLondon", {"\n"}), "Paris");
  EXPECT_EQ(dropped("Paris \nLondon", {"\n"}), "Paris ");
  EXPECT_EQ(dropped(" \n ", {"\n"}), "");
  EXPECT_EQ(dropped("\n\na\nb\n\nc", {"\n\n"}), "a\nb");
  EXPECT_EQ(dropped("\nQuestion: b", {"\n", "\nQuestion:"}), "")
      << "no white space alone: it counts from the beginning";
  EXPECT_EQ(dropped("\nQuestions\n", {"\n", "\nQuestion:"}), "Questions");
  EXPECT_EQ(dropped(" a", {}), "a");
  EXPECT_EQ(shown_of("\nParis", {"\n"}, LeadingSpace::kept), "");
}

TEST(StopFilter, RefusesWhatCannotBeAStopString) {
  EXPECT_THROW(StopFilter({""}), Error);
  EXPECT_THROW(StopFilter({"\xff"}), Error);
}

// Character by character: the text ends where a stop string is complete first.
std::string reference(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& stop : stops) {
      if (stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0)
        longest = std::max(longest, stop.size());
    }
    if (longest > 0) return text.substr(0, end - longest);
  }
  return text;
}

TEST(StopFilter, DoesNotDependOnHowTheTextIsCut) {
  std::mt19937 random(2);
  const auto text_of = [&](size_t size) {
    std::string out;
    for (size_t i = 0; i < size; ++i) out += static_cast<char>('a' + random() % 3);
    return out;
  };
  for (int round = 0; round < 2000; ++round) {
    const std::string text = text_of(random() % 40);
    std::vector<std::string> stops;
    for (size_t i = 0; i < random() % 4; ++i) stops.push_back(text_of(1 + random() % 6));
    const std::string expected = reference(text, stops);
    StopFilter filter(stops);
    std::string shown;
    for (size_t from = 0; from < text.size();) {
      const size_t size = 1 + random() % 7;
      shown += filter.push(std::string_view(text).substr(from, size));
      ASSERT_TRUE(expected.starts_with(shown)) << "shown too early: " << shown << " of " << text;
      from += size;
    }
    shown += filter.finish();
    ASSERT_EQ(shown, expected) << text;
  }
}

}  // namespace
}  // namespace cepe
