// What attention over a kept context reads, shared by the operation (context_attention.h) and its CPU backend. Shape
// suffixes: context_attention.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace cepe {

// Keys and values of one layer for a whole context.
struct ContextKeysValues {
  // Tokens of a block of keys on a CPU. A block is stored transposed, so that one vector holds the same element of 16
  // keys.
  static constexpr int64_t kBlock = 64;
  at::Tensor k;        // on a CPU (C, G, ceil(S / kBlock), K, kBlock), the end padded with zeros; else (C, G, S, K)
  at::Tensor v;        // (C, G, S, K); on a CPU padded with zeros to whole blocks
  int64_t tokens = 0;  // S
  bool blocked() const { return k.dim() == 5; }
  int64_t bytes() const { return static_cast<int64_t>(k.nbytes() + v.nbytes()); }
};

// `best`: the CPU's kernel where it applies. `none` runs LibTorch's attention block by block, for tests.
enum class ContextKernel { best, none };

}  // namespace cepe
