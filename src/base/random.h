// SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"): random numbers that are a
// pure function of a seed or key, so that no generator's state has to be kept. All functions are constexpr, which CUDA
// kernels may call too. Stored seeds and recorded runs depend on these numbers: they must never change.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace cepe {

constexpr uint64_t kSplitMix64Step = 0x9E3779B97F4A7C15u;

// The finaliser: a bijection of 64 bits.
constexpr uint64_t splitmix64_mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// The n-th number, from 0, of the generator that starts at `seed`.
constexpr uint64_t splitmix64(uint64_t seed, uint64_t n = 0) {
  return splitmix64_mix(seed + (n + 1) * kSplitMix64Step);
}

// A number in [0, 1) from 64 random bits, of which the highest 53 count.
constexpr double unit_interval(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

// SplitMix64 started from a hash of the key, for example {seed, step, sample}.
class KeyedRandom {
 public:
  explicit KeyedRandom(std::initializer_list<uint64_t> key) {
    for (uint64_t part : key) state_ = splitmix64_mix(state_ ^ splitmix64(part)) + kSplitMix64Step;
  }
  uint64_t next() { return splitmix64_mix(state_ += kSplitMix64Step); }
  double uniform() { return unit_interval(next()); }  // [0, 1)
  // 0 .. n-1, n >= 1; the bias is below n / 2^64.
  int64_t below(int64_t n) {
    return static_cast<int64_t>(static_cast<unsigned __int128>(next()) * static_cast<uint64_t>(n) >> 64);
  }

 private:
  uint64_t state_ = 0;
};

}  // namespace cepe
