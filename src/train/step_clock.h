// How long each training step took where the host runs ahead of the device: by the device's own time line, because
// when a step's results reach the host says more about the host than about the step.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/Event.h>

#include <memory>
#include <optional>
#include <utility>

namespace cepe {

// A moment in the order of a device's work: reached when all that was submitted before it to the current stream is
// done. Taking one does not wait for the device. On the CPU, which is never behind: now.
class DeviceMoment {
 public:
  explicit DeviceMoment(const c10::Device& device);
  void wait() const;  // until the device has reached it
  // Time between two moments of one stream, what the device idled included; the later one has been waited for.
  double seconds_since(const DeviceMoment& earlier) const;

 private:
  std::optional<c10::Event> event_;
  double seconds_ = 0;  // on the CPU
};

// Cuts time into steps: a step lasts from the end of the one before, or from the last restart, to its own end. Moment
// is DeviceMoment, or in tests one of a time line that is made up.
template <typename Moment>
class StepClock {
 public:
  struct Step {
    std::shared_ptr<const Moment> begin, end;
    void wait() const { end->wait(); }
    double seconds() const { return end->seconds_since(*begin); }  // after wait()
  };

  explicit StepClock(Moment start) { restart(std::move(start)); }
  void restart(Moment now) { last_ = std::make_shared<const Moment>(std::move(now)); }
  Step finish_step(Moment now) {
    auto begin = std::exchange(last_, std::make_shared<const Moment>(std::move(now)));
    return {std::move(begin), last_};
  }

 private:
  std::shared_ptr<const Moment> last_;
};

}  // namespace cepe
