#include "model/loss.h"

#include <ATen/ATen.h>

#include "base/error.h"

namespace cepe {
namespace {

// Stands for the logarithm of 0 where its gradient must stay finite.
constexpr double kLogOfNothing = -1e30;

}  // namespace

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

at::Tensor distill_loss(const at::Tensor& logits_BTV, const TeacherTopK& teacher, const DistillMode& mode) {
  const int64_t B = teacher.prob_BPK1.size(0), P = teacher.prob_BPK1.size(1), k = teacher.index_BPK.size(2);
  require(logits_BTV.size(1) >= P, "distillation: the teacher covers {} positions, the student {}", P,
          logits_BTV.size(1));
  require(teacher.prob_BPK1.size(2) == k + 1, "distillation: {} teacher probabilities for {} tokens and the rest",
          teacher.prob_BPK1.size(2), k);
  const at::Tensor last = logits_BTV.narrow(1, logits_BTV.size(1) - P, P);
  const at::Tensor wide = last.scalar_type() == at::kDouble ? last : last.to(at::kFloat);
  // Logarithms throughout: a probability that rounds to 0 keeps its logarithm, and the rest, a sum over the other
  // tokens, never becomes negative.
  const at::Tensor log_BPV = wide.log_softmax(-1);
  at::Tensor p = teacher.prob_BPK1.narrow(-1, 0, k), log_q = log_BPV.gather(-1, teacher.index_BPK);
  if (!mode.drop) {
    p = teacher.prob_BPK1;
    const at::Tensor log_rest = log_BPV.scatter(-1, teacher.index_BPK, kLogOfNothing).logsumexp(-1, /*keepdim=*/true);
    log_q = at::cat({log_q, log_rest}, -1);
    if (mode.smooth > 0) {
      const at::Tensor q = log_q.exp() + mode.smooth;
      p = p + mode.smooth;
      log_q = (q / q.sum(-1, true)).log();
    }
    p = p / p.sum(-1, true);
  }
  // 0 log 0 = 0: a class that the teacher never takes costs nothing, and gives no gradient.
  return at::where(p > 0, p * (p.log() - log_q), 0.0).sum() / static_cast<double>(B * P);
}

}  // namespace cepe
