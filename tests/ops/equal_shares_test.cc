#include "ops/cuda/equal_shares.h"

#include <gtest/gtest.h>

#include <vector>

namespace cepe::cuda {
namespace {

// Every unit is dealt once, to the taker that taker_of() names, and shares differ by one unit at most, whatever the
// numbers: up to more takers than a GPU has multiprocessors, and up to some units for each of them.
TEST(EqualShares, DealEveryUnitOnceForAllSmallNumbers) {
  for (int takers = 1; takers <= 160; ++takers) {
    for (int units = 0; units <= 3 * takers + 2; ++units) {
      const EqualShares shares = EqualShares::of(units, takers);
      std::vector<int> taken(static_cast<size_t>(units), 0);
      for (int taker = 0; taker < takers; ++taker) {
        const int begin = shares.begin(taker), end = shares.begin(taker + 1);
        ASSERT_GE(end - begin, units / takers) << units << " units, " << takers << " takers, taker " << taker;
        ASSERT_LE(end - begin, units / takers + 1) << units << " units, " << takers << " takers, taker " << taker;
        for (int unit = begin; unit < end; ++unit) {
          ++taken.at(static_cast<size_t>(unit));
          ASSERT_EQ(shares.taker_of(unit), taker) << units << " units, " << takers << " takers, unit " << unit;
        }
      }
      ASSERT_EQ(taken, std::vector<int>(static_cast<size_t>(units), 1)) << units << " units, " << takers << " takers";
    }
  }
}

}  // namespace
}  // namespace cepe::cuda
