// The CUDA backend of attention() (ops.h) and of combining partials (context/context_attention.h). In a
// build without CUDA none applies (ops/cuda/no_cuda.cc).
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/types.h"

namespace cepe {

// The flash kernel, called directly where LibTorch's choice would build a mask of T x S values: head sizes that are
// multiples of 8 up to dispatch::kFlashHeadSize.
bool flash_applies(const at::Tensor& q_BTHK);
// Causal attention of the last T of S positions.
at::Tensor flash_causal_attention(const at::Tensor& q_BTHK, const at::Tensor& k_BSGK, const at::Tensor& v_BSGK);
// Attention to the keys that keys_BS marks. They are packed together first, so that padding costs nothing.
at::Tensor flash_masked_attention(const at::Tensor& q_BTHK, const at::Tensor& k_BSGK, const at::Tensor& v_BSGK,
                                  const at::Tensor& keys_BS);
// The same in two parts, for keys and values of several layers that share a mask: packing, and attention.
struct PackedKeys {
  at::Tensor rows_RN;             // of all sequences, as many as there were: what is behind the last kept one is noise
  at::Tensor query_ends, ends;    // (B + 1) int32: 0, and where each sequence's queries and rows end
  int64_t queries = 0, keys = 0;  // T, and S before
};
PackedKeys flash_pack_keys(const at::Tensor& all_BSN, const at::Tensor& keys_BS, int64_t queries);
// k, v (R, G, K): columns of these rows.
at::Tensor flash_attend_packed(const at::Tensor& q_BTHK, const at::Tensor& k_RGK, const at::Tensor& v_RGK,
                               const PackedKeys& packed);
// Sequences one after another (ops.h), each to itself.
at::Tensor flash_packed_attention(const at::Tensor& q_1THK, const at::Tensor& k_1TGK, const at::Tensor& v_1TGK,
                                  const PackedSequences& sequences);

// Adds one partial to the running sum in one pass over it. `sum` takes out's layout, float32; both are undefined before
// the first partial.
bool fused_merge_applies(const at::Tensor& out_CGNK);
void fused_merge_attention(const at::Tensor& out_CGNK, const at::Tensor& log_sum_exp_CGN, at::Tensor& sum_CGNK,
                           at::Tensor& total_CGN);

}  // namespace cepe
