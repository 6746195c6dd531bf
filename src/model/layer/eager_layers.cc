#include "model/layer/eager_layers.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <utility>

#include "base/error.h"
#include "ops/gemm/fused_gemm.h"
#include "ops/gemv/gemv.h"
#include "ops/ops.h"

namespace cepe {
namespace {

// A matrix as it is, and nothing else.
bool plain(const Linear& linear) { return linear.dense() && !linear.bias.defined(); }

}  // namespace

SharedInput gated(const FeedForward& weights, const at::Tensor& x) {
  const Linear &gate = weights.gate, &up = weights.up;
  if (plain(gate) && plain(up)) return SharedInput(swiglu_gemm(x, gate.weight, up.weight));
  SharedInput input(x);
  const at::Tensor gates = input.product(gate, gate.bias), ups = input.product(up, up.bias);
  return SharedInput::swiglu(gates, ups, weights.down);
}

EagerLayers::EagerLayers(at::Tensor x_BTD, const StackConfig& config, const RotaryTable& rotary,
                         const AttentionMask& mask)
    : config_(config), rotary_(rotary), mask_(mask), x_(std::move(x_BTD)) {}

at::Tensor EagerLayers::norm(const at::Tensor& weight) {
  if (!added_.defined()) return rms_norm(x_, weight, config_.rms_norm_eps);
  NormedSum h = add_rms_norm(x_, std::exchange(added_, {}), weight, config_.rms_norm_eps);
  x_ = std::move(h.sum);
  return h.normed;
}

// q of the tokens that ask, k and v of all; q and k at their positions.
RotaryGemm EagerLayers::qkv(const SelfAttention& weights, const at::Tensor& x_BTD) {
  const int64_t B = x_BTD.size(0), T = x_BTD.size(1), K = config_.head_dim;
  const int64_t Q = queries_ > 0 ? queries_ : T;
  if (Q == T && !config_.qk_norm && plain(weights.q) && plain(weights.k) && plain(weights.v)) {
    return rotary_gemm(x_BTD, {weights.q.weight, weights.k.weight, weights.v.weight}, rotary_, first_);
  }
  SharedInput of_all(x_BTD);
  const auto heads = [&](const Linear& linear, int64_t count) {
    return of_all.product(linear, linear.bias).view({B, T, count, K});
  };
  at::Tensor q = Q == T ? heads(weights.q, config_.num_heads)
                        : weights.q(x_BTD.narrow(1, T - Q, Q)).view({B, Q, config_.num_heads, K});
  at::Tensor k = heads(weights.k, config_.num_kv_heads);
  const at::Tensor v = heads(weights.v, config_.num_kv_heads);
  if (config_.qk_norm) {
    q = rms_norm(q, weights.q_norm, config_.rms_norm_eps);
    k = rms_norm(k, weights.k_norm, config_.rms_norm_eps);
  }
  return {rotary(q, rotary_, first_ + T - Q), rotary(k, rotary_, first_), v};
}

at::Tensor EagerLayers::attention(const SelfAttention&, RotaryGemm qkv) {
  auto& [q, k, v] = qkv;
  const int64_t B = k.size(0), T = k.size(1), Q = q.size(1);
  if (cache_) {
    const int64_t total = first_ + T;
    require(total <= cache_->k_BSGK.size(1), "key-value cache: {} tokens do not fit its capacity of {}", total,
            cache_->k_BSGK.size(1));
    cache_->k_BSGK.narrow(1, first_, T).copy_(k);
    cache_->v_BSGK.narrow(1, first_, T).copy_(v);
    k = cache_->k_BSGK.narrow(1, 0, total);
    v = cache_->v_BSGK.narrow(1, 0, total);
  }
  if (Q < T) x_ = x_.narrow(1, T - Q, Q);  // what the layer gives for other tokens nobody reads
  return cepe::attention(q, k, v, mask_).reshape({B, Q, config_.num_heads * config_.head_dim});
}

// Where gradients are recorded the next layer's norm adds: its backward pass sums the stream's two gradients as well.
void EagerLayers::add_last(const Linear& linear, SharedInput x) {
  if (at::GradMode::is_enabled()) {
    added_ = x.product(linear, linear.bias);
  } else {
    x_ = x.add_product(std::move(x_), linear, linear.bias);
  }
}

const at::Tensor& EagerLayers::residual() {
  if (added_.defined()) x_ = x_ + std::exchange(added_, {});
  return x_;
}

EagerDecoderLayers::EagerDecoderLayers(at::Tensor x_BTD, const Stack& stack, const RotaryTable& rotary,
                                       const EagerDecoding& decoding)
    : EagerLayers(std::move(x_BTD), stack.config, rotary, {.causal = true}),
      decoding_(decoding),
      layers_(stack.layers.size()) {
  first_ = decoding_.cache ? decoding_.cache->length : 0;
  const bool as_trained = decoding_.form == CrossAttentionForm::automatic && decoding_.block_tokens == 0 &&
                          !decoding_.mass && !decoding_.cache;
  if (as_trained && reads_context()) project_context(stack);
}

// Where gradients are wanted each layer would project the context's states by two small products, and its gradients of
// the states be summed with the others'. One product of all layers does both.
void EagerDecoderLayers::project_context(const Stack& stack) {
  const Latents& context = *decoding_.context;
  // What else changes keys or queries is the layer's own (cross_attention.cc).
  if (config_.cross.only_materialised() || config_.cross.query_log_scale != 0) return;
  std::vector<at::Tensor> weights;
  for (const Layer& layer : stack.layers) {
    place_.push_back(weights.size() / 2);
    if (!layer.cross_attention) continue;
    const CrossAttention& cross = *layer.cross_attention;
    if (!plain(cross.k) || !plain(cross.v)) return;
    weights.insert(weights.end(), {cross.k.weight, cross.v.weight});
  }
  const int64_t B = residual().size(0), T = residual().size(1), E = context.states_BSE.size(2);
  const bool trains = at::GradMode::is_enabled() && !weights.empty() &&
                      (context.states_BSE.requires_grad() || weights.front().requires_grad());
  if (!trains || context.states_BSE.size(0) != B) return;
  if (choose_cross_attention_form(config_, E, T) != CrossAttentionForm::materialised) return;
  const at::Tensor all_BSN = gemv(context.states_BSE, at::cat(weights, 0));
  projected_.emplace(all_BSN, SharedKeys::Heads{config_.num_kv_heads, config_.head_dim}, context.mask_BS, T);
}

void EagerDecoderLayers::begin(size_t layer) {
  layer_ = layer;
  cache_ = decoding_.cache ? &decoding_.cache->layers[layer] : nullptr;
  queries_ = layer + 1 == layers_ ? decoding_.last : 0;
}

at::Tensor EagerDecoderLayers::read_context(const CrossAttention& weights, const at::Tensor& q_BTN) {
  const at::Tensor q_BTHK = q_BTN.view({q_BTN.size(0), q_BTN.size(1), config_.num_heads, config_.head_dim});
  if (projected_) return projected_->attend(q_BTHK, place_[layer_]).reshape(q_BTN.sizes());
  const Latents& context = *decoding_.context;
  const ContextCache* kept = context.cache.get();
  const CrossAttentionOptions how{decoding_.form, decoding_.block_tokens, kept ? &kept->layers.at(layer_) : nullptr,
                                  decoding_.mass};
  return cepe::read_context(weights, config_, q_BTHK, context, how).reshape(q_BTN.sizes());
}

}  // namespace cepe
