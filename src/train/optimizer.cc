#include "train/optimizer.h"

#include <ATen/ATen.h>

#include "base/error.h"

namespace cepe {

AdamW::AdamW(std::vector<at::Tensor> parameters, const AdamWOptions& options)
    : options_(options), parameters_(std::move(parameters)) {
  require(!parameters_.empty(), "AdamW: nothing to train");
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor& p = parameters_[i];
    require(p.scalar_type() == at::kFloat && p.is_leaf() && p.requires_grad(), "AdamW: parameter {} is no float32 leaf",
            i);
    state_.averages.push_back(at::zeros_like(p, p.options().requires_grad(false)));
    state_.square_averages.push_back(at::zeros_like(p, p.options().requires_grad(false)));
    (p.dim() >= 2 && options.weight_decay != 0 ? decayed_ : plain_).push_back(i);
  }
  state_.updates = at::zeros({}, parameters_[0].options().requires_grad(false));
}

std::vector<at::Tensor> AdamW::take_gradients() {
  std::vector<at::Tensor> gradients;
  for (at::Tensor& p : parameters_) {
    gradients.push_back(p.grad().defined() ? p.grad().contiguous() : at::zeros_like(p));
    p.mutable_grad() = at::Tensor();
  }
  return gradients;
}

at::Tensor AdamW::step(double learning_rate) {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> gradients = take_gradients();
  const at::Tensor norm = at::linalg_vector_norm(at::stack(at::_foreach_norm(gradients, 2)), 2);
  update(gradients, norm, norm.isfinite(), learning_rate);
  return norm;
}

void AdamW::update(const std::vector<at::Tensor>& gradients, const at::Tensor& norm, const at::Tensor& is_finite,
                   double learning_rate) {
  const at::NoGradGuard no_grad;
  const at::Tensor finite = is_finite.to(at::kFloat), skip = 1 - finite;
  const at::Tensor scale = options_.clip > 0 ? norm.div(options_.clip).clamp_min(1) : at::ones_like(norm);
  state_.updates.add_(finite);
  const Step step{gradients, scale, skip, learning_rate};
  update(plain_, step, 0.0);
  update(decayed_, step, options_.weight_decay);
}

void AdamW::update(const std::vector<size_t>& group, const Step& step, double weight_decay) {
  if (group.empty()) return;
  std::vector<at::Tensor> p, g, m, v;
  for (size_t i : group) {
    p.push_back(parameters_[i]);
    g.push_back(step.gradients[i]);
    m.push_back(state_.averages[i]);
    v.push_back(state_.square_averages[i]);
  }
  // The kernel divides the gradient by `scale` and does nothing where `skip` is 1: both are read on the device.
  at::_fused_adamw_(p, g, m, v, {}, std::vector<at::Tensor>(group.size(), state_.updates), step.learning_rate,
                    options_.beta1, options_.beta2, weight_decay, options_.epsilon, /*amsgrad=*/false,
                    /*maximize=*/false, step.scale, step.skip);
}

}  // namespace cepe
