// Stream-K's division of work (Osama et al. 2023, arXiv 2301.03598): the units of all tiles are one sequence that is
// cut into equal shares, one for each taker (a CTA or a cluster). Where the division leaves a remainder, the first
// shares have one unit more.
#pragma once

namespace cepe::cuda {

struct EqualShares {
  int share = 0, longer = 0;  // units of a share; the first `longer` shares have one more

  // units >= 0, takers >= 1.
  static constexpr EqualShares of(int units, int takers) { return {units / takers, units % takers}; }
  // The first unit of a taker's share, which is one past the last unit of the preceding taker. taker 0 .. takers
  constexpr int begin(int taker) const { return taker * share + (taker < longer ? taker : longer); }
  // The taker whose share holds a unit. unit 0 .. units - 1
  constexpr int taker_of(int unit) const {
    const int in_longer = longer * (share + 1);
    return unit < in_longer ? unit / (share + 1) : longer + (unit - in_longer) / share;
  }
};

}  // namespace cepe::cuda
