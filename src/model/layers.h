// The weights of a model, as plain structs of tensors, and the forward pass of one layer.
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
#include "ops/gemm/fp8.h"
#include "ops/gemv/quantised_weight.h"
#include "ops/ops.h"

namespace cepe {

struct Linear {
  at::Tensor weight;  // (out, in); undefined where quantised, but for cross-attention's k and v
  at::Tensor bias;    // (out), undefined where the layer has none
  std::shared_ptr<const QuantisedWeight> quantised =
      nullptr;  // the matrix in 8 or 4 bits (weight_type.h), instead of weight
  at::Tensor operator()(const at::Tensor& x) const;
};

// What several matrices are multiplied with: rounded to fp8 once for all of them that are held so.
class SharedInput {
 public:
  explicit SharedInput(const at::Tensor& x) : x_(x) {}
  at::Tensor product(const Linear& linear);  // linear(x)

 private:
  at::Tensor x_;
  std::optional<Fp8Rows> rounded_;
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

struct Stack {
  StackConfig config;
  at::Tensor embedding;  // (V, D)
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

// What one layer's self-attention needs to know beyond its weights.
struct SelfAttentionInput {
  const StackConfig& config;
  const RotaryTable& rotary;
  AttentionMask mask;           // causal for a decoder; the chunk's padding for an encoder
  LayerCache* cache = nullptr;  // decoder only
  int64_t first = 0;            // position of the first token; tokens in the cache
  int64_t queries = 0;          // the last so many of the T tokens ask, all are read; 0: all ask
};
// x (B, T, D), normed -> (B, queries, D)
at::Tensor self_attention(const SelfAttention& weights, const at::Tensor& x_BTD, const SelfAttentionInput& input);
at::Tensor feed_forward(const FeedForward& weights, const at::Tensor& x_BTD);
// residual + feed_forward(x); the residual stream's memory may become the result.
at::Tensor add_feed_forward(const FeedForward& weights, const at::Tensor& x_BTD, at::Tensor residual_BTD);

// cos and sin of positions 0 .. positions-1 in float64, (positions, K/2); the formulas of every RopeKind.
RotaryTable rotary_table(const StackConfig& config, int64_t positions);

}  // namespace cepe
