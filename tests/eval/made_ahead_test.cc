#include "eval/made_ahead.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>

#include "base/error.h"

namespace cepe {
namespace {

using namespace std::chrono_literals;

TEST(MadeAhead, GivesThingsInTheirOrder) {
  MadeAhead<int64_t> ahead(10, 200,
                           [](int64_t index) {
                             if (index % 7 == 0) std::this_thread::sleep_for(1ms);
                             return index * index;
                           },
                           {4, 9});
  for (int64_t index = 10; index < 200; ++index) ASSERT_EQ(ahead.take(), index * index);
}

TEST(MadeAhead, MakesNoMoreThanItIsAllowed) {
  std::atomic<int64_t> made = 0;
  MadeAhead<int64_t> ahead(0, 100, [&](int64_t index) { return ++made, index; }, {3, 5});
  for (int i = 0; i < 1000 && made < 5; ++i) std::this_thread::sleep_for(1ms);
  std::this_thread::sleep_for(20ms);
  EXPECT_EQ(made, 5);
  ahead.take();
  for (int i = 0; i < 1000 && made < 6; ++i) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(made, 6);
}

TEST(MadeAhead, AnErrorComesInItsPlace) {
  MadeAhead<int64_t> ahead(0, 10,
                           [](int64_t index) {
                             require(index != 3, "number {}", index);
                             return index;
                           },
                           {2, 4});
  for (int64_t index = 0; index < 3; ++index) EXPECT_EQ(ahead.take(), index);
  EXPECT_THROW(ahead.take(), Error);
  EXPECT_EQ(ahead.take(), 4);
}

TEST(MadeAhead, ThreadsWorkAtOnce) {
  std::atomic<int64_t> inside = 0, most = 0;
  MadeAhead<int64_t> ahead(0, 16,
                           [&](int64_t index) {
                             const int64_t now = ++inside;
                             for (int64_t seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
                             }
                             std::this_thread::sleep_for(5ms);
                             --inside;
                             return index;
                           },
                           {4, 16});
  for (int64_t index = 0; index < 16; ++index) ahead.take();
  EXPECT_GT(most, 1);
}

}  // namespace
}  // namespace cepe
