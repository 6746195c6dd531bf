#include "ops/cuda/capability.h"

// Stands among the kernels of sm_90a (ops/CMakeLists.txt); a build without them has no_hopper.cc.
bool cepe::cuda::hopper_is_built() { return true; }
