// Gradients that are summed over ranks while backward still computes others: tensors whose averages one rank keeps
// travel together, in the order in which backward is done with them. The first rank sees that order in its first step
// and tells it to the others; until then the last of the list go first.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "train/ranks/collectives.h"

namespace cepe {

// Which rank keeps each of so many numbers: ranges of the list, about as much for each rank; rank 0 keeps the first.
std::vector<int64_t> owners_of(const std::vector<at::Tensor>& parameters, int64_t ranks);

class GradientBuckets {
 public:
  // Parameters: float32 leaves, alike on all ranks. A hook stays on each as long as the object lives.
  // bucket_numbers: how many numbers travel together at least, where one rank keeps so many.
  GradientBuckets(std::vector<at::Tensor> parameters, std::vector<int64_t> owners, Collectives& ranks,
                  int64_t bucket_numbers = kBucketNumbers);
  ~GradientBuckets();
  GradientBuckets(const GradientBuckets&) = delete;
  GradientBuckets& operator=(const GradientBuckets&) = delete;

  // The next backward() is the step's last on this rank: a bucket leaves as soon as its gradients are complete and
  // those before it have left.
  void expect_last_backward() { last_ = true; }
  // Sends what has not left; a gradient that is not there counts as zeros. Must come before whatever else ranks
  // exchange.
  void send_rest();
  // Sends the rest as well, waits, and drops all gradients.
  // -> of each parameter that this rank keeps, in order, the sum over ranks.
  std::vector<at::Tensor> take_sums();
  // Gives the others the values of the parameters that this rank keeps.
  void share_parameters();

  static constexpr int64_t kBucketNumbers = 8 << 20;  // 32 MiB

 private:
  struct Bucket {
    int64_t owner = 0;
    std::vector<size_t> parameters;  // in the order in which backward is done with them
    size_t last = 0;                 // the place in that order of the last of them
    int64_t numbers = 0;
    size_t missing = 0;  // gradients that the last backward has not completed
    at::Tensor flat;
    std::unique_ptr<Collectives::Work> work;
  };
  class Hook;
  void fill_buckets(const std::vector<int64_t>& order);
  void learn_order();
  void completed(size_t parameter);
  void send_next();
  void take_parameters(Bucket& bucket);
  at::Tensor packed(const Bucket& bucket, bool gradients) const;
  std::vector<at::Tensor> pieces(const Bucket& bucket) const;

  std::vector<at::Tensor> parameters_;
  const std::vector<int64_t> owners_;
  Collectives& ranks_;
  const int64_t bucket_numbers_;
  std::vector<Bucket> buckets_;
  std::vector<size_t> bucket_of_;
  size_t next_ = 0;  // bucket to leave
  bool last_ = false;
  bool order_is_known_ = false;
  std::vector<int64_t> completed_;  // of a step's last backward, until the order is known
};

}  // namespace cepe
