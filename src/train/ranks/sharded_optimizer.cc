#include "train/ranks/sharded_optimizer.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace cepe {

ShardedOptimizer::ShardedOptimizer(std::vector<at::Tensor> parameters, const AdamWOptions& options, Collectives& ranks)
    : ranks_(ranks), parameters_(std::move(parameters)), owners_(owners_of(parameters_, ranks.size())) {
  std::vector<at::Tensor> own;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (owners_[i] == ranks_.rank()) own.push_back(parameters_[i]);
  }
  if (!own.empty() || ranks.alone()) own_.emplace(own, options);
  if (!ranks.alone()) buckets_ = std::make_unique<GradientBuckets>(parameters_, owners_, ranks);
}

void ShardedOptimizer::expect_last_backward() {
  if (buckets_) buckets_->expect_last_backward();
}

void ShardedOptimizer::backward_is_done() {
  if (buckets_) buckets_->send_rest();
}

at::Tensor ShardedOptimizer::step(double learning_rate, const at::Tensor& loss) {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> gradients = buckets_ ? buckets_->take_sums() : own_->take_gradients();
  at::Tensor norms = own_ ? at::stack(at::_foreach_norm(gradients, 2)) : at::Tensor();
  if (buckets_) {
    // The norm of each tensor at its place, from whoever keeps it: the sum adds zeros alone, and the whole norm is that
    // of a single rank.
    const at::Tensor all = at::zeros({static_cast<int64_t>(parameters_.size())}, parameters_[0].options());
    const auto first = std::find(owners_.begin(), owners_.end(), ranks_.rank()) - owners_.begin();
    if (own_) all.narrow(0, first, norms.size(0)).copy_(norms);
    ranks_.sum(all)->wait();
    norms = all;
  }
  const at::Tensor norm = at::linalg_vector_norm(norms, 2);
  if (own_) own_->update(gradients, norm, norm.isfinite().logical_and(loss.isfinite()), learning_rate);
  if (buckets_) buckets_->share_parameters();
  return norm;
}

OptimizerState ShardedOptimizer::empty_state() const {
  OptimizerState state;
  for (const at::Tensor& parameter : parameters_) {
    state.averages.push_back(at::zeros(parameter.sizes(), at::kFloat));
    state.square_averages.push_back(at::zeros(parameter.sizes(), at::kFloat));
  }
  state.updates = at::zeros({}, at::kFloat);
  return state;
}

OptimizerState ShardedOptimizer::place_for_state() {
  if (ranks_.alone()) return own_->state();
  return ranks_.first() ? empty_state() : OptimizerState{};
}

OptimizerState ShardedOptimizer::state() {
  if (ranks_.alone()) return own_->state();
  const at::NoGradGuard no_grad;
  OptimizerState whole = place_for_state();
  size_t next = 0;  // of this rank's
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const bool own = owners_[i] == ranks_.rank();
    for (const bool squares : {false, true}) {
      const at::Tensor here = own ? (squares ? own_->state().square_averages : own_->state().averages)[next]
                                  : at::empty_like(parameters_[i], parameters_[i].options().requires_grad(false));
      if (owners_[i] != 0) ranks_.broadcast(here, owners_[i])->wait();
      if (ranks_.first()) (squares ? whole.square_averages : whole.averages)[i].copy_(here);
    }
    next += own;
  }
  if (ranks_.first()) whole.updates.copy_(own_->state().updates);
  return whole;
}

void ShardedOptimizer::load(const OptimizerState& state) {
  if (ranks_.alone()) return;
  const at::NoGradGuard no_grad;
  size_t next = 0;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor value = parameters_[i].detach().contiguous();
    ranks_.broadcast(value, 0)->wait();
    parameters_[i].copy_(value);
    const bool own = owners_[i] == ranks_.rank();
    for (const bool squares : {false, true}) {
      const at::Tensor travelling = at::empty_like(parameters_[i], parameters_[i].options().requires_grad(false));
      if (ranks_.first()) travelling.copy_((squares ? state.square_averages : state.averages)[i]);
      if (owners_[i] != 0) ranks_.broadcast(travelling, 0)->wait();
      if (own) (squares ? own_->state().square_averages : own_->state().averages)[next].copy_(travelling);
    }
    next += own;
  }
  const at::Tensor updates = at::zeros({1}, parameters_[0].options().requires_grad(false));
  if (ranks_.first()) updates.fill_(state.updates);
  ranks_.broadcast(updates, 0)->wait();
  if (own_) own_->state().updates.copy_(updates[0]);
}

}  // namespace cepe
