#include "train/step_clock.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <optional>
#include <utility>

#include "base/report.h"

namespace cepe {

namespace {

// Of the kind that knows the time; none of a CPU.
std::optional<c10::Event> timed_event(const c10::Device& device) {
  if (device.is_cpu()) return std::nullopt;
  return std::optional<c10::Event>(std::in_place, device.type(), c10::EventFlag::BACKEND_DEFAULT);
}

}  // namespace

DeviceMoment::DeviceMoment(const c10::Device& device) : event_(timed_event(device)) {
  if (!event_) {
    seconds_ = seconds_now();
    return;
  }
  event_->record(c10::impl::VirtualGuardImpl(device.type()).getStream(device));
}

void DeviceMoment::wait() const {
  if (event_) event_->synchronize();
}

double DeviceMoment::seconds_since(const DeviceMoment& earlier) const {
  if (!event_) return seconds_ - earlier.seconds_;
  return 1e-3 * earlier.event_->elapsedTime(*event_);
}

}  // namespace cepe
