// Which blocks of a kept context hold most of some queries' attention: what sparse reading reads
// (context/sparse_reading.h). On a CPU, where keys are kept in blocks. Shape suffixes: context_attention.h.
#pragma once

#include "ops/context/context_keys_values.h"

namespace cepe {

// Log of the sum of exp(q.k / sqrt(K)) over the tokens of each block, (C, G, N, blocks) float32 (float64 for float64
// queries); -infinity where no token of a block is real. Keys are read once, values are not. mask as for
// context_attention().
at::Tensor block_sums(const at::Tensor& q_CGNK, const ContextKeysValues& context, const at::Tensor& mask_CS);

// The same keys and values, of which each key-value head reads the fewest blocks that hold `share` of its attention
// mass: the softmax over all tokens, summed over a block's, as a mean over the rows that read the head. A mask in
// which no token is real, and scores that are no numbers, leave all blocks. q (B, T, H, K); 0 < share <= 1.
ContextKeysValues choose_blocks(const at::Tensor& q_BTHK, const ContextKeysValues& context, const at::Tensor& mask_CS,
                                double share);

}  // namespace cepe
