// What tests with the label gpu start from.
#pragma once

#include <ATen/cuda/CUDAContext.h>

#include "base/error.h"

namespace cepe {

// These tests run only where someone asks for them (ctest -L gpu), so a missing device is a failure: a run in which all
// were left out would look like one in which all passed.
inline void require_cuda() {
  require(at::cuda::is_available(), "tests with the label gpu: a CUDA device is needed, found none");
}

}  // namespace cepe
