// How much of an attention on shared latents (latent_attention.h) goes to each chunk of the context: for a row of the
// query the sum of its softmax weights over a chunk's tokens. A row's masses sum to 1 over the chunks.
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/attention_mass/chunk_bounds.h"
#include "ops/latent/latent_states.h"

namespace cepe {

// query (B, N, E), states and mask as for latent_attention(); the chunks, those of all contexts of a batch, hold all S
// tokens.
// -> (B, N, M) float32 (float64 of such queries). A row without any real token has no mass: zeros. No gradients. The
// same input gives the same bits where there is a kernel (bfloat16 queries on Hopper); scores are kept in memory only
// where there is none.
at::Tensor attention_mass(const at::Tensor& query_BNE, const LatentStates& context, const ChunkBounds& chunks,
                          double scale);

}  // namespace cepe
