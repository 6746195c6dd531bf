// Executors of layer_walk.h for one token a sequence, as a decoding step has them: all rows are (B, ...). No gradients.
#pragma once

#include <functional>
#include <utility>

#include "model/cross_attention.h"
#include "model/layers.h"
#include "ops/gemv/shared_input.h"
#include "ops/step/step_executor.h"

namespace cepe {

// What the layers of a step read and write beside the stream. Everything must outlive the executor.
struct StepInput {
  const StackConfig& config;
  const KeyValueCache& cache;
  const RotaryTable& rotary;
  const at::Tensor& positions_B;
  const BatchContexts& contexts;
  bool reads_context;
  StepExecutor& executor;
};

// What both have in common: attention.
class StepLayers {
 public:
  StepLayers(at::Tensor h_BD, const StepInput& input) : input_(input), h_(std::move(h_BD)) {}

  void begin(size_t layer) { layer_ = layer; }
  at::Tensor attention(const SelfAttention& weights, const at::Tensor& qkv_BN);
  bool reads_context() const { return input_.reads_context; }
  at::Tensor read_context(const CrossAttention& weights, const at::Tensor& q_BN);

 protected:
  StepInput input_;
  at::Tensor h_;

 private:
  size_t layer_ = 0;
};

// A kernel for each operation. An addition is one operation with the norm that follows it, the next layer's included.
class SeparateStepLayers : public StepLayers {
 public:
  using StepLayers::StepLayers;

  at::Tensor norm(const at::Tensor& weight);
  at::Tensor product(const Linear& linear, const at::Tensor& normed_BD) { return linear(normed_BD); }
  at::Tensor qkv(const SelfAttention& weights, const at::Tensor& normed_BD);
  SharedInput swiglu(const FeedForward& weights, const at::Tensor& normed_BD);
  void add(const Linear& linear, const at::Tensor& x) { added_ = linear(x); }
  void add_last(const Linear& linear, SharedInput x) { added_ = x.product(linear, linear.bias); }

 private:
  at::Tensor added_;  // to h by the norm that follows
};

// Norms, SwiGLU and additions are part of the products (gemv_is_fused() of all of them), which the executor may launch
// together.
class FusedStepLayers : public StepLayers {
 public:
  using StepLayers::StepLayers;

  struct Normed {
    const at::Tensor& weight;  // the norm of h, not computed
  };
  Normed norm(const at::Tensor& weight) { return {weight}; }
  at::Tensor product(const Linear& linear, Normed normed) { return fused(linear, normed, /*gated=*/false); }
  at::Tensor qkv(const SelfAttention& weights, Normed normed) { return product(weights.qkv, normed); }
  at::Tensor swiglu(const FeedForward& weights, Normed normed) {
    return fused(weights.gate_up, normed, /*gated=*/true);
  }
  void add(const Linear& linear, const at::Tensor& x);
  void add_last(const Linear& linear, const at::Tensor& x) { add(linear, x); }

 private:
  at::Tensor fused(const Linear& linear, Normed normed, bool gated);
};

}  // namespace cepe
