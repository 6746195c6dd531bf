#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

#include "base/error.h"
#include "ops/elementwise/elementwise_cuda.h"
#include "ops/ops.h"
#include "ops/scaled_gradient.h"
#include "ops/trained_head.h"

namespace cepe {
namespace {

// Rows of logits held at once: with a vocabulary of 49k, 8192 rows of bfloat16 take 800 MB; a CPU keeps to less.
int64_t block_rows(const at::Tensor& hidden) { return hidden.is_cuda() ? 8192 : 512; }

// Losses of one block; with `gradient`, also d loss / d logits.
struct BlockLoss {
  at::Tensor loss_N, grad_logits_NV;
};

BlockLoss block_cross_entropy(at::Tensor logits_NV, const at::Tensor& labels_N, bool gradient) {
  if (fused_applies(logits_NV)) {
    const at::Tensor loss = fused_cross_entropy(logits_NV, labels_N, gradient);
    return {loss, logits_NV};
  }
  const at::Tensor scored = labels_N.ge(0), index = labels_N.clamp_min(0).unsqueeze(1);
  const at::Tensor wide = logits_NV.scalar_type() == at::kDouble ? logits_NV : logits_NV.to(at::kFloat);
  at::Tensor log_probs = wide.log_softmax(-1);
  const at::Tensor loss = log_probs.gather(1, index).squeeze(1).neg().mul(scored);
  if (!gradient) return {loss, {}};
  at::Tensor grad = log_probs.exp_();
  grad.scatter_add_(1, index, at::full_like(index, -1, grad.options()));
  return {loss, grad.mul_(scored.unsqueeze(1)).to(logits_NV.scalar_type())};
}

// The gradient of a head that is trained: the sum over blocks of d loss / d logits^T x hidden, in float32 or wider, so
// that blocks of bfloat16 do not round each other away.
class HeadGradient {
 public:
  HeadGradient() = default;  // of a frozen head
  HeadGradient(const at::Tensor& head_VD, const std::optional<at::Tensor>& bias_V) {
    const auto wide = [](const at::Tensor& like) {
      return at::zeros_like(like, like.options().dtype(like.scalar_type() == at::kDouble ? at::kDouble : at::kFloat));
    };
    if (head_VD.requires_grad()) head_VD_ = wide(head_VD);
    if (bias_V && bias_V->requires_grad()) bias_V_ = wide(*bias_V);
  }
  bool wanted() const { return head_VD_.defined() || bias_V_.defined(); }
  void add(const at::Tensor& grad_logits_NV, const at::Tensor& hidden_ND, const at::Tensor& weight_N) {
    if (!wanted()) return;
    at::Tensor grad = grad_logits_NV;
    if (weight_N.defined()) grad = (grad * weight_N.unsqueeze(1)).to(grad.scalar_type());
    if (bias_V_.defined()) bias_V_.add_(grad.sum(0, /*keepdim=*/false, bias_V_.scalar_type()));
    if (head_VD_.defined()) head_VD_.add_(at::mm(grad.t(), hidden_ND));
  }
  at::Tensor of_head(const at::Tensor& like) const { return in_type_of(head_VD_, like); }
  at::Tensor of_bias(const std::optional<at::Tensor>& like) const {
    return like ? in_type_of(bias_V_, *like) : at::Tensor();
  }

 private:
  static at::Tensor in_type_of(const at::Tensor& sum, const at::Tensor& like) {
    return sum.defined() ? sum.to(like.scalar_type()) : sum;
  }
  at::Tensor head_VD_, bias_V_;  // undefined where not trained
};

// A scalar of the loss's gradient times a saved one; undefined where there is none.
at::Tensor scaled(const at::Tensor& saved, const at::Tensor& factor) {
  if (!saved.defined()) return saved;
  return saved.dim() == 2 ? scaled_gradient(saved, factor) : scaled_gradient(saved.unsqueeze(0), factor).squeeze(0);
}

struct Scored {
  at::Tensor labels_N, weight_N;  // weight_N: undefined, 1 each
  bool gradients = true;          // wanted at all: forward() runs without them
};

class LinearCrossEntropySum : public torch::autograd::Function<LinearCrossEntropySum> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& hidden_ND,
                            const at::Tensor& head_VD, const std::optional<at::Tensor>& bias_V, const Scored& scored) {
    at::AutoDispatchBelowAutograd guard;
    HeadGradient head_gradient;
    if (scored.gradients) head_gradient = HeadGradient(head_VD, bias_V);
    const bool below = hidden_ND.requires_grad(), gradient = below || head_gradient.wanted();
    at::Tensor grad_ND = below ? at::empty_like(hidden_ND) : at::Tensor();
    at::Tensor total;
    const int64_t rows = hidden_ND.size(0), step = block_rows(hidden_ND);
    for (int64_t start = 0; start < rows; start += step) {
      const int64_t n = std::min(step, rows - start);
      const at::Tensor logits = at::linear(hidden_ND.narrow(0, start, n), head_VD, bias_V);
      BlockLoss block = block_cross_entropy(logits, scored.labels_N.narrow(0, start, n), gradient);
      const at::Tensor weight = scored.weight_N.defined() ? scored.weight_N.narrow(0, start, n) : at::Tensor();
      if (weight.defined()) block.loss_N = block.loss_N * weight;
      total = total.defined() ? total + block.loss_N.sum() : block.loss_N.sum();
      if (!gradient) continue;
      head_gradient.add(block.grad_logits_NV, hidden_ND.narrow(0, start, n), weight);
      if (!below) continue;
      at::Tensor slice = grad_ND.narrow(0, start, n);
      at::mm_out(slice, block.grad_logits_NV, head_VD);
      if (weight.defined()) slice.mul_(weight.unsqueeze(1));
    }
    if (gradient) ctx->save_for_backward({grad_ND, head_gradient.of_head(head_VD), head_gradient.of_bias(bias_V)});
    return total;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const torch::autograd::variable_list saved = ctx->get_saved_variables();
    return {scaled(saved[0], grads[0]), scaled(saved[1], grads[0]), scaled(saved[2], grads[0]), at::Tensor()};
  }
};

void check(const at::Tensor& hidden_ND, const at::Tensor& labels_N) {
  const int64_t rows = hidden_ND.size(0), labels = labels_N.size(0);
  require(rows == labels, "cross-entropy: {} hidden states and {} labels", rows, labels);
  require(rows > 0, "cross-entropy: no positions");
}

void check_frozen(const at::Tensor& head_VD) {
  require(!head_VD.requires_grad(),
          "cross-entropy: the head's weight requires a gradient, which this form does not give");
}

}  // namespace

at::Tensor trained_head_cross_entropy_sum(const at::Tensor& hidden_ND, const at::Tensor& head_VD,
                                          const at::Tensor& labels_N, const at::Tensor& weight_N,
                                          const at::Tensor& bias_V) {
  check(hidden_ND, labels_N);
  require(!weight_N.defined() || (weight_N.scalar_type() == at::kFloat && weight_N.sizes() == labels_N.sizes()),
          "cross-entropy: weights of {} positions, expected {} in float32", weight_N.defined() ? weight_N.numel() : 0,
          labels_N.numel());
  return LinearCrossEntropySum::apply(hidden_ND, head_VD, bias_V.defined() ? std::optional(bias_V) : std::nullopt,
                                      Scored{labels_N, weight_N, at::GradMode::is_enabled()});
}

at::Tensor linear_cross_entropy_sum(const at::Tensor& hidden_ND, const at::Tensor& head_weight_VD,
                                    const at::Tensor& labels_N, const at::Tensor& weight_N) {
  check_frozen(head_weight_VD);
  return trained_head_cross_entropy_sum(hidden_ND, head_weight_VD, labels_N, weight_N);
}

at::Tensor linear_cross_entropy(const at::Tensor& hidden_ND, const at::Tensor& head_weight_VD,
                                const at::Tensor& labels_N) {
  check(hidden_ND, labels_N);
  check_frozen(head_weight_VD);
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> losses;
  const int64_t rows = hidden_ND.size(0), step = block_rows(hidden_ND);
  for (int64_t start = 0; start < rows; start += step) {
    const int64_t n = std::min(step, rows - start);
    const at::Tensor logits = at::linear(hidden_ND.narrow(0, start, n), head_weight_VD);
    losses.push_back(block_cross_entropy(logits, labels_N.narrow(0, start, n), false).loss_N);
  }
  return at::cat(losses);
}

}  // namespace cepe
