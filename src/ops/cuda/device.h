// A device's name, and who else may use the device.
#pragma once

#include <c10/core/Device.h>

#include <string>

namespace cepe {

// The product name of a CUDA device, such as "NVIDIA H200"; empty for a CPU.
std::string cuda_device_name(const c10::Device& device);

// Whether no other process can use the device while this one does: its compute mode is exclusive-process
// (`nvidia-smi -c EXCLUSIVE_PROCESS`), and it is not shared through MPS, whose server would be that one process. False
// for a CPU, and where CUDA does not tell.
bool device_is_exclusive(const c10::Device& device);

// Why kernels that are made of Hopper's instructions, GEMV chains among them, do not run on this device, as the end of
// a sentence; empty where they do (capability.h).
std::string hopper_refusal(const c10::Device& device);

}  // namespace cepe
