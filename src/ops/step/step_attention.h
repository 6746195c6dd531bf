// What the self-attention of a decoding step reads and writes, shared by step_attention() (step_ops.h) and its
// backends.
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/types.h"

namespace cepe {

struct StepAttention {
  RotaryTable rotary;         // at least as many positions as the cache holds tokens
  at::Tensor positions_B;     // int64: of each sequence's token, which is also the number of tokens before it
  at::Tensor k_BSGK, v_BSGK;  // the cache: the token's key and value are written at its position
  at::Tensor q_norm, k_norm;  // (K), of Qwen3's norms of each head; undefined: none
  double eps = 0;             // of those
};

}  // namespace cepe
