// Rankings of the same things made one.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace cepe {

// Reciprocal rank fusion (Cormack, Clarke & Buettcher 2009): the score of a number is the sum of 1 / (60 + rank) over
// the rankings that hold it, ranks from 1. Numbers and scores, best first, ties by number.
std::vector<std::pair<int64_t, double>> fuse_rankings(const std::vector<std::vector<int64_t>>& rankings);

}  // namespace cepe
