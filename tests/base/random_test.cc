#include "base/random.h"

#include <gtest/gtest.h>

#include <map>

namespace cepe {
namespace {

// The first numbers of the published C code (Vigna, splitmix64.c) from seed 1234567.
TEST(Random, SplitMix64GivesThePublishedNumbers) {
  const uint64_t published[] = {6457827717110365317u, 3203168211198807973u, 9817491932198370423u, 4593380528125082431u,
                                16408922859458223821u};
  for (uint64_t n = 0; n < std::size(published); ++n) EXPECT_EQ(splitmix64(1234567, n), published[n]);
}

// Recorded runs depend on these draws.
TEST(Random, KeyedNumbersStayWhatTheyWere) {
  KeyedRandom random({1, 2, 3});
  for (const uint64_t drawn : {9539138919347097335u, 1045825318788983494u, 5619236874143002421u}) {
    EXPECT_EQ(random.next(), drawn);
  }
}

TEST(Random, UniformAndBelowStayInTheirRanges) {
  KeyedRandom random({42});
  std::map<int64_t, int> counts;
  double sum = 0;
  for (int i = 0; i < 7000; ++i) {
    ++counts[random.below(7)];
    const double x = random.uniform();
    ASSERT_GE(x, 0);
    ASSERT_LT(x, 1);
    sum += x;
  }
  EXPECT_EQ(counts.size(), 7u);
  for (const auto& [value, count] : counts) EXPECT_NEAR(count, 1000, 150) << value;  // 5 standard deviations
  EXPECT_NEAR(sum / 7000, 0.5, 0.02);
  EXPECT_LT(unit_interval(~uint64_t{0}), 1.0);
}

}  // namespace
}  // namespace cepe
