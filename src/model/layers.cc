#include "model/layers.h"

#include <ATen/ATen.h>

#include "base/error.h"
#include "ops/gemm/fused_gemm.h"
#include "ops/gemv/gemv.h"

namespace cepe {

at::Tensor Linear::operator()(const at::Tensor& x) const {
  if (!quantised && gemv_applies(x, weight)) return gemv(x, weight, {.bias = bias});
  if (!quantised) return bias.defined() ? at::linear(x, weight, bias) : at::linear(x, weight);
  if (gemv_applies(x, *quantised)) return gemv(x, *quantised, {.bias = bias});
  const at::Tensor y = quantised_linear(x, *quantised);
  return bias.defined() ? y + bias : y;
}

namespace {

// Whether the product is one in which x is rounded to fp8; with few rows it is not.
bool rounds(const Linear& linear, const at::Tensor& x) {
  return linear.quantised && linear.quantised->type == WeightType::fp8 && x.scalar_type() == at::kBFloat16 &&
         !gemv_applies(x, *linear.quantised);
}

// x (..., any) gave the rows -> (..., out)
at::Tensor rounded_product(const Fp8Rows& rows, const Linear& linear, const at::Tensor& x) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = linear.quantised->out;
  const at::Tensor y = fp8_product(rows, {linear.quantised->values, linear.quantised->scales}).view(shape);
  return linear.bias.defined() ? y + linear.bias : y;
}

// Whether a product may add to the residual stream itself, which cuBLAS does as it writes: no pass over memory for it.
bool adds_in_place(const FeedForward& weights, const at::Tensor& x, const at::Tensor& residual) {
  const Linear& linear = weights.down;
  return x.is_cuda() && !c10::GradMode::is_enabled() && !linear.quantised && !linear.bias.defined() &&
         residual.is_contiguous() && residual.scalar_type() == linear.weight.scalar_type() &&
         !gemv_applies(x, weights.up.weight);
}

// A matrix as it is, and nothing else.
bool plain(const Linear& linear) { return !linear.quantised && !linear.bias.defined(); }

// Of the tokens that ask, and of all; queries and keys at their positions.
RotaryGemm queries_keys_values(const SelfAttention& weights, const at::Tensor& x_BTD, const SelfAttentionInput& input) {
  const StackConfig& config = input.config;
  const int64_t B = x_BTD.size(0), T = x_BTD.size(1), K = config.head_dim;
  const int64_t Q = input.queries > 0 ? input.queries : T;
  if (Q == T && !config.qk_norm && plain(weights.q) && plain(weights.k) && plain(weights.v)) {
    return rotary_gemm(x_BTD, {weights.q.weight, weights.k.weight, weights.v.weight}, input.rotary, input.first);
  }
  SharedInput input_of_all(x_BTD);
  at::Tensor q = Q == T ? input_of_all.product(weights.q) : weights.q(x_BTD.narrow(1, T - Q, Q));
  q = q.view({B, Q, config.num_heads, K});
  at::Tensor k = input_of_all.product(weights.k).view({B, T, config.num_kv_heads, K});
  const at::Tensor v = input_of_all.product(weights.v).view({B, T, config.num_kv_heads, K});
  if (config.qk_norm) {
    q = rms_norm(q, weights.q_norm, config.rms_norm_eps);
    k = rms_norm(k, weights.k_norm, config.rms_norm_eps);
  }
  return {rotary(q, input.rotary, input.first + T - Q), rotary(k, input.rotary, input.first), v};
}

// silu(gate) * up
at::Tensor gated(const FeedForward& weights, const at::Tensor& x) {
  if (plain(weights.gate) && plain(weights.up)) return swiglu_gemm(x, weights.gate.weight, weights.up.weight);
  return swiglu(weights.gate(x), weights.up(x));
}

}  // namespace

at::Tensor SharedInput::product(const Linear& linear) {
  if (!rounds(linear, x_)) return linear(x_);
  if (!rounded_) rounded_ = fp8_rows(x_);
  return rounded_product(*rounded_, linear, x_);
}

KeyValueCache make_cache(const Stack& stack, int64_t batch, int64_t capacity) {
  KeyValueCache cache;
  cache.capacity = capacity;
  const auto shape = {batch, capacity, stack.config.num_kv_heads, stack.config.head_dim};
  for (int64_t i = 0; i < stack.config.num_layers; ++i) {
    cache.layers.push_back({at::empty(shape, stack.norm.options()), at::empty(shape, stack.norm.options())});
  }
  return cache;
}

at::Tensor self_attention(const SelfAttention& weights, const at::Tensor& x_BTD, const SelfAttentionInput& input) {
  const StackConfig& config = input.config;
  const int64_t B = x_BTD.size(0), T = x_BTD.size(1);
  auto [q, k, v] = queries_keys_values(weights, x_BTD, input);
  if (input.cache) {
    const int64_t total = input.first + T;
    require(total <= input.cache->k_BSGK.size(1), "key-value cache: {} tokens do not fit its capacity of {}", total,
            input.cache->k_BSGK.size(1));
    input.cache->k_BSGK.narrow(1, input.first, T).copy_(k);
    input.cache->v_BSGK.narrow(1, input.first, T).copy_(v);
    k = input.cache->k_BSGK.narrow(1, 0, total);
    v = input.cache->v_BSGK.narrow(1, 0, total);
  }
  const at::Tensor out = attention(q, k, v, input.mask);
  return weights.o(out.reshape({B, out.size(1), config.num_heads * config.head_dim}));
}

at::Tensor feed_forward(const FeedForward& weights, const at::Tensor& x_BTD) {
  if (plain(weights.gate) && plain(weights.up)) return weights.down(gated(weights, x_BTD));
  SharedInput input(x_BTD);
  const at::Tensor gate = input.product(weights.gate), up = input.product(weights.up);
  if (rounds(weights.down, up)) {
    return rounded_product(fp8_swiglu(gate, up), weights.down, up);
  }
  return weights.down(swiglu(gate, up));
}

at::Tensor add_feed_forward(const FeedForward& weights, const at::Tensor& x_BTD, at::Tensor residual_BTD) {
  if (!adds_in_place(weights, x_BTD, residual_BTD)) return residual_BTD + feed_forward(weights, x_BTD);
  const at::Tensor hidden = gated(weights, x_BTD);
  const auto rows = [](const at::Tensor& x) { return x.view({-1, x.size(-1)}); };
  rows(residual_BTD).addmm_(rows(hidden), weights.down.weight.t());
  return residual_BTD;
}

}  // namespace cepe
