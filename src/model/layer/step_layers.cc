#include "model/layer/step_layers.h"

#include <ATen/ATen.h>

#include "model/layer/eager_layers.h"
#include "ops/ops.h"
#include "ops/step/step_ops.h"

namespace cepe {

at::Tensor StepLayers::attention(const SelfAttention& weights, const at::Tensor& qkv_BN) {
  input_.executor.launch();
  const LayerCache& cache = input_.cache.layers[layer_];
  return step_attention(qkv_BN, {.rotary = input_.rotary,
                                 .positions_B = input_.positions_B,
                                 .k_BSGK = cache.k_BSGK,
                                 .v_BSGK = cache.v_BSGK,
                                 .q_norm = weights.q_norm,
                                 .k_norm = weights.k_norm,
                                 .eps = input_.config.rms_norm_eps});
}

at::Tensor StepLayers::read_context(const CrossAttention& weights, const at::Tensor& q_BN) {
  BatchContexts contexts = input_.contexts;
  contexts.layer = layer_;
  const at::Tensor q_BTHK = q_BN.view({-1, 1, input_.config.num_heads, input_.config.head_dim});
  return read_contexts(weights, input_.config, q_BTHK, contexts, input_.executor).reshape(q_BN.sizes());
}

at::Tensor SeparateStepLayers::norm(const at::Tensor& weight) {
  if (!added_.defined()) return rms_norm(h_, weight, input_.config.rms_norm_eps);
  NormedSum h = add_rms_norm(h_, std::exchange(added_, {}), weight, input_.config.rms_norm_eps);
  h_ = std::move(h.sum);
  return h.normed;
}

at::Tensor SeparateStepLayers::qkv(const SelfAttention& weights, const at::Tensor& normed_BD) {
  if (weights.qkv.dense()) return weights.qkv(normed_BD);
  return at::cat({weights.q(normed_BD), weights.k(normed_BD), weights.v(normed_BD)}, 1);
}

SharedInput SeparateStepLayers::swiglu(const FeedForward& weights, const at::Tensor& normed_BD) {
  if (weights.gate_up.dense()) return SharedInput(step_swiglu(weights.gate_up(normed_BD)));
  return gated(weights, normed_BD);
}

void FusedStepLayers::add(const Linear& linear, const at::Tensor& x) {
  h_ = input_.executor.gemv(x, linear, {.bias = linear.bias, .residual = h_});
}

at::Tensor FusedStepLayers::fused(const Linear& linear, Normed normed, bool gated) {
  return input_.executor.gemv(
      h_, linear, {.norm = normed.weight, .eps = input_.config.rms_norm_eps, .bias = linear.bias, .gated = gated});
}

}  // namespace cepe
