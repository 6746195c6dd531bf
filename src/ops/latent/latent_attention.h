// Attention whose keys and values are one and the same: the encoder's states, shared by all heads. What absorbed
// cross-attention runs on (model/cross_attention.h).
#pragma once

#include <ATen/core/Tensor.h>

namespace cepe {

// What is attended to.
struct LatentStates {
  at::Tensor states_BSE;    // (B, S, E), or (1, S, E) for a context that the whole batch reads
  at::Tensor mask_BS = {};  // (B or 1, S) bool, true = a real token; undefined: all are
  at::Tensor scales_BS =
      {};  // (B or 1, S) float32: states are in 8 bits (latent_int8.h); undefined: float32 or bfloat16
  // No work that is still on the current stream writes states, as in a decoding step: a CUDA kernel may read them
  // before the work before it has ended.
  bool inputs_ready = false;
};

// Whether latent_attention() has a kernel for these, no gradient being wanted: on a CPU float32, bfloat16 or 8 bits; on
// a CUDA device queries in bfloat16, states so or in 8 bits, of a width that is a multiple of 64 up to 1024
// (latent_kernel.h).
bool latent_attention_applies(const at::Tensor& query_BNE, const at::Tensor& states_BSE);

// The instruction sets that the CPU's kernel is compiled for; `best` is what the processor has. The others are for
// tests.
enum class LatentKernel { best, avx2, portable };

// softmax(scale query states^T) states, one pass over the states however many queries there are: each is read from
// memory once, and spans of them are merged by their log-sum-exp (Milakov & Gimelshein 2018, arXiv 1805.02867).
// Arithmetic is float32.
//
// query (B, N, E): N rows, tokens times heads. With one context for the batch all B N rows share the pass. A row
// without any real token gives zeros. -> (B, N, E) of query's type
at::Tensor latent_attention(const at::Tensor& query_BNE, const LatentStates& context, double scale,
                            LatentKernel kernel = LatentKernel::best);

}  // namespace cepe
