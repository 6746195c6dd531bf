// Stream-K's division of work: the units of all tiles stand in one row that is cut into equal shares, one for each
// block that takes one. Where the division leaves a rest, the first shares have one unit more. (Osama et al. 2023,
// arXiv 2301.03598)
#pragma once

#include "ops/cuda/host_device.h"

namespace cepe::cuda {

struct EqualShares {
  int share = 0, longer = 0;  // units of a share; the first `longer` shares have one more

  // units >= 0, takers >= 1.
  static CEPE_HOST_DEVICE constexpr EqualShares of(int units, int takers) { return {units / takers, units % takers}; }
  // The first unit of a taker's share, and one past the last of the taker before. taker 0 .. takers
  CEPE_HOST_DEVICE constexpr int begin(int taker) const { return taker * share + (taker < longer ? taker : longer); }
  // Whose share a unit is in. unit 0 .. units - 1
  CEPE_HOST_DEVICE constexpr int taker_of(int unit) const {
    const int in_longer = longer * (share + 1);
    return unit < in_longer ? unit / (share + 1) : longer + (unit - in_longer) / share;
  }
};

}  // namespace cepe::cuda
