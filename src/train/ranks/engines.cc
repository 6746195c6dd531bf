#include "train/ranks/engines.h"

#include "base/error.h"

namespace cepe {
namespace {

class OneRank : public Collectives {
 public:
  explicit OneRank(const at::Device& device) : Collectives(Launch{}), device_(device) {}
  at::Device device() const override { return device_; }
  std::unique_ptr<Work> sum(const at::Tensor&) override { return std::make_unique<Done>(); }
  std::unique_ptr<Work> sum_to(const at::Tensor&, int64_t) override { return std::make_unique<Done>(); }
  std::unique_ptr<Work> broadcast(const at::Tensor&, int64_t) override { return std::make_unique<Done>(); }

 private:
  struct Done : Work {
    void wait() override {}
  };
  const at::Device device_;
};

}  // namespace

std::unique_ptr<Collectives> open_collectives(const Launch& launch, const CollectivesOptions& options) {
  if (launch.size == 1) return std::make_unique<OneRank>(options.device);
  if (!options.device.is_cpu()) return open_nccl(launch, options);
  require(launch.by != Launch::By::torchrun,
          "WORLD_SIZE: {} ranks by torchrun need a GPU each; on a CPU start them with mpirun", launch.size);
  return open_mpi(launch, options);
}

}  // namespace cepe
