// Work dealt in pieces: each piece once, by whoever is free.
#include "ops/pieces.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

namespace cepe {
namespace {

class Pieces : public testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(2); }
  void TearDown() override { at::set_num_threads(before_); }
  const int before_ = at::get_num_threads();
};

TEST_F(Pieces, EachIsDoneOnce) {
  for (const int64_t count : {0, 1, 2, 100}) {
    std::vector<std::atomic<int>> done(static_cast<size_t>(count));
    in_pieces(count, [&](int64_t i) { ++done[static_cast<size_t>(i)]; });
    for (const auto& times : done) EXPECT_EQ(times, 1);
  }
}

// The first piece lasts until the other thread has done all others.
TEST_F(Pieces, NobodyWaitsForASlowOne) {
  std::atomic<int> done = 0;
  bool all = false;
  in_pieces(20, [&](int64_t i) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (i == 0 && done < 19 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    if (i == 0) all = done == 19;
    ++done;
  });
  EXPECT_TRUE(all);
}

TEST_F(Pieces, AnExceptionComesOut) {
  const auto work = [](int64_t i) {
    if (i == 3) throw std::runtime_error("three");
  };
  EXPECT_THROW(in_pieces(10, work), std::runtime_error);
}

}  // namespace
}  // namespace cepe
