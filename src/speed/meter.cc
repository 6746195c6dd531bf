#include "speed/meter.h"

#include <ATen/DeviceAccelerator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <malloc.h>

#include "base/report.h"

namespace cepe {
namespace {

c10::CachingDeviceAllocator::Stat allocated(const c10::Device& device) {
  const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
  return stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
}

}  // namespace

void wait_for(const c10::Device& device) {
  if (!device.is_cpu()) at::accelerator::synchronizeDevice(device.index());
}

void Meter::start() {
  wait_for(device_);
  if (device_.is_cpu()) {
    malloc_trim(0);  // else freed memory of the work before counts into this one's peak
    reset_peak_resident_bytes();
    held_ = peak_resident_bytes();
  } else {
    c10::getDeviceAllocator(device_.type())->resetPeakStats(device_.index());
    held_ = static_cast<uint64_t>(allocated(device_).current);
  }
  started_ = seconds_now();
}

Cost Meter::stop() {
  wait_for(device_);
  const double seconds = seconds_now() - started_;
  const uint64_t peak = device_.is_cpu() ? peak_resident_bytes() : static_cast<uint64_t>(allocated(device_).peak);
  return {seconds, peak, held_};
}

}  // namespace cepe
