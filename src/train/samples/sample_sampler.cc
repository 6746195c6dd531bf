#include "train/samples/sample_sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/error.h"
#include "base/random.h"

namespace cepe {
namespace {

constexpr uint64_t kPhaseStream = 0x7068617365, kEpochStream = 0x65706F6368;
constexpr uint64_t kRounds = 6;
constexpr double kMostTimes = 100;  // that an epoch takes a sample

}  // namespace

// A Feistel network on an even number of bits is a permutation of all numbers of that many bits; walking along its
// cycle until a number falls below `count` makes it one of those (Black & Rogaway 2002, "Ciphers with arbitrary finite
// domains"). The domain is below 4 count + 4, so that few steps do.
int64_t permuted(int64_t n, int64_t count, uint64_t key) {
  require(n >= 0 && n < count, "permutation: number {} of {}", n, count);
  const int half = (std::bit_width(static_cast<uint64_t>(count)) + 1) / 2;
  const uint64_t mask = (uint64_t{1} << half) - 1;
  uint64_t value = static_cast<uint64_t>(n);
  do {
    uint64_t left = value >> half, right = value & mask;
    for (uint64_t round = 0; round < kRounds; ++round) {
      const uint64_t next = left ^ (splitmix64(key ^ right, round) & mask);
      left = right;
      right = next;
    }
    value = left << half | right;
  } while (value >= static_cast<uint64_t>(count));
  return static_cast<int64_t>(value);
}

SampleSampler::SampleSampler(const Corpus& corpus, const Options& options)
    : corpus_(corpus), options_(options), phase_(KeyedRandom({options.seed, kPhaseStream}).uniform()) {
  require(options.samples_per_step > 0, "{} samples a step", options.samples_per_step);
  if (options.domain_weights.empty()) return;
  const std::vector<double> weights = weights_of_domains(corpus, options.domain_weights, "data.ask_weights");
  for (const double weight : weights)
    require(weight <= kMostTimes, "data.ask_weights: a weight of {}, at most {} is possible", weight, kMostTimes);
  std::vector<double> due(weights.size(), 0);  // of each domain's documents so far, less those that were taken
  for (size_t i = 0; i < corpus.documents.size(); ++i) {
    const auto domain = static_cast<size_t>(corpus.documents[i].domain);
    for (due[domain] += weights[domain]; due[domain] >= 1; due[domain] -= 1) order_.push_back(static_cast<int64_t>(i));
  }
  require(!order_.empty(), "data.ask_weights: no sample is left");
}

int64_t SampleSampler::count(int64_t step) const {
  const auto most = static_cast<int64_t>(std::ceil(options_.samples_per_step));
  return std::clamp<int64_t>(before(step + 1) - before(step), 0, most);
}

int64_t SampleSampler::before(int64_t step) const {
  const auto whole = static_cast<int64_t>(options_.samples_per_step);
  if (static_cast<double>(whole) == options_.samples_per_step) return step * whole;  // the sum below may round up
  return static_cast<int64_t>(std::floor(static_cast<double>(step) * options_.samples_per_step + phase_));
}

int64_t SampleSampler::choose(int64_t step, int64_t i) const {
  const auto count = static_cast<int64_t>(order_.empty() ? corpus_.documents.size() : order_.size());
  const int64_t ordinal = before(step) + i;
  const uint64_t epoch = static_cast<uint64_t>(ordinal / count);
  const int64_t chosen = permuted(ordinal % count, count, KeyedRandom({options_.seed, kEpochStream, epoch}).next());
  return order_.empty() ? chosen : order_[static_cast<size_t>(chosen)];
}

}  // namespace cepe
