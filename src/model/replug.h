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

}  // namespace cepe
