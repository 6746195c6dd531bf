#include "train/step_clock.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include "base/report.h"

namespace cepe {

DeviceMoment::DeviceMoment(const c10::Device& device) {
  if (device.is_cpu()) {
    seconds_ = seconds_now();
    return;
  }
  const c10::impl::VirtualGuardImpl guard(device.type());
  event_.emplace(device.type(), c10::EventFlag::BACKEND_DEFAULT);  // the kind that knows the time
  event_->record(guard.getStream(device));
}

void DeviceMoment::wait() const {
  if (event_) event_->synchronize();
}

double DeviceMoment::seconds_since(const DeviceMoment& earlier) const {
  if (!event_) return seconds_ - earlier.seconds_;
  return 1e-3 * earlier.event_->elapsedTime(*event_);
}

}  // namespace cepe
