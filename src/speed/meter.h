// What a piece of work costs: seconds and peak memory.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>

namespace cepe {

struct Cost {
  double seconds = 0;
  uint64_t peak_bytes = 0;
  uint64_t held_bytes = 0;  // before the work began
  uint64_t working_bytes() const { return peak_bytes > held_bytes ? peak_bytes - held_bytes : 0; }
};

// Returns once all work on the device has ended; a CPU's has ended already.
void wait_for(const c10::Device& device);

// Measures one piece of work after another on a device. Peak memory is, on a CPU, the process's resident high-water
// mark, reset at start() after memory that the allocator keeps is given back; on a GPU, what tensors occupied at most.
// Where the kernel lets no mark be reset, nothing seems to be needed beyond what is held.
class Meter {
 public:
  explicit Meter(c10::Device device) : device_(device) {}
  void start();
  Cost stop();  // waits for the device

 private:
  c10::Device device_;
  double started_ = 0;
  uint64_t held_ = 0;
};

}  // namespace cepe
