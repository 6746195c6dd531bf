// The CPU's kernel behind context_attention() (context_attention.h); docs/cross-attention.md.
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/context/context_keys_values.h"

namespace cepe {

// Whether there is a kernel for these queries (C, G, N, K) on such keys and values.
bool context_kernel_applies(const at::Tensor& q_CGNK, const ContextKeysValues& context);
// -> (C, G, N, K) float32
at::Tensor run_context_kernel(const at::Tensor& q_CGNK, const ContextKeysValues& context, const at::Tensor& mask_CS);
// block_sums() of context_blocks.h -> (C, G, N, blocks) float32
at::Tensor run_block_sums(const at::Tensor& q_CGNK, const ContextKeysValues& context, const at::Tensor& mask_CS);

// write_keys_values() in 8 bits. k, v (C, n, G, K) float32, contiguous; whether that is so, and K a multiple of 16.
bool int8_writer_applies(const at::Tensor& k_CnGK, const at::Tensor& v_CnGK);
void write_int8_context(ContextKeysValues& to, int64_t first, const at::Tensor& k_CnGK, const at::Tensor& v_CnGK);

}  // namespace cepe
