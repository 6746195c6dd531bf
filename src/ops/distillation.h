// Distillation losses: how far a student's distribution over the vocabulary is from a teacher's, where both come from
// the same frozen head. Logits are made for a block of rows at a time, forward and backward, so that tokens x
// vocabulary never stands in memory. Only the student's hidden states get a gradient, computed in the same pass as the
// loss. All run on CPU and CUDA, in float64 (references), float32 and bfloat16; softmax and sums are float32 or wider.
//
// Shape suffixes: N rows (tokens), D width, V vocabulary, K the teacher's tokens, K1 = K + 1.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace cepe {

struct DistillationRows {
  at::Tensor weight_N;       // float32, what each row's divergence counts; undefined: 1
  double temperature = 1.0;  // logits are divided by it. The factor temperature^2 of Hinton et al. 2015 is the caller's
  int64_t block_rows = 0;    // rows whose logits are held at once; 0: as suits the device
};

// sum_n weight_n KL(p_n || q_n), p and q = softmax(hidden head^T / temperature) of teacher and student.
// Hinton et al. 2015, arXiv 1503.02531. student and teacher (N, D), head_weight (V, D) -> scalar, float32 (float64 for
// float64 input).
at::Tensor linear_distillation_sum(const at::Tensor& student_ND, const at::Tensor& teacher_ND,
                                   const at::Tensor& head_weight_VD, const DistillationRows& rows = {});

// A teacher's distribution, told by its K most likely tokens and the rest of the vocabulary as one class.
struct TeacherTopK {
  at::Tensor prob_NK1;  // (N, K + 1), the last column the rest
  at::Tensor index_NK;  // (N, K) int64, no token twice in a row
};

// The K most likely tokens of each row, no gradient; of the options, weights have no say. teacher (N, D)
TeacherTopK linear_top_k(const at::Tensor& teacher_ND, const at::Tensor& head_weight_VD, int64_t k,
                         const DistillationRows& rows = {});

// How the class "rest" enters the divergence (Yen et al. 2024, arXiv 2402.16617).
struct DistillMode {
  bool drop = true;     // leave the rest out on both sides, without renormalising: the sum may be negative
  double smooth = 0.0;  // otherwise: add this to every class and renormalise
};
// "drop", or "smooth_D" with D of at least 0 (smooth_1e-6). Error naming `what` otherwise.
DistillMode distill_mode_from_name(const std::string& name, const std::string& what);

// sum_n weight_n KL(teacher_n || student_n), the student's probabilities gathered at the teacher's K tokens, and one
// minus their sum. A class to which the teacher gives no probability costs nothing (0 log 0 = 0). student (N, D)
at::Tensor linear_top_k_distillation_sum(const at::Tensor& student_ND, const at::Tensor& head_weight_VD,
                                         const TeacherTopK& teacher, const DistillMode& mode,
                                         const DistillationRows& rows = {});

}  // namespace cepe
