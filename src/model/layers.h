// The weights of a model, as plain structs of tensors. What a layer computes of them: layer/layer_walk.h.
//
// Shape suffixes: B batch, M chunks, L chunk length, S = M*L context tokens, T decoder tokens, D decoder width,
// E encoder width, H query heads, G key-value heads, K head size, F feed-forward width, V vocabulary.
// A stack's own width is written D here, for the encoder too.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "model/config.h"
#include "ops/gemv/quantised_weight.h"
#include "ops/ops.h"

namespace cepe {

// y = x weight^T + bias. Quantised (weight_type.h) it has no dense weight; cross-attention's k and v, whose matrices
// the absorbed form reads, may have both.
struct Linear : Matrix {
  at::Tensor bias = {};  // (out), undefined where the layer has none
  at::Tensor operator()(const at::Tensor& x) const;
};

struct SelfAttention {
  Linear q;           // (H*K, D)
  Linear k, v;        // (G*K, D)
  Linear o;           // (D, H*K)
  at::Tensor q_norm;  // (K), Qwen3 only
  at::Tensor k_norm;  // (K), Qwen3 only
  Linear qkv;         // ((H + 2 G)*K, D): q, k and v in one, where merge_projections() made them views of it
};

// Reads the encoder's states: no positions, no causal mask (method: section "Architecture").
struct CrossAttention {
  at::Tensor norm;  // (D), cross_attn.layernorm
  Linear q;         // (H*K, D)
  Linear k, v;      // (G*K, E)
  Linear o;         // (D, H*K)
  // Of variants (cross_variants.h), undefined without them.
  at::Tensor null_key;       // (G*K)
  at::Tensor position_keys;  // (position_buckets, G*K)
};

struct FeedForward {
  Linear gate, up;  // (F, D)
  Linear down;      // (D, F)
  Linear gate_up;   // (2 F, D): gate and up in one, where merge_projections() made them views of it
};

struct Layer {
  at::Tensor input_norm;  // (D)
  SelfAttention self_attention;
  std::optional<CrossAttention> cross_attention;  // between self-attention and feed-forward
  at::Tensor post_attention_norm;                 // (D)
  FeedForward feed_forward;
};

// Cosines and sines for a stack, kept from call to call and made anew for longer sequences. Threads may share it: a
// table is never written once it is handed out. (On a GPU they must share a stream as well, or order their first use.)
class RotaryCache {
 public:
  RotaryCache() = default;
  RotaryCache(const RotaryCache& other) { *this = other; }
  RotaryCache& operator=(const RotaryCache& other);

  // A table of at least `positions` rows, in float32 (float64 for a float64 model) on the device. With
  // RopeKind::dynamic the frequencies depend on the length, as in Hugging Face's implementation.
  RotaryTable table(const StackConfig& config, int64_t positions, const at::Tensor& like) const;

 private:
  mutable std::mutex mutex_;  // of the two below
  mutable RotaryTable table_;
  mutable int64_t positions_ = 0;
};

// What of a layer's activations is not kept for the backward pass but computed again in it: nothing, its feed-forward
// part (norm included), or all of it, so that only what comes into the layer is kept. The numbers are the same.
enum class Recompute { none, feed_forward, layers };

struct Stack {
  StackConfig config;
  Recompute recompute = Recompute::none;  // where gradients are recorded (layer/eager_layers.h)
  at::Tensor embedding;                   // (V, D)
  std::vector<Layer> layers;
  at::Tensor norm;  // (D)
  RotaryCache rotary;
};

// Keys and values of one layer for the tokens decoded so far.
struct LayerCache {
  at::Tensor k_BSGK, v_BSGK;  // allocated for the whole capacity
};

// A decoder's key-value cache: `length` tokens of `capacity` are filled. decode() appends.
struct KeyValueCache {
  std::vector<LayerCache> layers;
  int64_t length = 0;
  int64_t capacity = 0;
};
KeyValueCache make_cache(const Stack& stack, int64_t batch, int64_t capacity);

// Those of a layer of such a stack that ask for a gradient, by the list of parameters() (cepe.h).
std::vector<at::Tensor> trained_weights(Layer layer, const StackConfig& config);

// cos and sin of positions 0 .. positions-1 in float64, (positions, K/2); the formulas of every RopeKind.
RotaryTable rotary_table(const StackConfig& config, int64_t positions);

}  // namespace cepe
