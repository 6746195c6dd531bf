#include "model/replug.h"

#include <ATen/ATen.h>

#include "base/error.h"
#include "ops/ops.h"

namespace cepe {
namespace {

// The mixture of what of_context(ids) gives for each context before the input, log probabilities (B, ...): log of
// the sum of weight times probability. ids (B, C + T).
template <typename OfContext>
at::Tensor mixture_of(const ReplugInput& input, OfContext of_context) {
  const at::Tensor& contexts = input.contexts_BNC;
  require(contexts.dim() == 3 && input.scores_BN.dim() == 2 && contexts.size(1) == input.scores_BN.size(1),
          "RePlug: contexts should be (batch, N, tokens) with N scores a row");
  require(input.temperature > 0, "RePlug: the temperature should be positive, found {}", input.temperature);
  const at::Tensor weights_BN = (input.scores_BN / input.temperature).log_softmax(-1);
  at::Tensor mixture;
  for (int64_t n = 0; n < contexts.size(1); ++n) {
    at::Tensor log_probs = of_context(at::cat({contexts.select(1, n), input.ids_BT}, 1));
    std::vector<int64_t> shape(static_cast<size_t>(log_probs.dim()), 1);
    shape[0] = -1;
    log_probs = log_probs + weights_BN.select(1, n).view(shape);
    mixture = mixture.defined() ? at::logaddexp(mixture, log_probs) : log_probs;
  }
  return mixture;
}

}  // namespace

at::Tensor replug_log_probs(const Cepe& model, const ReplugInput& input) {
  return mixture_of(
      input, [&](const at::Tensor& ids) { return logits(model, decode(model, {.ids_BT = ids})).log_softmax(-1); });
}

at::Tensor replug_losses(const Cepe& model, const ReplugInput& input, const at::Tensor& labels_BL) {
  const at::NoGradGuard no_grad;
  const at::Tensor labels = labels_BL.reshape({labels_BL.numel()}), head = head_weight(model);
  return -mixture_of(input, [&](const at::Tensor& ids) {
    const at::Tensor hidden = decode(model, {.ids_BT = ids, .last = labels_BL.size(1)});
    return -linear_cross_entropy(hidden.flatten(0, 1), head, labels).view_as(labels_BL);
  });
}

}  // namespace cepe
