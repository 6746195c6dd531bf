// What a CUDA device runs of this build: the one place that decides between kernels made for one generation of GPUs and
// those that every card runs. Kernels of Hopper stand in files of their own, which are compiled for sm_90a alone
// (ops/CMakeLists.txt); a build without that architecture has cuda/no_hopper.cc in their place. No torch here.
#pragma once

namespace cepe::cuda {

struct Capability {
  int major = 0, minor = 0;  // compute capability of the device
  // Architecture that the device's code was compiled for, 80 for 8.0. Less than the device's where the driver
  // translates PTX.
  int compiled = 0;
  int shared_bytes = 0;  // of a block, at most
  // Kernels of wgmma and TMA: the device is of 9.0, and the build has code for sm_90a.
  bool hopper = false;
  // Programmatic dependent launches, and clusters: compiled for 9.0 or later.
  bool dependent_launch = false;
};

// Of a device, or of the current one. Throws Error where the build has no code for it. Any thread.
const Capability& capability(int device);
const Capability& capability();

// Whether this build has kernels for sm_90a.
bool hopper_is_built();

}  // namespace cepe::cuda
