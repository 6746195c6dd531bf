// What the ranks of a training run do together. A rank is a process; on GPUs each has its own.
//
// Every rank calls the same functions in the same order with tensors of the same size and type. Tensors are contiguous
// float32, int64 or uint8 on device().
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>

#include "train/ranks/launch.h"

namespace cepe {

class Collectives {
 public:
  // A tensor on its way. It must not be read or changed before wait(). Destroyed, it may still be on its way.
  class Work {
   public:
    virtual ~Work() = default;
    // On a CPU the result is there. On a GPU what the current stream is given from now on sees it; the host does not
    // wait. Error when a rank is gone or does not answer in time.
    virtual void wait() = 0;
  };

  virtual ~Collectives() = default;
  int64_t rank() const { return launch_.rank; }
  int64_t size() const { return launch_.size; }
  bool first() const { return launch_.rank == 0; }
  bool alone() const { return launch_.size == 1; }
  virtual at::Device device() const = 0;

  // In place: the sum over all ranks, on all of them or on `root` alone (elsewhere the content is lost); the content
  // of `root`.
  virtual std::unique_ptr<Work> sum(const at::Tensor& tensor) = 0;
  virtual std::unique_ptr<Work> sum_to(const at::Tensor& tensor, int64_t root) = 0;
  virtual std::unique_ptr<Work> broadcast(const at::Tensor& tensor, int64_t root) = 0;

 protected:
  explicit Collectives(const Launch& launch) : launch_(launch) {}
  const Launch launch_;
};

// The device that a rank computes on: as told, and of several GPUs of a node the one of its local rank.
// device: what the command was told, "auto", "cpu", "cuda" or "cuda:N"; gpus: how many this process sees, which should
// be all of the node's.
std::string device_of_rank(const Launch& launch, const std::string& device, int64_t gpus);

// Whether it is so on any rank. Waits.
bool any_rank(Collectives& ranks, bool here);
// The text of rank 0, everywhere. Waits.
std::string text_of_first(Collectives& ranks, const std::string& text);
// Runs the work, which may fail on one rank alone and must not wait for others; then all go on, or none: the ranks
// where it failed throw what they caught, though another rank be gone; the others Error that names the first of those.
void together(Collectives& ranks, const std::function<void()>& work);

}  // namespace cepe
