// Which samples of the shards of samples (data.ask) a step takes: without replacement, each once an epoch, every epoch
// in an order of its own. Every answer is a pure function of its arguments and the seed. No torch here.
#pragma once

#include "train/samples/sample.h"

namespace cepe {

class SampleSampler {
 public:
  struct Options {
    double samples_per_step = 0;  // any number above 0: steps take so many in the mean
    float weight = 1;             // factor on the samples' weights
    uint64_t seed = 1;
    // "recall=2": how often an epoch takes a sample of the domain, any number of at least 0; others once.
    std::vector<std::string> domain_weights;
  };
  // The corpus must outlive the sampler.
  SampleSampler(const Corpus& corpus, const Options& options);

  // How many a step takes: samples_per_step rounded down or up, so that after any number of steps the sum is within
  // one of its mean. A whole number is taken exactly.
  int64_t count(int64_t step) const;
  // The document (index into Corpus::documents) of the i-th of them, and the sample itself.
  int64_t choose(int64_t step, int64_t i) const;
  Sample draw(int64_t step, int64_t i) const { return read_sample(corpus_, choose(step, i), options_.weight); }

 private:
  int64_t before(int64_t step) const;  // samples of all steps before it

  const Corpus& corpus_;
  Options options_;
  std::vector<int64_t> order_;  // documents of an epoch, where some are taken more or less often than once
  double phase_;  // systematic rounding: a step's count changes where step * samples_per_step + phase passes a whole
};

// The n-th of a permutation of 0 .. count - 1 that the key chooses, without a table.
int64_t permuted(int64_t n, int64_t count, uint64_t key);

}  // namespace cepe
