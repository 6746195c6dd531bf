#include "model/replug.h"

#include <ATen/ATen.h>

#include "base/error.h"

namespace cepe {

at::Tensor replug_log_probs(const Cepe& model, const ReplugInput& input) {
  const at::Tensor& contexts = input.contexts_BNC;
  require(contexts.dim() == 3 && input.scores_BN.dim() == 2 && contexts.size(1) == input.scores_BN.size(1),
          "RePlug: contexts should be (batch, N, tokens) with N scores a row");
  require(input.temperature > 0, "RePlug: the temperature should be positive, found {}", input.temperature);
  const at::Tensor weights_BN = (input.scores_BN / input.temperature).log_softmax(-1);
  at::Tensor mixture;
  for (int64_t n = 0; n < contexts.size(1); ++n) {
    const at::Tensor ids = at::cat({contexts.select(1, n), input.ids_BT}, 1);
    const at::Tensor log_probs =
        logits(model, decode(model, {ids})).log_softmax(-1) + weights_BN.select(1, n).view({-1, 1, 1});
    mixture = mixture.defined() ? at::logaddexp(mixture, log_probs) : log_probs;
  }
  return mixture;
}

}  // namespace cepe
