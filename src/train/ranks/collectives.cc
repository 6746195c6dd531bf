#include "train/ranks/collectives.h"

#include <ATen/ATen.h>

#include <cstring>
#include <exception>

#include "base/error.h"

namespace cepe {

std::string device_of_rank(const Launch& launch, const std::string& device, int64_t gpus) {
  if (launch.size == 1 || device == "cpu" || (device == "auto" && gpus == 0)) return device;
  require(device.find(':') == std::string::npos, "device {}: {} ranks cannot share one GPU, expected cuda", device,
          launch.size);
  require(
      launch.local_rank < gpus,
      "device {}: this process sees {} GPU{}, none for rank {} of its node (counted from 0): let every rank see all "
      "GPUs of the node (in Slurm GPUs per node, not per task)",
      device, gpus, gpus == 1 ? "" : "s", launch.local_rank);
  return "cuda:" + std::to_string(launch.local_rank);
}

bool any_rank(Collectives& ranks, bool here) {
  if (ranks.alone()) return here;
  const at::Tensor count = at::full({1}, here ? 1 : 0, at::TensorOptions(at::kLong).device(ranks.device()));
  ranks.sum(count)->wait();
  return count.item<int64_t>() > 0;
}

std::string text_of_first(Collectives& ranks, const std::string& text) {
  if (ranks.alone()) return text;
  const auto like = at::TensorOptions(at::kLong).device(ranks.device());
  const at::Tensor size = at::full({1}, static_cast<int64_t>(text.size()), like);
  ranks.broadcast(size, 0)->wait();
  at::Tensor bytes = at::zeros({size.item<int64_t>()}, at::kByte);
  if (bytes.numel() == 0) return "";
  if (ranks.first()) std::memcpy(bytes.data_ptr(), text.data(), text.size());
  bytes = bytes.to(ranks.device());
  ranks.broadcast(bytes, 0)->wait();
  bytes = bytes.cpu();
  return {static_cast<const char*>(bytes.data_ptr()), static_cast<size_t>(bytes.numel())};
}

void together(Collectives& ranks, const std::function<void()>& work) {
  if (ranks.alone()) return work();
  std::exception_ptr failure;
  try {
    work();
  } catch (...) {
    failure = std::current_exception();
  }
  at::Tensor failed;
  try {
    failed = at::zeros({ranks.size()}, at::TensorOptions(at::kLong).device(ranks.device()));
    if (failure) failed[ranks.rank()].fill_(1);
    ranks.sum(failed)->wait();
  } catch (...) {
    if (!failure) throw;  // else what was caught first is the reason
  }
  if (failure) std::rethrow_exception(failure);
  const at::Tensor which = failed.cpu().nonzero();
  require(which.numel() == 0, "rank {} of {} stops: what rank {} says is the reason", ranks.rank(), ranks.size(),
          which.numel() == 0 ? 0 : which.view(-1)[0].item<int64_t>());
}

}  // namespace cepe
