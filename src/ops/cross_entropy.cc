#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

#include "base/error.h"
#include "ops/elementwise/elementwise_cuda.h"
#include "ops/ops.h"
#include "ops/scaled_gradient.h"

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

class LinearCrossEntropySum : public torch::autograd::Function<LinearCrossEntropySum> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& hidden_ND,
                            const at::Tensor& head_VD, const at::Tensor& labels_N,
                            const std::optional<at::Tensor>& weight_N) {
    at::AutoDispatchBelowAutograd guard;
    const bool gradient = hidden_ND.requires_grad();
    at::Tensor grad_ND = gradient ? at::empty_like(hidden_ND) : at::Tensor();
    at::Tensor total;
    const int64_t rows = hidden_ND.size(0), step = block_rows(hidden_ND);
    for (int64_t start = 0; start < rows; start += step) {
      const int64_t n = std::min(step, rows - start);
      const at::Tensor logits = at::linear(hidden_ND.narrow(0, start, n), head_VD);
      BlockLoss block = block_cross_entropy(logits, labels_N.narrow(0, start, n), gradient);
      const at::Tensor weight = weight_N ? weight_N->narrow(0, start, n) : at::Tensor();
      if (weight.defined()) block.loss_N = block.loss_N * weight;
      total = total.defined() ? total + block.loss_N.sum() : block.loss_N.sum();
      if (gradient) {
        at::Tensor slice = grad_ND.narrow(0, start, n);
        at::mm_out(slice, block.grad_logits_NV, head_VD);
        if (weight.defined()) slice.mul_(weight.unsqueeze(1));
      }
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

void check(const at::Tensor& hidden_ND, const at::Tensor& head_VD, const at::Tensor& labels_N) {
  const int64_t rows = hidden_ND.size(0), labels = labels_N.size(0);
  require(rows == labels, "cross-entropy: {} hidden states and {} labels", rows, labels);
  require(rows > 0, "cross-entropy: no positions");
  require(!head_VD.requires_grad(),
          "cross-entropy: the head's weight requires a gradient, which this form does not give");
}

}  // namespace

at::Tensor linear_cross_entropy_sum(const at::Tensor& hidden_ND, const at::Tensor& head_weight_VD,
                                    const at::Tensor& labels_N, const at::Tensor& weight_N) {
  check(hidden_ND, head_weight_VD, labels_N);
  require(!weight_N.defined() || (weight_N.scalar_type() == at::kFloat && weight_N.sizes() == labels_N.sizes()),
          "cross-entropy: weights of {} positions, expected {} in float32", weight_N.defined() ? weight_N.numel() : 0,
          labels_N.numel());
  return LinearCrossEntropySum::apply(hidden_ND, head_weight_VD, labels_N,
                                      weight_N.defined() ? std::optional(weight_N) : std::nullopt);
}

at::Tensor linear_cross_entropy(const at::Tensor& hidden_ND, const at::Tensor& head_weight_VD,
                                const at::Tensor& labels_N) {
  check(hidden_ND, head_weight_VD, labels_N);
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
