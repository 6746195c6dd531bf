// Marks a function that both the host's compiler and nvcc's device code call: plain C++ for the former.
#pragma once

#ifdef __CUDACC__
#define CEPE_HOST_DEVICE __host__ __device__
#else
#define CEPE_HOST_DEVICE
#endif
