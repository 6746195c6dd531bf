// Executors of layer_walk.h for many tokens: each operation runs when it is called, on LibTorch or our kernels, and
// autograd records it where gradients are wanted, but for what Stack::recompute says. An addition is one operation with
// the norm that follows it; the layer's last one is made by the product where no gradient is recorded, and cuBLAS can.
#pragma once

#include <optional>
#include <vector>

#include "model/cross_attention.h"
#include "model/layers.h"
#include "ops/gemm/fused_gemm_types.h"
#include "ops/gemv/shared_input.h"
#include "ops/shared_keys.h"

namespace cepe {

// silu(gate(x)) up(x), to be multiplied with down.
SharedInput gated(const FeedForward& weights, const at::Tensor& x);

// Layers that read no context: the encoder's, and a decoder's below its first cross-attention.
class EagerLayers {
 public:
  // x (B, T, D): the residual stream. mask: causal for a decoder; the chunks' padding or bounds for an encoder. What
  // mask.packed points to must outlive the object.
  EagerLayers(at::Tensor x_BTD, const StackConfig& config, const RotaryTable& rotary, const AttentionMask& mask);

  void begin(size_t) {}
  at::Tensor norm(const at::Tensor& weight);
  at::Tensor product(const Linear& linear, const at::Tensor& normed_BTD) { return linear(normed_BTD); }
  RotaryGemm qkv(const SelfAttention& weights, const at::Tensor& normed_BTD);
  at::Tensor attention(const SelfAttention& weights, RotaryGemm qkv);
  SharedInput swiglu(const FeedForward& weights, const at::Tensor& normed_BTD) { return gated(weights, normed_BTD); }
  void add(const Linear& linear, const at::Tensor& x) { added_ = linear(x); }
  void add_last(const Linear& linear, SharedInput x);

  // The stream after the layers that were walked.
  const at::Tensor& residual();

  // What a walk depends on beside weights, between two of its parts: the stream (x, and what is still to be added to it
  // or undefined), and what this layer reads. Taken out of it; a copy that is given such tensors goes on from there.
  std::vector<at::Tensor> take_state(size_t layer);
  void set_state(size_t layer, const std::vector<at::Tensor>& state);
  // Whether a copy may outlive what it was made of.
  bool self_contained() const { return mask_.packed == nullptr; }
  const StackConfig& config() const { return config_; }

 protected:
  StackConfig config_;
  RotaryTable rotary_;
  AttentionMask mask_;
  // Of the layer that is walked.
  LayerCache* cache_ = nullptr;  // appended to when given
  int64_t first_ = 0;            // position of the first token; tokens in the cache
  int64_t queries_ = 0;          // the last so many of the T tokens ask, all are read; 0: all ask

 private:
  at::Tensor x_;
  at::Tensor added_;  // to x by the norm that follows
};

// What a decoder's layers have beside.
struct EagerDecoding {
  const Latents* context = nullptr;  // null or empty: none is read
  CrossAttentionForm form = CrossAttentionForm::automatic;
  int64_t block_tokens = 0;                            // as CrossAttentionOptions
  AttentionMass* mass = nullptr;                       // likewise
  std::vector<at::Tensor>* context_queries = nullptr;  // likewise
  KeyValueCache* cache = nullptr;
  int64_t last = 0;  // of the last layer only so many tokens ask; 0: all
};

class EagerDecoderLayers : public EagerLayers {
 public:
  EagerDecoderLayers(at::Tensor x_BTD, const Stack& stack, const RotaryTable& rotary, const EagerDecoding& decoding);

  void begin(size_t layer);
  bool reads_context() const { return context_.tokens() > 0; }
  at::Tensor read_context(const CrossAttention& weights, const at::Tensor& q_BTN);

  std::vector<at::Tensor> take_state(size_t layer);
  void set_state(size_t layer, const std::vector<at::Tensor>& state);
  bool self_contained() const { return !decoding_.cache && !decoding_.mass && !decoding_.context_queries; }

 private:
  void project_context(const Stack& stack);

  EagerDecoding decoding_;
  Latents context_;  // that of decoding_, which has it no longer
  size_t layers_, layer_ = 0;
  std::optional<SharedKeys> projected_;  // keys and values of the context for all layers that read it
  std::vector<size_t> place_;            // of each layer among those
};

// walk_layers() of layer_walk.h. Where gradients are recorded, what stack.recompute names is recorded as one operation
// of autograd each, which computes it again (ops/recompute.h).
void walk_eagerly(const Stack& stack, size_t first, size_t end, EagerLayers& run);
void walk_eagerly(const Stack& stack, size_t first, size_t end, EagerDecoderLayers& run);

}  // namespace cepe
