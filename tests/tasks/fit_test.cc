// The search for the most units is compared with trying all of them.
#include "tasks/fit.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"

namespace cepe {
namespace {

int64_t by_trying(int64_t budget, const GrowingText& text) {
  int64_t best = -1;
  for (int64_t n = text.least; n <= text.most && text.tokens(n) <= budget; ++n) best = n;
  return best;
}

TEST(MostUnitsWithin, EqualsTryingAllOfThem) {
  const std::vector<std::function<int64_t(int64_t)>> growths = {
      [](int64_t n) { return 30 + 7 * n; },
      [](int64_t n) { return 12 + n; },
      [](int64_t n) { return 100 + 130 * n + 40 * ((n * 2654435761) % 3); },                  // unequal units
      [](int64_t n) { return 5 + n / 4; },                                                    // steps
      [](int64_t n) { return static_cast<int64_t>(std::pow(static_cast<double>(n), 1.3)); },  // not linear
      [](int64_t n) { return 3 + (n < 50 ? n : 50 + 40 * (n - 50)); },                        // a bend
  };
  for (size_t g = 0; g < growths.size(); ++g) {
    for (const int64_t least : {0, 1, 4}) {
      for (const int64_t most : {4, 60, 3000}) {
        for (int64_t budget = 0; budget < 2000; budget += 37) {
          const GrowingText text{least, most, growths[g]};
          EXPECT_EQ(most_units_within(budget, text), by_trying(budget, text))
              << "growth " << g << ", least " << least << ", most " << most << ", budget " << budget;
        }
      }
    }
  }
}

TEST(MostUnitsWithin, AsksForFewTextsAndNoneFarBeyondTheBudget) {
  int64_t asked = 0, longest = 0;
  const GrowingText text{1, int64_t{1} << 24, [&](int64_t n) {
                           ++asked;
                           const int64_t tokens = 140 + 21 * n + (n % 7);
                           longest = std::max(longest, tokens);
                           return tokens;
                         }};
  const int64_t units = most_units_within(1'000'000, text);
  EXPECT_LE(140 + 21 * units + units % 7, 1'000'000);
  EXPECT_GT(140 + 21 * (units + 1) + (units + 1) % 7, 1'000'000);
  EXPECT_LE(asked, 15);
  EXPECT_LT(longest, 1'050'000);
}

TEST(MostUnitsWithin, RefusesBoundsWithoutSense) {
  const auto tokens = [](int64_t n) { return n; };
  EXPECT_THROW(most_units_within(1, {2, 1, tokens}), Error);
  EXPECT_THROW(most_units_within(1, {-1, 1, tokens}), Error);
  EXPECT_EQ(most_units_within(1, {2, 5, tokens}), -1);
}

}  // namespace
}  // namespace cepe
