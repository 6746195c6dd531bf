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
  // In 8 bits, on a CPU alone: key = scale * number of k, a float32 scale for each head of each token, of tokens padded
  // as v is. Undefined in other types.
  at::Tensor k_scales, v_scales;  // (C, G, blocks * kBlock)
  // The blocks that are read, on a CPU alone: numbers head * ceil(S / kBlock) + block of the C * G heads, ascending,
  // int64 (choose_blocks() of context_blocks.h). Undefined: all are.
  at::Tensor chosen;
  bool blocked() const { return k.dim() == 5; }
  int64_t bytes() const {
    int64_t sum = 0;
    for (const at::Tensor& part : {k, v, k_scales, v_scales})
      sum += part.defined() ? static_cast<int64_t>(part.nbytes()) : 0;
    return sum;
  }
};

// `best`: the CPU's kernel where it applies. `none` runs LibTorch's attention block by block, for tests.
enum class ContextKernel { best, none };

}  // namespace cepe
