// In place of nccl_collectives.cc where cepe is built without CUDA.
#include "base/error.h"
#include "train/ranks/engines.h"

namespace cepe {

std::unique_ptr<Collectives> open_nccl(const Launch&, const CollectivesOptions& options) {
  fail("device {}: this cepe is built without CUDA", options.device.str());
}

}  // namespace cepe
