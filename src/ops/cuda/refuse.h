// The error of a CUDA kernel's host code. It stands apart from base/error.h, because nvcc 13 cannot compile the fmt
// that base/error.h stands on.
#pragma once

namespace cepe::cuda {

// Throws Error: "CUDA kernel <kernel>: <reason>".
[[noreturn]] void refuse(const char* kernel, const char* reason);

}  // namespace cepe::cuda
