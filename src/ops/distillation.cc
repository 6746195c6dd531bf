#include "ops/distillation.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "ops/scaled_gradient.h"

namespace cepe {
namespace {

// Stands for the logarithm of 0 where its gradient must stay finite.
constexpr double kLogOfNothing = -1e30;

// With a vocabulary of 49k, 2048 rows in float32 take 400 MB, and a block holds up to four such tensors.
int64_t rows_at_once(const at::Tensor& hidden, const DistillationRows& rows) {
  if (rows.block_rows > 0) return rows.block_rows;
  return hidden.is_cuda() ? 2048 : 256;
}

// log softmax(hidden head^T / temperature) of rows start .. start + n, in float32 or wider.
struct Block {
  int64_t start, n;
};
at::Tensor log_probs(const at::Tensor& hidden_ND, const at::Tensor& head_VD, Block block, double temperature) {
  at::Tensor logits = at::linear(hidden_ND.narrow(0, block.start, block.n), head_VD);
  if (logits.scalar_type() != at::kDouble) logits = logits.to(at::kFloat);
  if (temperature != 1.0) logits.div_(temperature);
  return logits.log_softmax(-1);
}

// Divergence of a block's rows and, where asked for, its gradient by the student's logits.
struct BlockDivergence {
  at::Tensor loss_N, grad_NV;
};
// Takes the student's log-probabilities of the block's rows, which it may overwrite.
using DivergenceOfRows = std::function<BlockDivergence(at::Tensor log_q_NV, Block block, bool gradient)>;

class LinearDivergenceSum : public torch::autograd::Function<LinearDivergenceSum> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& hidden_ND,
                            const at::Tensor& head_VD, const DistillationRows& rows,
                            const DivergenceOfRows& divergence) {
    at::AutoDispatchBelowAutograd guard;
    const bool gradient = hidden_ND.requires_grad();
    const int64_t N = hidden_ND.size(0), step = rows_at_once(hidden_ND, rows);
    at::Tensor grad_ND = gradient ? at::empty_like(hidden_ND, at::MemoryFormat::Contiguous) : at::Tensor();
    at::Tensor total;
    for (int64_t start = 0; start < N; start += step) {
      const Block here{start, std::min(step, N - start)};
      const at::Tensor weight = rows.weight_N.defined() ? rows.weight_N.narrow(0, start, here.n) : at::Tensor();
      BlockDivergence block = divergence(log_probs(hidden_ND, head_VD, here, rows.temperature), here, gradient);
      const at::Tensor loss = (weight.defined() ? block.loss_N * weight : block.loss_N).sum();
      total = total.defined() ? total + loss : loss;
      if (!gradient) continue;
      if (weight.defined()) block.grad_NV.mul_(weight.unsqueeze(1));
      if (rows.temperature != 1.0) block.grad_NV.div_(rows.temperature);
      at::Tensor slice = grad_ND.narrow(0, start, here.n);
      at::mm_out(slice, block.grad_NV.to(head_VD.scalar_type()), head_VD);
    }
    if (gradient) ctx->save_for_backward({grad_ND});
    return total;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const at::Tensor grad_ND = ctx->get_saved_variables()[0];
    return {scaled_gradient(grad_ND, grads[0]), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

// d/dlogits of sum p (log p - log q) is q - p.
BlockDivergence full_divergence(at::Tensor log_q_NV, at::Tensor log_p_NV, bool gradient) {
  const at::Tensor p = log_p_NV.exp();
  const at::Tensor loss = log_p_NV.sub_(log_q_NV).mul_(p).sum(-1);
  if (!gradient) return {loss, {}};
  return {loss, log_q_NV.exp_().sub_(p)};
}

// The classes of top-k: `log_q` (n, C), C = K, or K + 1 with the rest, are the student's, `p` the teacher's,
// normalised. d loss / d log q_c = -a_c; with smoothing q / (q + smooth) of p, as the sum of the smoothed is constant.
struct Classes {
  at::Tensor p, log_q, a;
};

Classes dropped_rest(const at::Tensor& log_q_NV, const at::Tensor& prob_NK1, const at::Tensor& index_NK) {
  const at::Tensor p = prob_NK1.narrow(1, 0, index_NK.size(1));
  return {p, log_q_NV.gather(1, index_NK), p};
}

Classes with_rest(const at::Tensor& log_q_NK1, const at::Tensor& prob_NK1, double smooth) {
  const at::Tensor wide = prob_NK1 + smooth, p = wide / wide.sum(-1, true);
  if (smooth == 0) return {p, log_q_NK1, p};
  const at::Tensor q = log_q_NK1.exp(), smoothed = q + smooth;
  return {p, (smoothed / smoothed.sum(-1, true)).log(), p * q / smoothed};
}

// With A the sum of all a_c: d loss / d logits_v = A q_v - a_v for the teacher's tokens, and A q_v - a_rest q_v /
// q_rest for the others.
BlockDivergence top_k_divergence(at::Tensor log_q_NV, const TeacherTopK& teacher, const DistillMode& mode,
                                 bool gradient) {
  const int64_t K = teacher.index_NK.size(1);
  const at::Tensor prob = teacher.prob_NK1.to(log_q_NV.scalar_type()), &index = teacher.index_NK;
  at::Tensor others, log_rest;  // log q of the rest's tokens, and of their sum
  Classes classes;
  if (mode.drop) {
    classes = dropped_rest(log_q_NV, prob, index);
  } else {
    // From the other tokens' logarithms: 1 - the sum would round to 0 or below.
    others = log_q_NV.scatter(1, index, kLogOfNothing);
    log_rest = others.logsumexp(-1, /*keepdim=*/true);
    classes = with_rest(at::cat({log_q_NV.gather(1, index), log_rest}, 1), prob, mode.smooth);
  }
  const at::Tensor taken = classes.p > 0;
  const at::Tensor loss = at::where(taken, classes.p * (classes.p.log() - classes.log_q), 0.0).sum(-1);
  if (!gradient) return {loss, {}};
  const at::Tensor a = at::where(taken, classes.a, 0.0);
  at::Tensor grad = log_q_NV.exp_().mul_(a.sum(-1, true));
  grad.scatter_add_(1, index, a.narrow(1, 0, K).neg());
  if (!mode.drop) grad.sub_(others.sub_(log_rest).exp_().mul_(a.narrow(1, K, 1)));
  return {loss, grad};
}

void check_rows(const at::Tensor& hidden_ND, const at::Tensor& head_VD, const DistillationRows& rows) {
  require(hidden_ND.dim() == 2, "distillation: the hidden states should be a matrix, found {} dimensions",
          hidden_ND.dim());
  require(hidden_ND.size(0) > 0, "distillation: no positions");
  const at::Tensor& weight_N = rows.weight_N;
  if (weight_N.defined()) {
    require(weight_N.dim() == 1 && weight_N.size(0) == hidden_ND.size(0),
            "distillation: {} hidden states and {} weights in {} dimensions", hidden_ND.size(0), weight_N.numel(),
            weight_N.dim());
    require(weight_N.scalar_type() == at::kFloat, "distillation: expected weights in float32, found {}",
            c10::toString(weight_N.scalar_type()));
  }
  require(rows.temperature > 0 && std::isfinite(rows.temperature),
          "distillation: expected a temperature above 0, found {}", rows.temperature);
  require(!head_VD.requires_grad(),
          "distillation: the head's weight requires a gradient, which this form does not give");
}

void check_teacher(const at::Tensor& student_ND, const at::Tensor& head_VD, const TeacherTopK& teacher) {
  require(teacher.prob_NK1.dim() == 2 && teacher.index_NK.dim() == 2,
          "distillation: the teacher's probabilities and tokens should be matrices, found {} and {} dimensions",
          teacher.prob_NK1.dim(), teacher.index_NK.dim());
  const int64_t K = teacher.index_NK.size(1), N = student_ND.size(0);
  require(teacher.prob_NK1.size(1) == K + 1, "distillation: {} teacher probabilities for {} tokens and the rest",
          teacher.prob_NK1.size(1), K);
  require(teacher.prob_NK1.size(0) == N && teacher.index_NK.size(0) == N,
          "distillation: the teacher covers {} positions, the student {}", teacher.prob_NK1.size(0), N);
  require(K >= 1 && K < head_VD.size(0), "distillation: {} tokens of the teacher, the vocabulary has {}", K,
          head_VD.size(0));
}

}  // namespace

at::Tensor linear_distillation_sum(const at::Tensor& student_ND, const at::Tensor& teacher_ND,
                                   const at::Tensor& head_weight_VD, const DistillationRows& rows) {
  check_rows(student_ND, head_weight_VD, rows);
  require(teacher_ND.dim() == 2, "distillation: the teacher's hidden states should be a matrix, found {} dimensions",
          teacher_ND.dim());
  require(student_ND.sizes() == teacher_ND.sizes(),
          "distillation: the student has {} hidden states of width {}, the teacher {} of width {}", student_ND.size(0),
          student_ND.size(1), teacher_ND.size(0), teacher_ND.size(-1));
  const at::Tensor teacher = teacher_ND.detach();
  return LinearDivergenceSum::apply(
      student_ND, head_weight_VD, rows, DivergenceOfRows([&](at::Tensor log_q_NV, Block block, bool gradient) {
        return full_divergence(std::move(log_q_NV), log_probs(teacher, head_weight_VD, block, rows.temperature),
                               gradient);
      }));
}

TeacherTopK linear_top_k(const at::Tensor& teacher_ND, const at::Tensor& head_weight_VD, int64_t k,
                         const DistillationRows& rows) {
  check_rows(teacher_ND, head_weight_VD, rows);
  require(k >= 1 && k < head_weight_VD.size(0), "distillation: {} tokens of the teacher, the vocabulary has {}", k,
          head_weight_VD.size(0));
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> probs, indices;
  const int64_t N = teacher_ND.size(0), step = rows_at_once(teacher_ND, rows);
  for (int64_t start = 0; start < N; start += step) {
    at::Tensor p = log_probs(teacher_ND, head_weight_VD, {start, std::min(step, N - start)}, rows.temperature).exp_();
    const auto [top, index] = p.topk(k, -1);
    p.scatter_(1, index, 0.0);
    probs.push_back(at::cat({top, p.sum(-1, true)}, 1));
    indices.push_back(index);
  }
  return {at::cat(probs), at::cat(indices)};
}

DistillMode distill_mode_from_name(const std::string& name, const std::string& what) {
  if (name == "drop") return {};
  constexpr std::string_view prefix = "smooth_";
  DistillMode mode{.drop = false};
  const char* const end = name.data() + name.size();
  const bool smooth = name.starts_with(prefix);
  const auto [stop, error] = std::from_chars(name.data() + (smooth ? prefix.size() : 0), end, mode.smooth);
  require(smooth && error == std::errc() && stop == end && std::isfinite(mode.smooth) && mode.smooth >= 0,
          "{}: expected drop, or smooth_ and a number of at least 0, found \"{}\"", what, name);
  return mode;
}

at::Tensor linear_top_k_distillation_sum(const at::Tensor& student_ND, const at::Tensor& head_weight_VD,
                                         const TeacherTopK& teacher, const DistillMode& mode,
                                         const DistillationRows& rows) {
  check_rows(student_ND, head_weight_VD, rows);
  check_teacher(student_ND, head_weight_VD, teacher);
  require(mode.smooth >= 0 && std::isfinite(mode.smooth), "distillation: expected a smoothing of at least 0, found {}",
          mode.smooth);
  return LinearDivergenceSum::apply(student_ND, head_weight_VD, rows,
                                    DivergenceOfRows([&](at::Tensor log_q_NV, Block block, bool gradient) {
                                      const TeacherTopK here{teacher.prob_NK1.narrow(0, block.start, block.n),
                                                             teacher.index_NK.narrow(0, block.start, block.n)};
                                      return top_k_divergence(std::move(log_q_NV), here, mode, gradient);
                                    }));
}

}  // namespace cepe
