#include "model/loss.h"

#include <ATen/ATen.h>

#include "base/error.h"

namespace cepe {

at::Tensor next_token_loss(const Cepe& model, const at::Tensor& hidden_BTD, const at::Tensor& labels_BT) {
  const int64_t T = hidden_BTD.size(1), D = hidden_BTD.size(2);
  require(T >= 2, "next-token loss: a sequence of {} tokens has nothing to predict", T);
  const at::Tensor hidden = hidden_BTD.narrow(1, 0, T - 1).reshape({-1, D});
  const at::Tensor labels = labels_BT.narrow(1, 1, T - 1).reshape({-1});
  const at::Tensor scored = labels.ge(0).sum();
  return linear_cross_entropy_sum(hidden, head_weight(model), labels) / scored;
}

at::Tensor next_token_loss_from_log_probs(const at::Tensor& log_probs_BTV, const at::Tensor& labels_BT) {
  const int64_t T = log_probs_BTV.size(1), V = log_probs_BTV.size(2);
  require(T >= 2, "next-token loss: a sequence of {} tokens has nothing to predict", T);
  const at::Tensor labels = labels_BT.narrow(1, 1, T - 1).reshape({-1}), scored = labels.ge(0);
  const at::Tensor picked =
      log_probs_BTV.narrow(1, 0, T - 1).reshape({-1, V}).gather(1, labels.clamp_min(0).unsqueeze(1)).squeeze(1);
  return -(picked * scored).sum() / scored.sum();
}

}  // namespace cepe
