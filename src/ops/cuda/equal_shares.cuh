// Work that stands in one row and is cut into equal shares, one for each of those that take it: the first of them take
// one unit more where it does not divide.
#pragma once

#include <cuda_runtime.h>

namespace cepe::cuda {

struct EqualShares {
  int share = 0, longer = 0;  // units of a share; of the first `longer` shares one more

  static EqualShares of(int units, int takers) { return {units / takers, units % takers}; }
  __host__ __device__ int begin(int taker) const { return taker * share + min(taker, longer); }
  // Who has this unit.
  __host__ __device__ int taker_of(int unit) const {
    const int in_longer = longer * (share + 1);
    return unit < in_longer ? unit / (share + 1) : longer + (unit - in_longer) / share;
  }
};

}  // namespace cepe::cuda
