// One layer, in the order of its parts. This order stands here alone; a new part of a layer is added here.
//
//   h += o(attention(qkv(norm(h))))           self-attention
//   h += o(read(q(norm(h))))                  cross-attention, where the layer reads a context
//   h += down(silu(gate(norm(h))) up(norm(h)))  feed-forward
//
// How a norm, a product or an addition is computed is the executor's: which of them are one kernel, and when each runs.
// An executor holds the residual stream h. Its functions:
//
//   begin(layer)            the next functions are of this layer of the stack
//   norm(weight)            the norm of h, as product(), qkv() and swiglu() take it
//   product(linear, normed) -> rows
//   qkv(weights, normed)    queries, keys and values, as attention() takes them
//   attention(weights, qkv) self-attention -> rows of H*K
//   reads_context(), read_context(weights, q)   of executors whose layers read contexts; -> rows of H*K
//   swiglu(weights, normed) silu(gate) up, as add_last() takes it
//   add(linear, x)          h += linear(x), and a norm of h follows
//   add_last(linear, x)     h += linear(x), the last that the layer does
//
//   eager_layers.h  encoder and decoder, many tokens, gradients
//   step_layers.h   one token a sequence
#pragma once

#include <cstddef>
#include <utility>

#include "model/layers.h"

namespace cepe {

template <class Executor>
concept ContextReader = requires(Executor& run) { run.reads_context(); };

template <class Executor>
void walk_attention(const Layer& layer, size_t index, Executor& run) {
  run.begin(index);
  const SelfAttention& self = layer.self_attention;
  run.add(self.o, run.attention(self, run.qkv(self, run.norm(layer.input_norm))));
  if constexpr (ContextReader<Executor>) {
    if (layer.cross_attention && run.reads_context()) {
      const CrossAttention& cross = *layer.cross_attention;
      run.add(cross.o, run.read_context(cross, run.product(cross.q, run.norm(cross.norm))));
    }
  }
}

template <class Executor>
void walk_feed_forward(const Layer& layer, Executor& run) {
  const FeedForward& mlp = layer.feed_forward;
  run.add_last(mlp.down, run.swiglu(mlp, run.norm(layer.post_attention_norm)));
}

template <class Executor>
void walk_layer(const Layer& layer, size_t index, Executor& run) {
  walk_attention(layer, index, run);
  walk_feed_forward(layer, run);
}

// Layers first .. end of a stack.
template <class Executor>
void walk_layers(const Stack& stack, size_t first, size_t end, Executor& run) {
  for (size_t i = first; i < end; ++i) walk_layer(stack.layers[i], i, run);
}

}  // namespace cepe
