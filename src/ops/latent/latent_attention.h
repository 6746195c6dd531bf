// Attention whose keys and values are one and the same: the encoder's states, shared by all heads. What absorbed
// cross-attention runs on (model/cross_attention.h).
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/latent/latent_states.h"

namespace cepe {

// softmax(scale query states^T) states. Our kernels make one pass over the states however many queries there are: each
// is read from memory once, and spans of them are merged by their log-sum-exp (Milakov & Gimelshein 2018, arXiv
// 1805.02867). On a CPU they take float32, bfloat16 and 8 bits; on a CUDA device queries in bfloat16, states so or in 8
// bits, of widths in steps of 64 up to dispatch::kLatentWidth. Elsewhere, and where a gradient is wanted, LibTorch's
// products compute the same. Softmax is float32, or float64 for float64.
//
// query (B, N, E): N rows, tokens times heads. With one context for the batch all B N rows share the pass. A row
// without any real token gives zeros. -> (B, N, E) of query's type
at::Tensor latent_attention(const at::Tensor& query_BNE, const LatentStates& context, double scale,
                            LatentKernel kernel = LatentKernel::best);

}  // namespace cepe
