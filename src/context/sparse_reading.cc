#include "context/sparse_reading.h"

#include <ATen/ATen.h>

#include "base/error.h"

namespace cepe {

SparseReading::SparseReading(const Latents& whole, double share, int64_t again)
    : whole_(whole.cache), part_(whole), share_(share), again_(again) {
  require(whole_ != nullptr, "sparse reading: the context's keys and values are not kept");
  require(share > 0 && share <= 1, "sparse reading: expected a share above 0 and at most 1, found {}", share);
  require(again > 0, "sparse reading: expected to choose anew after 1 or more tokens, found {}", again);
}

void SparseReading::asked(const std::vector<at::Tensor>& queries, int64_t row) {
  asked_.clear();
  for (const at::Tensor& layer : queries) asked_.push_back(layer.narrow(0, row, 1));
}

const Latents& SparseReading::next() {
  if (due()) {
    part_.cache = choose_part(*whole_, asked_, part_.mask_BS, share_);
    part_share_ = part_.cache->read_share();
  }
  asked_.clear();
  ++tokens_;
  shares_ += part_share_;
  return part_;
}

}  // namespace cepe
