// AdamW over ranks, its state sharded (ZeRO stage 1; Rajbhandari et al. 2020, arXiv 1910.02054): each rank keeps the
// averages of about as many weights. Gradients are summed to the rank that keeps a tensor, which updates it and gives
// the new values to the others. A single rank keeps everything and is plain AdamW, bit for bit.
#pragma once

#include <memory>
#include <optional>

#include "train/optimizer.h"
#include "train/ranks/gradient_buckets.h"

namespace cepe {

class ShardedOptimizer {
 public:
  // Parameters: float32 leaves that require a gradient, alike on all ranks, on the ranks' device. `ranks` must outlive
  // the object.
  ShardedOptimizer(std::vector<at::Tensor> parameters, const AdamWOptions& options, Collectives& ranks);

  // Says that the next backward() is the step's last on this rank, so that gradients may leave while it computes.
  void expect_last_backward();
  // Says that it is over, or that there was none: all gradients leave. Before ranks exchange anything else, and step().
  void backward_is_done();
  // One update with the gradients that backward() has left on all ranks. Nothing is changed where the gradient's norm
  // or the loss, a scalar that is alike on all ranks, is not finite. Returns the norm before clipping: float32 on the
  // device. Does not wait for a GPU.
  at::Tensor step(double learning_rate, const at::Tensor& loss);

  // All of the state, for checkpoints; all ranks call it. On a single rank it is the state itself, which can be written
  // into. Of several ranks the first has a copy on the CPU, the others nothing.
  OptimizerState state();
  // Where the first rank puts all of a state before load(): of a single rank the state itself, of several a copy on the
  // CPU; elsewhere nothing.
  OptimizerState place_for_state();
  // Takes the first rank's weights, and the state that was put into its place, everywhere; all ranks call it.
  void load(const OptimizerState& state);

 private:
  OptimizerState empty_state() const;  // whole, on the CPU

  Collectives& ranks_;
  std::vector<at::Tensor> parameters_;
  std::vector<int64_t> owners_;
  std::optional<AdamW> own_;                  // of the parameters that this rank keeps; none: it keeps none
  std::unique_ptr<GradientBuckets> buckets_;  // of several ranks
};

}  // namespace cepe
