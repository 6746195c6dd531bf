// The training objectives (method: "Training").
#pragma once

#include "model/cepe.h"

namespace cepe {

// Mean of -log p(labels[t + 1] | ..t) over the labels >= 0; labels (B, T) as in Hugging Face: the label of position t
// is predicted by position t - 1. hidden (B, T, D) from decode().
at::Tensor next_token_loss(const Cepe& model, const at::Tensor& hidden_BTD, const at::Tensor& labels_BT);

// The same from logits (B, T, V), for a head that is not frozen or a mixture of distributions.
at::Tensor next_token_loss_from_log_probs(const at::Tensor& log_probs_BTV, const at::Tensor& labels_BT);

// The teacher's distribution over the last P positions of the decoder: its k best tokens and the rest as one class.
struct TeacherTopK {
  at::Tensor prob_BPK1;  // (B, P, k + 1), the last column the rest
  at::Tensor index_BPK;  // (B, P, k) int64
};
// How the class "rest" enters the divergence.
struct DistillMode {
  bool drop = true;     // leave the rest out on both sides, without renormalising
  double smooth = 0.0;  // otherwise: add this to every class and renormalise
};
// KL(teacher || student), the student's probabilities gathered at the teacher's k tokens and 1 - their sum; divided by
// batch * P. logits (B, T, V). Of a class to which the teacher gives no probability the term is 0 (0 log 0 = 0).
at::Tensor distill_loss(const at::Tensor& logits_BTV, const TeacherTopK& teacher, const DistillMode& mode);

}  // namespace cepe
