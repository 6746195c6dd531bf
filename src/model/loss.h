// The next-token loss (method: "Training"). Distillation: ops/distillation.h.
#pragma once

#include "model/cepe.h"

namespace cepe {

// Mean of -log p(labels[t + 1] | ..t) over the labels >= 0; labels (B, T) as in Hugging Face: the label of position t
// is predicted by position t - 1. hidden (B, T, D) from decode().
at::Tensor next_token_loss(const Cepe& model, const at::Tensor& hidden_BTD, const at::Tensor& labels_BT);

// The same from logits (B, T, V), for a head that is not frozen or a mixture of distributions.
at::Tensor next_token_loss_from_log_probs(const at::Tensor& log_probs_BTV, const at::Tensor& labels_BT);

}  // namespace cepe
