// Random choices of one sample: a pure function of its key.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <utility>
#include <vector>

#include "base/random.h"

namespace cepe {

class AskRandom {
 public:
  explicit AskRandom(std::initializer_list<uint64_t> key) : random_(key) {}

  int64_t below(int64_t n) { return random_.below(n); }  // 0 .. n-1
  int64_t between(int64_t least, int64_t most) { return least + random_.below(most - least + 1); }
  // Small numbers as often as large ones of each order: the logarithm is uniform. least >= 1.
  int64_t log_between(int64_t least, int64_t most);
  bool chance(double share) { return random_.uniform() < share; }
  // The index of a weight, drawn in proportion; the weights must not all be 0.
  size_t weighted(const std::vector<double>& weights);
  // `count` different numbers below n in random order, all of them where there are fewer.
  std::vector<size_t> distinct(size_t count, size_t n);

  template <typename List>
  const auto& pick(const List& list) {
    return list[static_cast<size_t>(random_.below(static_cast<int64_t>(std::size(list))))];
  }
  template <typename T>
  void shuffle(std::vector<T>& list) {
    for (size_t i = list.size(); i > 1; --i) {
      std::swap(list[i - 1], list[static_cast<size_t>(random_.below(static_cast<int64_t>(i)))]);
    }
  }

 private:
  KeyedRandom random_;
};

}  // namespace cepe
