#include "speed/meter.h"

#include <ATen/DeviceAccelerator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <malloc.h>

#include "base/report.h"

namespace cepe {

void wait_for(const c10::Device& device) {
  if (!device.is_cpu()) at::accelerator::synchronizeDevice(device.index());
}

void Meter::start() {
  wait_for(device_);
  if (device_.is_cpu()) {
    malloc_trim(0);  // else freed memory of the work before counts into this one's peak
    reset_peak_resident_bytes();
  } else {
    c10::getDeviceAllocator(device_.type())->resetPeakStats(device_.index());
  }
  started_ = seconds_now();
}

Cost Meter::stop() {
  wait_for(device_);
  Cost cost{seconds_now() - started_, 0};
  if (device_.is_cpu()) {
    cost.peak_bytes = peak_resident_bytes();
  } else {
    const auto stats = c10::getDeviceAllocator(device_.type())->getDeviceStats(device_.index());
    cost.peak_bytes = static_cast<uint64_t>(
        stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak);
  }
  return cost;
}

}  // namespace cepe
