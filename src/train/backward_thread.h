// A backward pass on a thread of its own, so that the host launches the next batch's forward pass beside it. One at a
// time: gradients are summed in the order of the batches. On a GPU all of it goes to one stream.
#pragma once

#include <ATen/core/Tensor.h>

#include <future>
#include <optional>

namespace cepe {

class BackwardThread {
 public:
  explicit BackwardThread(const at::Device& device) : device_(device) {}
  // Waits; what went wrong and was not asked for by wait() is lost.
  ~BackwardThread();
  BackwardThread(const BackwardThread&) = delete;
  BackwardThread& operator=(const BackwardThread&) = delete;

  // loss.backward(), in the caller's thread-local state (a profiler records it). The one before must have been waited
  // for.
  void start(const at::Tensor& loss);
  // Until the pass is done, on a GPU until it is launched. Throws what it threw. Nothing where none was started.
  void wait();

 private:
  const at::Device device_;
  std::future<void> pass_;
};

}  // namespace cepe
