// A device's name.
#pragma once

#include <c10/core/Device.h>

#include <string>

namespace cepe {

// The product name of a CUDA device, such as "NVIDIA H200"; empty for a CPU.
std::string cuda_device_name(const c10::Device& device);

}  // namespace cepe
