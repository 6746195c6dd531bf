// Operations of a decoding step: one token for each sequence of a batch, each at a position of its own. No gradients.
// Nothing here waits for the device or looks at its values, so that a CUDA graph can hold a step. On a CUDA device in
// bfloat16 each is one kernel (step_kernel.h), on a CPU in bfloat16 and float32 the attention is
// (ops/cpu/step_attention.h); elsewhere LibTorch's operations compute the same.
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/step/step_attention.h"

namespace cepe {

// Self-attention of one token a sequence: norms of heads, rotation, the write into the cache, and attention to the
// sequence's tokens up to and including this one. qkv (B, (H + 2 G) K), queries before keys before values -> (B, H K).
// A position outside the cache is an error of the caller's: Error on a CPU; a CUDA device cannot report it, and gives
// not-a-number.
at::Tensor step_attention(const at::Tensor& qkv_BN, const StepAttention& input);

// Whether step_attention() is one kernel for these heads.
bool step_attention_is_fused(const at::Device& device, at::ScalarType type, int64_t head_dim);

// silu(gate) * up of a product with both, gate first. (B, 2 F) -> (B, F)
at::Tensor step_swiglu(const at::Tensor& gate_up_BN);

}  // namespace cepe
