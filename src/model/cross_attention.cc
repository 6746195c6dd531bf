#include "model/cross_attention.h"

#include <ATen/ATen.h>

#include <cmath>

#include "base/error.h"
#include "ops/latent_attention.h"

namespace cepe {
namespace {

at::Tensor materialised(const CrossAttention& weights, const StackConfig& config, const at::Tensor& q_BTHK, const Latents& latents) {
  const int64_t B = q_BTHK.size(0), S = latents.states_BSE.size(1), G = config.num_kv_heads, K = config.head_dim;
  const at::Tensor k = weights.k(latents.states_BSE).view({-1, S, G, K}).expand({B, S, G, K});
  const at::Tensor v = weights.v(latents.states_BSE).view({-1, S, G, K}).expand({B, S, G, K});
  AttentionMask mask;
  if (latents.mask_BS.defined()) mask.keys_BS = latents.mask_BS.expand({B, S});
  return attention(q_BTHK, k, v, mask);
}

// Attention on the states themselves, (B, N, E) -> (B, N, E).
at::Tensor read_latents(const at::Tensor& query_BNE, const Latents& latents, double scale) {
  if (latent_attention_applies(query_BNE, latents.states_BSE)) {
    return latent_attention(query_BNE, latents.states_BSE, latents.mask_BS, scale);
  }
  const int64_t B = query_BNE.size(0), S = latents.states_BSE.size(1), E = latents.states_BSE.size(2);
  const at::Tensor states = latents.states_BSE.expand({B, S, E});
  at::Tensor scores_BNS = at::matmul(query_BNE, states.transpose(1, 2)).mul(scale);
  at::Tensor empty_row;
  if (latents.mask_BS.defined()) {
    const at::Tensor padding = latents.mask_BS.logical_not().unsqueeze(1);
    empty_row = padding.all(-1, /*keepdim=*/true);
    scores_BNS = scores_BNS.masked_fill(padding.logical_and(empty_row.logical_not()), -INFINITY);
  }
  const at::Tensor wide = scores_BNS.scalar_type() == at::kDouble ? scores_BNS : scores_BNS.to(at::kFloat);
  const at::Tensor read_BNE = at::matmul(wide.softmax(-1).to(states.scalar_type()), states);
  return empty_row.defined() ? read_BNE.masked_fill(empty_row, 0) : read_BNE;
}

at::Tensor absorbed(const CrossAttention& weights, const StackConfig& config, const at::Tensor& q_BTHK, const Latents& latents) {
  const int64_t B = q_BTHK.size(0), T = q_BTHK.size(1), H = config.num_heads, G = config.num_kv_heads, K = config.head_dim;
  const int64_t E = latents.states_BSE.size(2), R = H / G;
  require(!weights.k.bias.defined() && !weights.v.bias.defined(), "absorbed cross-attention: keys and values with biases are not supported");
  // Queries of the heads that share a key-value head stand together: (G, B*T*R, K).
  const at::Tensor q_GNK = q_BTHK.reshape({B, T, G, R, K}).permute({2, 0, 1, 3, 4}).reshape({G, B * T * R, K});
  const at::Tensor moved_GNE = at::bmm(q_GNK, weights.k.weight.view({G, K, E}));
  const at::Tensor query_BNE = moved_GNE.view({G, B, T, R, E}).permute({1, 2, 0, 3, 4}).reshape({B, T * H, E});
  const at::Tensor read_BNE = read_latents(query_BNE, latents, 1.0 / std::sqrt(static_cast<double>(K)));
  const at::Tensor read_GNE = read_BNE.view({B, T, G, R, E}).permute({2, 0, 1, 3, 4}).reshape({G, B * T * R, E});
  const at::Tensor out_GNK = at::bmm(read_GNE, weights.v.weight.view({G, K, E}).transpose(1, 2));
  return out_GNK.view({G, B, T, R, K}).permute({1, 2, 0, 3, 4}).reshape({B, T, H, K});
}

}  // namespace

CrossAttentionForm choose_cross_attention_form(const StackConfig& decoder, int64_t encoder_width, int64_t query_rows) {
  const int64_t E = encoder_width, K = decoder.head_dim;
  if (E <= K) return CrossAttentionForm::absorbed;
  const int64_t break_even = E * decoder.num_kv_heads * K / (decoder.num_heads * (E - K));
  return query_rows < break_even ? CrossAttentionForm::absorbed : CrossAttentionForm::materialised;
}

at::Tensor cross_attention(const CrossAttention& weights, const StackConfig& decoder, const at::Tensor& x_BTD, const Latents& latents,
                           CrossAttentionForm form) {
  const int64_t B = x_BTD.size(0), T = x_BTD.size(1);
  const int64_t contexts = latents.states_BSE.size(0);
  require(contexts == B || contexts == 1, "cross-attention: {} contexts for a batch of {}", contexts, B);
  if (form == CrossAttentionForm::automatic) {
    form = choose_cross_attention_form(decoder, latents.states_BSE.size(2), T * (contexts == 1 ? B : 1));
  }
  const at::Tensor q = weights.q(x_BTD).view({B, T, decoder.num_heads, decoder.head_dim});
  const at::Tensor out = form == CrossAttentionForm::absorbed ? absorbed(weights, decoder, q, latents)
                                                              : materialised(weights, decoder, q, latents);
  return weights.o(out.reshape({B, T, decoder.num_heads * decoder.head_dim}));
}

}  // namespace cepe
