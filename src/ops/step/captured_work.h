// Work that is repeated on the same tensors. On a CUDA device its kernels are recorded once as a CUDA graph, which the
// host then launches with one call instead of hundreds.
#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <memory>

namespace cepe {

class CapturedWork {
 public:
  // work: the same operations on the same memory at every call; it never waits for the device. The memory that it reads
  // and writes must outlive this object at the same addresses. Without graph, and on a CPU, every run() calls work.
  CapturedWork(const c10::Device& device, bool graph, std::function<void()> work);
  ~CapturedWork();

  // Ordered on the device's current stream. With a graph the first run calls work, so that libraries load and allocate;
  // the second records it; later runs launch the graph.
  void run();

 private:
  struct Graph;
  std::function<void()> work_;
  std::unique_ptr<Graph> graph_;  // null: none
};

}  // namespace cepe
