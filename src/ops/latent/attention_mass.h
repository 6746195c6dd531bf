// How much of an attention on shared latents (latent_attention.h) goes to each chunk of the context: for a row of the
// query the sum of its softmax weights over a chunk's tokens. A row's masses sum to 1 over the chunks.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "ops/latent/latent_attention.h"

namespace cepe {

// A context of chunks that follow each other, described on a device once for all calls.
class ChunkBounds {
 public:
  ChunkBounds() = default;
  // Tokens of each chunk, at least one each.
  ChunkBounds(const std::vector<int64_t>& lengths, const at::Device& device);
  int64_t count() const { return count_; }
  int64_t tokens() const { return tokens_; }
  at::Tensor ends_M;  // int64: one past each chunk's last token
  // Tiles of at most 64 tokens of one chunk, what the CUDA kernel reads at a time; undefined on a CPU.
  at::Tensor tiles_T2;               // int32: the first token, and how many
  at::Tensor first_tiles_M;          // int32, (M + 1): of each chunk, and the number of tiles
  std::vector<int64_t> tile_tokens;  // (T + 1) on the host: each tile's first token, and the tokens of all

 private:
  int64_t count_ = 0, tokens_ = 0;
};

// query (B, N, E), states and mask as for latent_attention(); the chunks, those of all contexts of a batch, hold all S
// tokens.
// -> (B, N, M) float32 (float64 of such queries). A row without any real token has no mass: zeros. No gradients. The
// same input gives the same bits where there is a kernel (bfloat16 queries on Hopper); scores are kept in memory only
// where there is none.
at::Tensor attention_mass(const at::Tensor& query_BNE, const LatentStates& context, const ChunkBounds& chunks,
                          double scale);

#ifdef CEPE_CUDA
// attention_mass_cuda.cc: bfloat16 queries, widths that latent_kernel.h has.
bool cuda_attention_mass_applies(const at::Tensor& query_BNE, const at::Tensor& states_BSE);
at::Tensor cuda_attention_mass(const at::Tensor& query_BNE, const LatentStates& context, const ChunkBounds& chunks,
                               double scale);
#endif

}  // namespace cepe
