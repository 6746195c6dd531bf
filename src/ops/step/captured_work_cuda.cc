#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>

#include <map>

#include "ops/step/captured_work.h"

namespace cepe {
namespace {

// One stream a device and thread for all captures: cuBLAS keeps a workspace for every stream that it was used on.
at::cuda::CUDAStream capture_stream(c10::DeviceIndex device) {
  thread_local std::map<c10::DeviceIndex, at::cuda::CUDAStream> streams;
  const auto known = streams.find(device);
  if (known != streams.end()) return known->second;
  return streams.emplace(device, at::cuda::getStreamFromPool(/*isHighPriority=*/false, device)).first->second;
}

void order(const at::cuda::CUDAStream& before, const at::cuda::CUDAStream& after) {
  at::cuda::CUDAEvent event;
  event.record(before);
  event.block(after);
}

}  // namespace

struct CapturedWork::Graph {
  explicit Graph(const c10::Device& device) : device(device) {}

  // Calls f on the capture stream, after what the current one has and before what it gets.
  void aside(const std::function<void()>& f) const {
    const at::cuda::CUDAStream current = at::cuda::getCurrentCUDAStream(device.index());
    const at::cuda::CUDAStream side = capture_stream(device.index());
    order(current, side);
    {
      const c10::cuda::CUDAStreamGuard guard(side);
      f();
    }
    order(side, current);
  }

  void capture(const std::function<void()>& work) {
    // Other threads may allocate meanwhile.
    graph.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    try {
      work();
    } catch (...) {
      try {
        graph.capture_end();
      } catch (...) {  // the first error is the one that tells
      }
      throw;
    }
    graph.capture_end();
  }

  void run(const std::function<void()>& work) {
    const c10::cuda::CUDAGuard guard(device);
    if (!warm) {
      aside(work);
      warm = true;
      return;
    }
    if (!captured) {
      aside([&] { capture(work); });
      captured = true;
    }
    graph.replay();
  }

  c10::Device device;
  at::cuda::CUDAGraph graph;
  bool warm = false, captured = false;
};

CapturedWork::CapturedWork(const c10::Device& device, bool graph, std::function<void()> work) : work_(std::move(work)) {
  if (graph && device.is_cuda()) graph_ = std::make_unique<Graph>(device);
}

CapturedWork::~CapturedWork() = default;

void CapturedWork::run() { graph_ ? graph_->run(work_) : work_(); }

}  // namespace cepe
