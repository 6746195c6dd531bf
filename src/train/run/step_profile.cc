#include "train/run/step_profile.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <set>

#include "base/error.h"
#include "base/file.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;
namespace kineto = torch::autograd::profiler;
using torch::profiler::impl::ActivityType;
using torch::profiler::impl::ProfilerConfig;
using torch::profiler::impl::ProfilerState;

std::set<ActivityType> activities(const at::Device& device) {
  if (device.is_cuda()) return {ActivityType::CPU, ActivityType::CUDA};
  return {ActivityType::CPU};
}

ProfilerConfig profiler_config() { return ProfilerConfig(ProfilerState::KINETO, /*report_input_shapes=*/true); }

// Kineto writes a file where it is told and says nothing of a full disk: its text goes through our own writer.
void save_trace(torch::autograd::profiler::ProfilerResult& trace, const fs::path& file) {
  fs::path part = file;
  part += ".part";
  trace.save(part.string());
  const std::string text = read_file(part);
  fs::remove(part);
  const size_t end = text.find_last_not_of(" \n");
  require(end != std::string::npos && text[end] == '}', "{}: the profiler wrote no whole trace: is the disk full?",
          file.string());
  write_file(file, text);
}

}  // namespace

StepProfile::~StepProfile() {
  step_.reset();
  if (recording_) kineto::disableProfiler();
}

void StepProfile::begin(int64_t step) {
  if (options_.steps == 0) return;
  // Preparing takes a while; it is done a step earlier where there is one, outside what is recorded.
  if (seen_ == std::max<int64_t>(options_.after - 1, 0)) {
    kineto::prepareProfiler(profiler_config(), activities(options_.device));
  }
  if (seen_++ == options_.after) {
    kineto::enableProfiler(profiler_config(), activities(options_.device));
    recording_ = true;
    first_ = step;
  }
  if (!recording_) return;
  step_.emplace(at::RecordScope::USER_SCOPE);
  step_->before(fmt::format("ProfilerStep#{}", step + 1));
}

fs::path StepProfile::end() {
  step_.reset();
  if (!recording_ || seen_ < options_.after + options_.steps) return {};
  if (options_.device.is_cuda()) {
    c10::impl::VirtualGuardImpl(options_.device.type()).synchronizeDevice(options_.device.index());
  }
  recording_ = false;
  const auto trace = kineto::disableProfiler();
  const fs::path file = file_of(options_, first_);
  save_trace(*trace, file);
  return file;
}

fs::path StepProfile::file_of(const StepProfileOptions& options, int64_t first) {
  return options.directory / fmt::format("steps-{}-{}.pt.trace.json", first + 1, first + options.steps);
}

}  // namespace cepe
