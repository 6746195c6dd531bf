// AdamW on whole lists of tensors at once (Loshchilov & Hutter 2019, arXiv 1711.05101), with clipping of the gradient's
// global norm. Nothing here waits for the device.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace cepe {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double weight_decay = 0.0;  // p -= lr * weight_decay * p, of tensors with two or more dimensions
  double clip = 1.0;          // the gradient is divided by max(1, norm / clip); 0: never
};

// The state, for checkpoints: exponential averages in the order of the parameters, and the number of updates.
struct OptimizerState {
  std::vector<at::Tensor> averages, square_averages;
  at::Tensor updates;  // float32 scalar
};

class AdamW {
 public:
  // Parameters: float32 leaves that require a gradient, on one device. Their storage is updated in place.
  AdamW(std::vector<at::Tensor> parameters, const AdamWOptions& options);

  // One update with the gradients that backward() has left, which are then dropped; a parameter without one counts as
  // having zeros. When the gradient's norm is not finite nothing is changed. Returns the norm before clipping: a
  // float32 scalar on the device.
  at::Tensor step(double learning_rate);

  // The two halves of a step, for who has more to say about the norm. take_gradients: in the order of the parameters.
  std::vector<at::Tensor> take_gradients();
  // norm: of the whole gradient; finite: bool, false changes nothing. Both scalars on the device.
  void update(const std::vector<at::Tensor>& gradients, const at::Tensor& norm, const at::Tensor& finite,
              double learning_rate);

  OptimizerState& state() { return state_; }  // on the device

 private:
  // What the groups of one step share.
  struct Step {
    std::vector<at::Tensor> gradients;
    at::Tensor scale, skip;
    double learning_rate = 0;
  };
  void update(const std::vector<size_t>& group, const Step& step, double weight_decay);

  AdamWOptions options_;
  std::vector<at::Tensor> parameters_;
  OptimizerState state_;
  std::vector<size_t> decayed_, plain_;  // indices of the parameters with and without weight decay
};

}  // namespace cepe
