// Cross-attention over the encoder's states, in its two forms, which compute the same thing.
//
// materialised: K = E Wk^T and V = E Wv^T for all S context tokens, then attention with head size K. Per layer
//   4 S E G K operations once, and 4 S H K a query row.
// absorbed: q.(Wk e) = (Wk^T q).e and sum p Wv e = Wv (sum p e), so the query moves into the encoder's space and
//   attention runs on the states themselves, one shared key-value head of size E. 4 S H E operations a query row,
//   no projection of S rows. Cheaper below about E G K / (H (E - K)) query rows (method: "Absorbed cross-attention").
#pragma once

#include "model/layers.h"

namespace cepe {

// The encoder's states of a context: all a context token costs, E numbers, read by every layer.
struct Latents {
  at::Tensor states_BSE;
  at::Tensor mask_BS;     // bool, true = a real token; undefined: all are
  int64_t tokens() const { return states_BSE.defined() ? states_BSE.size(1) : 0; }
};

enum class CrossAttentionForm { automatic, materialised, absorbed };

// x (B, T, D), normed by weights.norm already -> (B, T, D), to be added to the residual. Latents may have batch 1
// for a context that all rows of the batch share.
at::Tensor cross_attention(const CrossAttention& weights, const StackConfig& decoder, const at::Tensor& x_BTD,
                           const Latents& latents, CrossAttentionForm form = CrossAttentionForm::automatic);

// The form that `automatic` takes for so many query rows.
CrossAttentionForm choose_cross_attention_form(const StackConfig& decoder, int64_t encoder_width, int64_t query_rows);

}  // namespace cepe
