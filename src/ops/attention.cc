#include <ATen/ATen.h>
#include <ATen/Context.h>

#include "base/error.h"
#include "ops/ops.h"
#ifdef CEPE_CUDA
#include "ops/fused_autograd.h"
#endif

namespace cepe {
namespace {

// (T, S) bool: query t sees keys up to S - T + t.
at::Tensor causal_mask(int64_t queries, int64_t keys, const at::Device& device) {
  return at::ones({queries, keys}, at::TensorOptions().dtype(at::kBool).device(device)).tril(keys - queries);
}

// Heads before positions, as LibTorch wants them.
struct Heads {
  at::Tensor q, k, v;
  bool grouped() const { return q.size(1) != k.size(1); }
};

at::Tensor attend(const Heads& x, const std::optional<at::Tensor>& allowed, bool causal) {
  const int64_t B = x.q.size(0), H = x.q.size(1), T = x.q.size(2), G = x.k.size(1), K = x.q.size(3);
  // Where all queries see the same keys, the heads that share them are more rows of one head: LibTorch's CPU kernel
  // would copy the keys for each (one query on 1,000 keys: a fifth of the time).
  if (x.grouped() && !causal && x.q.is_cpu() && (!allowed || T == 1)) {
    const at::Tensor rows = x.q.reshape({B, G, H / G * T, K});
    return at::scaled_dot_product_attention(rows, x.k, x.v, allowed).reshape({B, H, T, K});
  }
  return at::scaled_dot_product_attention(x.q, x.k, x.v, allowed, 0.0, causal, std::nullopt, x.grouped());
}

}  // namespace

at::Tensor attention(const at::Tensor& q_BTHK, const at::Tensor& k_BSGK, const at::Tensor& v_BSGK,
                     const AttentionMask& mask) {
  const int64_t B = q_BTHK.size(0), T = q_BTHK.size(1), S = k_BSGK.size(1);
  const bool padded = mask.keys_BS.defined();
  require(!padded || (mask.keys_BS.size(0) == B && mask.keys_BS.size(1) == S),
          "attention: the key mask is for {} x {} keys, there are {} x {}", padded ? mask.keys_BS.size(0) : 0,
          padded ? mask.keys_BS.size(1) : 0, B, S);
  // A single query at the end sees everything; a whole square is the kernel's own causal form.
  const bool needs_causal = mask.causal && T > 1;
#ifdef CEPE_CUDA
  // Both would otherwise read a bias of T x S values a sequence.
  if (flash_applies(q_BTHK)) {
    if (padded && !needs_causal) return flash_masked_attention(q_BTHK, k_BSGK, v_BSGK, mask.keys_BS);
    if (!padded && needs_causal && T != S) return flash_causal_attention(q_BTHK, k_BSGK, v_BSGK);
  }
#endif
  const Heads heads{q_BTHK.transpose(1, 2), k_BSGK.transpose(1, 2), v_BSGK.transpose(1, 2)};
  if (!padded) {
    if (!needs_causal || T == S) return attend(heads, std::nullopt, needs_causal).transpose(1, 2);
    return attend(heads, causal_mask(T, S, q_BTHK.device()), false).transpose(1, 2);
  }
  at::Tensor allowed = mask.keys_BS.view({B, 1, 1, S});
  if (needs_causal) allowed = allowed.logical_and(causal_mask(T, S, q_BTHK.device()));
  // A row without any key has no softmax: let it see everything, and put zeros in its place.
  const at::Tensor has_key = allowed.any(-1, /*keepdim=*/true);
  allowed = allowed.logical_or(has_key.logical_not()).expand({B, 1, T, S});
  const at::Tensor out = attend(heads, allowed, false);
  return at::where(has_key, out, at::zeros({}, out.options())).transpose(1, 2);
}

const char* attention_backend(const at::Device& device) {
  return device.is_cuda() ? "cudnn; flash for padded or appended keys" : "cpu flash";
}

void configure_attention_backends() {
  at::globalContext().setSDPPriorityOrder({static_cast<int64_t>(at::SDPBackend::cudnn_attention),
                                           static_cast<int64_t>(at::SDPBackend::flash_attention),
                                           static_cast<int64_t>(at::SDPBackend::efficient_attention),
                                           static_cast<int64_t>(at::SDPBackend::math)});
}

}  // namespace cepe
