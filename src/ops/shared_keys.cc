#include "ops/shared_keys.h"

#include <ATen/ATen.h>

#include "base/error.h"
#include "ops/ops.h"

namespace cepe {

SharedKeys::SharedKeys(const at::Tensor& all_BSN, const Heads& heads, const at::Tensor& keys_BS, int64_t queries)
    : heads_(heads), keys_BS_(keys_BS) {
  const int64_t B = all_BSN.size(0), S = all_BSN.size(1), columns = heads.count * heads.size;
  require(columns > 0 && all_BSN.size(2) % (2 * columns) == 0,
          "keys of several layers: rows of {}, expected keys and values of {} heads of {}", all_BSN.size(2),
          heads.count, heads.size);
  require(!keys_BS.defined() || (keys_BS.size(0) == B && keys_BS.size(1) == S),
          "keys of several layers: the key mask is for {} x {} keys, there are {} x {}",
          keys_BS.defined() ? keys_BS.size(0) : 0, keys_BS.defined() ? keys_BS.size(1) : 0, B, S);
  const bool packs = keys_BS.defined() && flash_applies(all_BSN.view({B, S, -1, heads.size}));
  if (packs) packed_ = flash_pack_keys(all_BSN, keys_BS, queries);
  parts_ = (packs ? packed_->rows_RN : all_BSN).split(columns, -1);
}

at::Tensor SharedKeys::attend(const at::Tensor& q_BTHK, size_t layer) const {
  std::vector<int64_t> sizes = parts_.at(2 * layer).sizes().vec();
  sizes.back() = heads_.count;
  sizes.push_back(heads_.size);
  const at::Tensor k = parts_[2 * layer].view(sizes), v = parts_.at(2 * layer + 1).view(sizes);
  if (packed_) return flash_attend_packed(q_BTHK, k, v, *packed_);
  return attention(q_BTHK, k, v, {.keys_BS = keys_BS_});
}

}  // namespace cepe
