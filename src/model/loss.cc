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

at::Tensor distill_loss(const at::Tensor& logits_BTV, const TeacherTopK& teacher, const DistillMode& mode) {
  const int64_t B = teacher.prob_BPK1.size(0), P = teacher.prob_BPK1.size(1), k = teacher.index_BPK.size(2);
  require(logits_BTV.size(1) >= P, "distillation: the teacher covers {} positions, the student {}", P,
          logits_BTV.size(1));
  require(teacher.prob_BPK1.size(2) == k + 1, "distillation: {} teacher probabilities for {} tokens and the rest",
          teacher.prob_BPK1.size(2), k);
  const at::Tensor last = logits_BTV.narrow(1, logits_BTV.size(1) - P, P);
  const at::Tensor wide = last.scalar_type() == at::kDouble ? last : last.to(at::kFloat);
  const at::Tensor student_BPK = wide.softmax(-1).gather(-1, teacher.index_BPK);
  at::Tensor p, q;
  if (mode.drop) {
    p = teacher.prob_BPK1.narrow(-1, 0, k);
    q = student_BPK;
  } else {
    p = teacher.prob_BPK1 + mode.smooth;
    q = at::cat({student_BPK, 1 - student_BPK.sum(-1, /*keepdim=*/true)}, -1) + mode.smooth;
    p = p / p.sum(-1, true);
    q = q / q.sum(-1, true);
  }
  return (p * (p.log() - q.log())).sum() / static_cast<double>(B * P);
}

}  // namespace cepe
