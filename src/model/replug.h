// RePlug (Shi et al. 2023, arXiv 2301.12652), a baseline: each context stands before the input in a forward of its own,
// and the next-token distributions are mixed by the softmax of the retrieval scores.
#pragma once

#include "model/cepe.h"

namespace cepe {

struct ReplugInput {
  at::Tensor contexts_BNC;   // int64: N contexts of C tokens for each row
  at::Tensor scores_BN;      // retrieval scores
  at::Tensor ids_BT;         // int64
  double temperature = 1.0;  // of the softmax over scores
};
// log p (B, C + T, V): position by position the log of the mixture of the N forwards' probabilities.
at::Tensor replug_log_probs(const Cepe& model, const ReplugInput& input);

// -log p of the labels (B, L) of the input's last L tokens under the same mixture, (B, L) in float32 or wider. One
// forward at a time, and of each only the labels' probabilities are kept: memory does not grow with N. No gradients.
at::Tensor replug_losses(const Cepe& model, const ReplugInput& input, const at::Tensor& labels_BL);

}  // namespace cepe
