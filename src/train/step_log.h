// What a run says while it goes: a line a step on standard output, the same as JSON lines in run/log.jsonl, and as
// scalars for TensorBoard in an event file beside it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "train/run/event_file.h"
#include "train/step_clock.h"
#include "train/validation/validation_result.h"

namespace cepe {

struct StepLogOptions {
  std::filesystem::path
      file;  // log.jsonl, in the run's directory; empty: nothing is written or printed, as on all ranks but the first
  at::Device device = at::kCPU;
  int64_t total_steps = 0;
  double peak_flops = 0;  // a second, for MFU; 0: not shown
};

// One step's numbers that the host knows.
struct StepInfo {
  int64_t step = 0;  // 1 for the first
  double learning_rate = 0;
  int64_t tokens = 0;  // context and decoder
  double flops = 0;
};

// One step's losses: scalars that the device may not have computed yet.
struct StepLosses {
  at::Tensor all;      // what is minimised
  at::Tensor plain;    // of plain samples alone; undefined: the step has none
  at::Tensor answers;  // of the samples of data.ask alone; undefined: the step has none
  at::Tensor votes;    // (N) of the ranks, float32: StepLog::votes(); undefined: none
};

class StepLog {
 public:
  // Drops lines of the file beyond `resumed_step`: those steps are about to be done again. Where the directory
  // has no event file, the lines that are kept are written into one; a new one begins with the first new line.
  StepLog(const StepLogOptions& options, int64_t resumed_step);
  ~StepLog();

  // Takes a step's losses and gradient norm, a scalar on the device as well, and prints the step before: so the host
  // waits for a step only when the device has the next one to work on. On the CPU, which has computed them, prints at
  // once. The step's time ends here, on the device's own time line.
  void submit(const StepInfo& info, const StepLosses& losses, const at::Tensor& gradient_norm);
  void flush();          // prints the step that is still waiting
  void restart_clock();  // what happened until now is not part of the next step's time
  // True where an earlier sitting's log holds a validation after this step.
  bool has_validation(int64_t step) const { return step == kept_validation_; }
  void validation(int64_t step, const ValidationResult& result, double seconds);
  void note(const std::string& text);  // a line on standard output only

  double last_loss() const { return last_loss_; }
  // Steps in a row whose loss or gradient was not finite.
  int64_t steps_not_finite() const { return not_finite_; }
  // Of the last step that was printed, which is the same on all ranks; empty: it had none.
  const std::vector<float>& votes() const { return votes_; }
  void forget_votes() { votes_.clear(); }  // what they asked for was done

 private:
  struct Pending {
    StepInfo info;
    at::Tensor
        values;  // float32 on the CPU: loss, norm, where `both` the losses of plain samples and of answers, then votes
    bool both = false;
    StepClock<DeviceMoment>::Step time;
  };
  void print(Pending pending);
  void print_line(const Pending& pending);
  double seconds_left(int64_t step, double seconds);
  void note_samples(int64_t step, const std::vector<SampleRow>& rows);
  void write(const nlohmann::json& record);
  void write_event(const nlohmann::json& record);

  StepLogOptions options_;
  std::FILE* file_ = nullptr;
  int64_t first_step_ = 1;           // of this sitting
  std::optional<EventFile> events_;  // of this sitting, from its first line on
  int64_t kept_validation_ = 0;      // the last step that was validated before this sitting; 0: none
  std::optional<Pending> pending_;
  StepClock<DeviceMoment> clock_;
  double last_loss_ = 0;
  double usual_seconds_ = 0;  // of a step
  int64_t not_finite_ = 0;
  std::vector<float> votes_;
};

}  // namespace cepe
