// NCCL through c10d. Work runs on NCCL's own stream; wait() makes the current stream wait, not the host. A rank that
// does not answer in time is noticed by c10d's watchdog thread, which says so and ends the process.
#include <c10/util/Exception.h>

#include <chrono>
#include <exception>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "base/error.h"
#include "train/ranks/engines.h"
#include "train/ranks/rendezvous.h"

namespace cepe {
namespace {

class NcclWork : public Collectives::Work {
 public:
  explicit NcclWork(c10::intrusive_ptr<c10d::Work> work) : work_(std::move(work)) {}
  void wait() override {
    try {
      work_->wait();
    } catch (const c10::Error& error) {
      const std::string reason = error.what_without_backtrace();
      fail("NCCL failed, a rank may be gone: {}", reason.substr(0, reason.find('\n')));
    }
  }

 private:
  const c10::intrusive_ptr<c10d::Work> work_;
};

class NcclCollectives : public Collectives {
 public:
  NcclCollectives(const Launch& launch, const CollectivesOptions& options)
      : Collectives(launch), device_(options.device), store_(open_store(launch, options.timeout_minutes)) {
    auto settings = c10d::ProcessGroupNCCL::Options::create();
    settings->timeout = std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::duration<double, std::ratio<60>>(options.timeout_minutes));
    group_ = c10::make_intrusive<c10d::ProcessGroupNCCL>(store_, static_cast<int>(launch.rank),
                                                         static_cast<int>(launch.size), settings);
  }
  // Where an error ends this process, the others are not waited for.
  ~NcclCollectives() override {
    if (std::uncaught_exceptions() == 0) {
      group_->shutdown();
    } else {
      group_->abort();
    }
  }

  at::Device device() const override { return device_; }

  std::unique_ptr<Work> sum(const at::Tensor& tensor) override {
    std::vector<at::Tensor> tensors = {tensor};
    return std::make_unique<NcclWork>(group_->allreduce(tensors));
  }
  std::unique_ptr<Work> sum_to(const at::Tensor& tensor, int64_t root) override {
    std::vector<at::Tensor> tensors = {tensor};
    c10d::ReduceOptions options;
    options.rootRank = root;
    return std::make_unique<NcclWork>(group_->reduce(tensors, options));
  }
  std::unique_ptr<Work> broadcast(const at::Tensor& tensor, int64_t root) override {
    std::vector<at::Tensor> tensors = {tensor};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    return std::make_unique<NcclWork>(group_->broadcast(tensors, options));
  }

 private:
  const at::Device device_;
  const c10::intrusive_ptr<c10d::Store> store_;
  c10::intrusive_ptr<c10d::ProcessGroupNCCL> group_;
};

}  // namespace

std::unique_ptr<Collectives> open_nccl(const Launch& launch, const CollectivesOptions& options) {
  return std::make_unique<NcclCollectives>(launch, options);
}

}  // namespace cepe
