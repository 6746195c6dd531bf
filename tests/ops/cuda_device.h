// What tests with the label gpu start from.
#pragma once

#include <ATen/cuda/CUDAContext.h>

#include "base/error.h"
#include "ops/cuda/capability.h"

namespace cepe {

// These tests run only where someone asks for them (ctest -L gpu), so a missing device is a failure: a run in which all
// were left out would look like one in which all passed.
inline void require_cuda() {
  require(at::cuda::is_available(), "tests with the label gpu: a CUDA device is needed, found none");
}

// Whether the kernels of Hopper run here; on other cards, and in builds without code for sm_90a, other kernels or
// LibTorch's operations compute the same.
inline bool hopper_kernels_run() { return cuda::capability().hopper; }

}  // namespace cepe
