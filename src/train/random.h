// Random numbers that are a pure function of a key, so that a resumed run needs no generator's state.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace cepe {

// SplitMix64 (Steele, Lea & Flood 2014) started from a hash of the key, for example {seed, step, sample}.
class KeyedRandom {
 public:
  explicit KeyedRandom(std::initializer_list<uint64_t> key) {
    for (uint64_t part : key) state_ = mix(state_ ^ mix(part + kGamma)) + kGamma;
  }
  uint64_t next() { return mix(state_ += kGamma); }
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }  // [0, 1)
  // 0 .. n-1, n >= 1; the bias is below n / 2^64.
  int64_t below(int64_t n) {
    return static_cast<int64_t>(static_cast<unsigned __int128>(next()) * static_cast<uint64_t>(n) >> 64);
  }

 private:
  static constexpr uint64_t kGamma = 0x9E3779B97F4A7C15u;
  static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  uint64_t state_ = 0;
};

}  // namespace cepe
