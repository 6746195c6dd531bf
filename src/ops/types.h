// What the operations and their backends pass to each other: plain structs of tensors. Shape suffixes: ops.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace cepe {

// A residual stream after an addition, and its norm.
struct NormedSum {
  at::Tensor sum, normed;
};

// Cosines and sines of rotary positions, (positions, K/2) each, float32 (float64 when the model is).
struct RotaryTable {
  at::Tensor cos, sin;
};

// Sequences of lengths of their own that lie one after another in one row of tokens, without padding.
struct PackedSequences {
  std::vector<int64_t> lengths;  // equal ones side by side are computed together
  at::Tensor bounds;             // (lengths + 1) int32 on the tokens' device: 0, and where each ends; only on CUDA
  int64_t tokens() const;        // of all
};
// Error where a length is below 1.
PackedSequences pack_sequences(std::vector<int64_t> lengths, const at::Device& device);

// Which keys a query may see.
struct AttentionMask {
  // Query t sees keys 0 .. S - T + t (the queries are the last T of the S positions).
  bool causal = false;
  // (B, S) bool, true = a real token. Undefined: all keys are real. A row without any real key gives zeros.
  at::Tensor keys_BS;
  // The one row (B = 1, T = S) is several sequences, each of which sees itself alone. Without causal and keys_BS.
  const PackedSequences* packed = nullptr;
};

}  // namespace cepe
