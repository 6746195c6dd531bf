#include "model/layer/eager_layers.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <limits>
#include <utility>

#include "base/error.h"
#include "model/layer/layer_walk.h"
#include "ops/gemm/fused_gemm.h"
#include "ops/gemv/gemv.h"
#include "ops/ops.h"
#include "ops/recompute.h"

namespace cepe {
namespace {

bool walks_context(const EagerLayers&) { return false; }
bool walks_context(const EagerDecoderLayers& run) { return run.reads_context(); }

constexpr size_t kReadsNothing = std::numeric_limits<size_t>::max();  // as a layer's place

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

std::vector<at::Tensor> EagerLayers::take_state(size_t) { return {std::exchange(x_, {}), std::exchange(added_, {})}; }

void EagerLayers::set_state(size_t, const std::vector<at::Tensor>& state) { x_ = state.at(0), added_ = state.at(1); }

const at::Tensor& EagerLayers::residual() {
  if (added_.defined()) x_ = x_ + std::exchange(added_, {});
  return x_;
}

EagerDecoderLayers::EagerDecoderLayers(at::Tensor x_BTD, const Stack& stack, const RotaryTable& rotary,
                                       const EagerDecoding& decoding)
    : EagerLayers(std::move(x_BTD), stack.config, rotary, {.causal = true}),
      decoding_(decoding),
      context_(decoding.context ? *decoding.context : Latents{}),
      layers_(stack.layers.size()) {
  decoding_.context = nullptr;
  first_ = decoding_.cache ? decoding_.cache->length : 0;
  const bool as_trained = decoding_.form == CrossAttentionForm::automatic && decoding_.block_tokens == 0 &&
                          !decoding_.mass && !decoding_.cache;
  if (as_trained && reads_context()) project_context(stack);
}

// Where gradients are wanted each layer would project the context's states by two small products, and its gradients of
// the states be summed with the others'. One product of all layers does both.
void EagerDecoderLayers::project_context(const Stack& stack) {
  const Latents& context = context_;
  // What else changes keys or queries is the layer's own (cross_attention.cc).
  if (config_.cross.only_materialised() || config_.cross.query_log_scale != 0) return;
  std::vector<at::Tensor> weights;
  for (const Layer& layer : stack.layers) {
    place_.push_back(layer.cross_attention ? weights.size() / 2 : kReadsNothing);
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
  const ContextCache* kept = context_.cache.get();
  const CrossAttentionOptions how{decoding_.form, decoding_.block_tokens, kept ? &kept->layers.at(layer_) : nullptr,
                                  decoding_.mass, decoding_.context_queries};
  return cepe::read_context(weights, config_, q_BTHK, context_, how).reshape(q_BTN.sizes());
}

// Of the context the layer's keys and values where those of all layers were projected together, else its states.
std::vector<at::Tensor> EagerDecoderLayers::take_state(size_t layer) {
  std::vector<at::Tensor> state = EagerLayers::take_state(layer);
  if (projected_) {
    if (place_[layer] == kReadsNothing) return state;
    state.insert(state.end(), {projected_->keys(place_[layer]), projected_->values(place_[layer])});
  } else {
    state.push_back(context_.states_BSE);
  }
  return state;
}

void EagerDecoderLayers::set_state(size_t layer, const std::vector<at::Tensor>& state) {
  EagerLayers::set_state(layer, state);
  if (state.size() == 2) return;
  if (projected_) {
    projected_->keys(place_[layer]) = state.at(2), projected_->values(place_[layer]) = state.at(3);
  } else {
    context_.states_BSE = state.at(2);
  }
}

namespace {

// The walk of a part of a layer, which is recorded as one operation. A layer that is copied is handles of tensors.
template <class Executor, class Walk>
void walk_recomputed(const Layer& layer, size_t index, Executor& run, const Walk& walk) {
  const std::vector<at::Tensor> state = run.take_state(index), weights = trained_weights(layer, run.config());
  const auto piece = [blank = run, layer, index, walk](const std::vector<at::Tensor>& given) {
    Executor again = blank;
    again.set_state(index, given);
    walk(layer, index, again);
    std::vector<at::Tensor> left = again.take_state(index);
    left.resize(2);
    return left;
  };
  run.set_state(index, recomputed(piece, state, weights));
}

template <class Executor>
void walk_as_said(const Stack& stack, size_t first, size_t end, Executor& run) {
  const bool recorded = at::GradMode::is_enabled() && run.self_contained();
  if (stack.recompute == Recompute::none || !recorded) return walk_layers(stack, first, end, run);
  const bool whole = stack.recompute == Recompute::layers;
  for (size_t i = first; i < end; ++i) {
    Layer layer = stack.layers[i];
    if (!walks_context(run)) layer.cross_attention.reset();  // its weights are not read
    if (whole) {
      walk_recomputed(layer, i, run,
                      [](const Layer& all, size_t index, Executor& again) { walk_layer(all, index, again); });
    } else {
      walk_attention(layer, i, run);
      Layer feed_forward;
      feed_forward.post_attention_norm = layer.post_attention_norm, feed_forward.feed_forward = layer.feed_forward;
      walk_recomputed(feed_forward, i, run,
                      [](const Layer& part, size_t, Executor& again) { walk_feed_forward(part, again); });
    }
  }
}

}  // namespace

void walk_eagerly(const Stack& stack, size_t first, size_t end, EagerLayers& run) {
  walk_as_said(stack, first, end, run);
}

void walk_eagerly(const Stack& stack, size_t first, size_t end, EagerDecoderLayers& run) {
  walk_as_said(stack, first, end, run);
}

}  // namespace cepe
