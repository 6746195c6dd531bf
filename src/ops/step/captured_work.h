// Work that is repeated on the same tensors: on a CUDA device its kernels are recorded once as a graph and from then on
// started together, which costs the host one call instead of hundreds.
#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <memory>

namespace cepe {

class CapturedWork {
 public:
  // work: the same operations on the same memory at every call, without anything that waits for the device. What it
  // reads and writes must outlive this object, and stay where it is. graph: false, or a CPU: every run calls it.
  CapturedWork(const c10::Device& device, bool graph, std::function<void()> work);
  ~CapturedWork();

  // In order with the device's current stream. With a graph the first run calls the work, which lets libraries load and
  // allocate what they need; the second records it; later ones start what was recorded.
  void run();

 private:
  struct Graph;
  std::function<void()> work_;
  std::unique_ptr<Graph> graph_;  // null: none
};

}  // namespace cepe
