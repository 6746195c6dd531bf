// Keys and values of several layers that read the same tokens with the same mask, side by side in the rows of one
// tensor, as one product makes them. Padding is packed away once for all of them, and the gradients of all come back
// as one tensor.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "ops/attention_cuda.h"

namespace cepe {

class SharedKeys {
 public:
  struct Heads {
    int64_t count = 0, size = 0;  // of key-value heads: G and K
  };
  // all (B, S, layers * 2 * G * K): of each layer its keys, then its values. keys (B, S): as AttentionMask's. queries:
  // T of every call.
  SharedKeys(const at::Tensor& all_BSN, const Heads& heads, const at::Tensor& keys_BS, int64_t queries);

  // attention() of ops.h with a layer's keys and values. q (B, T, H, K) -> (B, T, H, K)
  at::Tensor attend(const at::Tensor& q_BTHK, size_t layer) const;

  // A layer's keys and values, as they stand in the rows; others may be put in their place.
  at::Tensor& keys(size_t layer) { return parts_.at(2 * layer); }
  at::Tensor& values(size_t layer) { return parts_.at(2 * layer + 1); }

 private:
  Heads heads_;
  at::Tensor keys_BS_;
  std::optional<PackedKeys> packed_;
  std::vector<at::Tensor> parts_;  // keys and values in turn, each G * K columns
};

}  // namespace cepe
