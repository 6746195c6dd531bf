// Chains of products as decoding steps have them, and the same by their formulas in float64.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "ops/chain/gemv_chain.h"

namespace cepe {

// Sizes of a decoder's layer and the latents that it reads.
struct ChainSizes {
  int64_t batch, width, heads, kv_heads, head_dim, latent_width, feed_forward,
      last;  // last: outputs of a product at the end
};

struct ChainWeights {
  at::Tensor o, q, k_GKE, v_GKE, cross_o, gate_up, down, qkv, qkv_bias, last;
  at::Tensor cross_norm, mlp_norm, next_norm;
};
inline ChainWeights chain_weights(const ChainSizes& z, const at::TensorOptions& options) {
  const auto matrix = [&](std::vector<int64_t> sizes) {
    const double scale = 1 / std::sqrt(static_cast<double>(sizes.back()));
    return at::randn(sizes, options).mul_(scale);
  };
  const auto norm = [&] { return at::rand({z.width}, options).add_(0.5); };
  const int64_t queries = z.heads * z.head_dim, keys = z.kv_heads * z.head_dim;
  return {.o = matrix({z.width, queries}),
          .q = matrix({queries, z.width}),
          .k_GKE = matrix({z.kv_heads, z.head_dim, z.latent_width}),
          .v_GKE = matrix({z.kv_heads, z.head_dim, z.latent_width}),
          .cross_o = matrix({z.width, queries}),
          .gate_up = matrix({2 * z.feed_forward, z.width}),
          .down = matrix({z.width, z.feed_forward}),
          .qkv = matrix({queries + 2 * keys, z.width}),
          .qkv_bias = at::randn({queries + 2 * keys}, options),
          .last = matrix({z.last, z.width}),
          .cross_norm = norm(),
          .mlp_norm = norm(),
          .next_norm = norm()};
}

// What comes from elsewhere: attention's result, the residual stream before it, and what was read of the latents.
struct ChainInputs {
  at::Tensor attended, h, read_BHE;
};
inline ChainInputs chain_inputs(const ChainSizes& z, const at::TensorOptions& options) {
  return {at::randn({z.batch, z.heads * z.head_dim}, options), at::randn({z.batch, z.width}, options),
          at::randn({z.batch, z.heads, z.latent_width}, options)};
}

constexpr double kChainEps = 1e-5;

// Everything that the products give, in their order.
inline std::vector<at::Tensor> by_chain(GemvChain& chain, const ChainSizes& z, const ChainWeights& w,
                                        const ChainInputs& in) {
  std::vector<at::Tensor> all;
  const auto note = [&](const at::Tensor& t) { return all.emplace_back(t); };
  const at::Tensor h1 = note(chain.product(in.attended, w.o, {.residual = in.h}));
  const at::Tensor q = note(chain.product(h1, w.q, {.norm = w.cross_norm, .eps = kChainEps}));
  note(chain.batched_gemv(q.view({z.batch, z.heads, z.head_dim}), w.k_GKE, /*transposed=*/true));
  chain.run();
  const at::Tensor back = note(chain.batched_gemv(in.read_BHE, w.v_GKE, /*transposed=*/false));
  const at::Tensor h2 = note(chain.product(back.view({z.batch, -1}), w.cross_o, {.residual = h1}));
  const at::Tensor gated = note(chain.product(h2, w.gate_up, {.norm = w.mlp_norm, .eps = kChainEps, .gated = true}));
  const at::Tensor h3 = note(chain.product(gated, w.down, {.residual = h2}));
  note(chain.product(h3, w.qkv, {.norm = w.next_norm, .eps = kChainEps, .bias = w.qkv_bias}));
  note(chain.product(h3, w.last));
  chain.run();
  return all;
}

// The formulas, each applied to what the chain gave for the product before it, so that an error is that product's own.
inline std::vector<at::Tensor> by_formula(const std::vector<at::Tensor>& given, const ChainSizes& z,
                                          const ChainWeights& w, const ChainInputs& in) {
  const auto wide = [](const at::Tensor& t) { return t.cpu().to(at::kDouble); };
  const auto normed = [&](const at::Tensor& x, const at::Tensor& norm) {
    return x / (x.square().mean(-1, true) + kChainEps).sqrt() * wide(norm);
  };
  const auto product = [&](const at::Tensor& x, const at::Tensor& weight) { return at::matmul(x, wide(weight).t()); };
  const int64_t R = z.heads / z.kv_heads;
  const auto each_head = [&](const at::Tensor& matrices) { return wide(matrices).repeat_interleave(R, 0); };
  const at::Tensor h1 = wide(given[0]), q = wide(given[1]), back = wide(given[3]), h2 = wide(given[4]),
                   gated = wide(given[5]), h3 = wide(given[6]);
  const at::Tensor gate_up = product(normed(h2, w.mlp_norm), w.gate_up);
  const at::Tensor gate = gate_up.narrow(1, 0, z.feed_forward), up = gate_up.narrow(1, z.feed_forward, z.feed_forward);
  return {product(wide(in.attended), w.o) + wide(in.h),
          product(normed(h1, w.cross_norm), w.q),
          at::einsum("bhk,hke->bhe", {q.view({z.batch, z.heads, z.head_dim}), each_head(w.k_GKE)}),
          at::einsum("bhe,hke->bhk", {wide(in.read_BHE), each_head(w.v_GKE)}),
          product(back.view({z.batch, -1}), w.cross_o) + h1,
          gate / (1 + (-gate).exp()) * up,
          product(gated, w.down) + h2,
          product(normed(h3, w.next_norm), w.qkv) + wide(w.qkv_bias),
          product(h3, w.last)};
}

}  // namespace cepe
