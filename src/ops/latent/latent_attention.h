// Attention whose keys and values are the same vectors, the encoder's states, shared by all heads (as in MLA's absorbed
// form). Absorbed cross-attention uses it (model/cross_attention.h).
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/latent/latent_states.h"

namespace cepe {

// softmax(scale query states^T) states. One pass reads each state from memory once for all rows. The context is split
// (split-KV), and the partials are combined by log-sum-exp (Milakov & Gimelshein 2018, arXiv 1805.02867). On a CPU
// there are kernels for float32, bfloat16 and 8 bits; on a CUDA device for queries in bfloat16 and states in bfloat16
// or 8 bits, of widths in steps of 64 up to dispatch::kLatentWidth. Elsewhere, and where a gradient is wanted,
// LibTorch's products compute the same. Softmax is float32, or float64 for float64.
//
// query (B, N, E): N rows, tokens times heads. With one context for the batch all B N rows share the pass. A row
// without any real token gives zeros. -> (B, N, E) of query's type
at::Tensor latent_attention(const at::Tensor& query_BNE, const LatentStates& context, double scale);

}  // namespace cepe
