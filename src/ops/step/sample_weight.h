// The arithmetic of a draw (sample.h), for the host and for CUDA kernels.
#pragma once

#include <cstdint>

#include "ops/cuda/host_device.h"

namespace cepe {

constexpr double kSampleWeightOne = 0x1p40;  // the best token's weight

CEPE_HOST_DEVICE constexpr uint64_t sample_bits(uint64_t seed, uint64_t draw) {
  uint64_t z = seed + (draw + 1) * 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}
// The running sum that must be exceeded, below `total`.
CEPE_HOST_DEVICE constexpr uint64_t sample_target(uint64_t seed, uint64_t draw, uint64_t total) {
  const double share = static_cast<double>(sample_bits(seed, draw) >> 11) * 0x1p-53;
  const uint64_t target = static_cast<uint64_t>(share * static_cast<double>(total));
  return target < total ? target : total - 1;
}

}  // namespace cepe
