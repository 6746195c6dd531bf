#include <ATen/ATen.h>
#include <ATen/Context.h>

#include "base/error.h"
#include "ops/ops.h"

namespace cepe {
namespace {

// (T, S) bool: query t sees keys up to S - T + t.
at::Tensor causal_mask(int64_t queries, int64_t keys, const at::Device& device) {
  return at::ones({queries, keys}, at::TensorOptions().dtype(at::kBool).device(device)).tril(keys - queries);
}

}  // namespace

at::Tensor attention(const at::Tensor& q_BTHK, const at::Tensor& k_BSGK, const at::Tensor& v_BSGK, const AttentionMask& mask) {
  const at::Tensor q = q_BTHK.transpose(1, 2), k = k_BSGK.transpose(1, 2), v = v_BSGK.transpose(1, 2);
  const int64_t T = q.size(2), S = k.size(2);
  const bool grouped = q.size(1) != k.size(1);
  const bool padded = mask.keys_BS.defined();
  // A single query at the end sees everything; a whole square is the kernel's own causal form.
  const bool needs_causal = mask.causal && T > 1;
  if (!padded) {
    if (needs_causal && T != S) {
      const at::Tensor allowed = causal_mask(T, S, q.device());
      return at::scaled_dot_product_attention(q, k, v, allowed, 0.0, false, std::nullopt, grouped).transpose(1, 2);
    }
    return at::scaled_dot_product_attention(q, k, v, std::nullopt, 0.0, needs_causal, std::nullopt, grouped).transpose(1, 2);
  }
  require(mask.keys_BS.size(1) == S, "attention: the key mask covers {} positions, the keys {}", mask.keys_BS.size(1), S);
  at::Tensor allowed = mask.keys_BS.view({mask.keys_BS.size(0), 1, 1, S});
  if (needs_causal) allowed = allowed.logical_and(causal_mask(T, S, q.device()));
  // A row without any key has no softmax: let it see everything, and put zeros in its place.
  const at::Tensor has_key = allowed.any(-1, /*keepdim=*/true);
  allowed = allowed.logical_or(has_key.logical_not()).expand({q.size(0), 1, T, S});
  const at::Tensor out = at::scaled_dot_product_attention(q, k, v, allowed, 0.0, false, std::nullopt, grouped);
  return at::where(has_key, out, at::zeros({}, out.options())).transpose(1, 2);
}

const char* attention_backend(const at::Device& device) { return device.is_cuda() ? "cudnn, then flash" : "flash (CPU)"; }

void configure_attention_backends() {
  at::globalContext().setSDPPriorityOrder({static_cast<int64_t>(at::SDPBackend::cudnn_attention),
                                           static_cast<int64_t>(at::SDPBackend::flash_attention),
                                           static_cast<int64_t>(at::SDPBackend::efficient_attention),
                                           static_cast<int64_t>(at::SDPBackend::math)});
}

}  // namespace cepe
