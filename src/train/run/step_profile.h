// A recording of a few steps by LibTorch's profiler (Kineto), as a Chrome trace: every operation on the host's threads
// and, on a GPU, every kernel and copy. chrome://tracing, ui.perfetto.dev and TensorBoard's profile plugin read it.
#pragma once

#include <ATen/record_function.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <filesystem>
#include <optional>

namespace cepe {

struct StepProfileOptions {
  std::filesystem::path directory;  // the trace's
  int64_t after = 0;                // steps before the first that is recorded
  int64_t steps = 0;                // that are recorded; 0: none
  at::Device device = at::kCPU;     // of a GPU the kernels are recorded too
};

// Called by the thread that trains. Threads that it starts or hands work to are recorded where they carry its
// at::ThreadLocalState, as autograd's do.
class StepProfile {
 public:
  explicit StepProfile(StepProfileOptions options) : options_(std::move(options)) {}
  // Ends a recording that is under way, without a file.
  ~StepProfile();
  StepProfile(const StepProfile&) = delete;
  StepProfile& operator=(const StepProfile&) = delete;

  // step: 0 for the first of the run; steps follow each other. In the trace step 0 is called ProfilerStep#1.
  void begin(int64_t step);
  // After the last step that is recorded: waits for the device and writes the trace. Returns its file, else an empty
  // path. Error when the file cannot be written.
  std::filesystem::path end();
  // Where the steps from `first` on go, "DIRECTORY/steps-FIRST-LAST.pt.trace.json".
  static std::filesystem::path file_of(const StepProfileOptions& options, int64_t first);

 private:
  const StepProfileOptions options_;
  int64_t seen_ = 0, first_ = 0;  // steps that began; the first that is recorded
  bool recording_ = false;
  std::optional<at::RecordFunction> step_;  // that is under way
};

}  // namespace cepe
