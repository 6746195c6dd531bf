// How much of an attention on shared latents (latent_attention.h) goes to each chunk of the context: for a row of the
// query the sum of its softmax weights over a chunk's tokens. A row's masses sum to 1 over the chunks.
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/attention_mass/chunk_bounds.h"
#include "ops/latent/latent_states.h"

namespace cepe {

// query (B, N, E), states and mask as for latent_attention(). All contexts of a batch have the same chunks, which cover
// all S tokens.
// -> (B, N, M) float32 (float64 for float64 queries). A row without any real token gives zeros. No gradients.
// bfloat16 queries on a Hopper GPU run a kernel that never stores scores and gives the same bits in every run.
at::Tensor attention_mass(const at::Tensor& query_BNE, const LatentStates& context, const ChunkBounds& chunks,
                          double scale);

}  // namespace cepe
