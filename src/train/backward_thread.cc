#include "train/backward_thread.h"

#include <ATen/ATen.h>
#include <ATen/ThreadLocalState.h>
#include <c10/core/DeviceGuard.h>

#include <utility>

namespace cepe {

BackwardThread::~BackwardThread() {
  if (pass_.valid()) pass_.wait();
}

void BackwardThread::start(const at::Tensor& loss) {
  pass_ = std::async(std::launch::async, [loss = loss, device = device_, state = at::ThreadLocalState()]() mutable {
    const at::ThreadLocalStateGuard of_caller(state);
    const c10::OptionalDeviceGuard on(device.is_cpu() ? std::nullopt : std::optional(device));
    const at::Tensor own = std::exchange(loss, {});  // the graph goes with the pass
    own.backward();
  });
}

void BackwardThread::wait() {
  if (pass_.valid()) std::exchange(pass_, {}).get();
}

}  // namespace cepe
