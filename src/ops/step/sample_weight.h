// The arithmetic of a draw (sample.h), for the host and for CUDA kernels, which call constexpr functions.
#pragma once

#include <cstdint>

#include "base/random.h"

namespace cepe {

constexpr double kSampleWeightOne = 0x1p40;  // the best token's weight

// The running sum that the draw-th choice of `seed` must exceed, below `total`.
constexpr uint64_t sample_target(uint64_t seed, uint64_t draw, uint64_t total) {
  const double share = unit_interval(splitmix64(seed, draw));
  const uint64_t target = static_cast<uint64_t>(share * static_cast<double>(total));
  return target < total ? target : total - 1;
}

}  // namespace cepe
