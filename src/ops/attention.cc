#include <ATen/ATen.h>
#include <ATen/Context.h>

#include <algorithm>
#include <functional>
#include <numeric>

#include "base/error.h"
#include "ops/attention_cpu.h"
#include "ops/attention_cuda.h"
#include "ops/dispatch.h"
#include "ops/ops.h"

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

// attention() without packed sequences, whose mask fits.
at::Tensor dense_attention(const at::Tensor& q_BTHK, const at::Tensor& k_BSGK, const at::Tensor& v_BSGK,
                           const AttentionMask& mask) {
  const int64_t B = q_BTHK.size(0), T = q_BTHK.size(1), S = k_BSGK.size(1);
  const bool padded = mask.keys_BS.defined();
  // A single query at the end sees everything; a whole square is the kernel's own causal form.
  const bool needs_causal = mask.causal && T > 1;
  // Both would otherwise read a bias of T x S values a sequence.
  if (flash_applies(q_BTHK)) {
    if (padded && !needs_causal) return flash_masked_attention(q_BTHK, k_BSGK, v_BSGK, mask.keys_BS);
    if (!padded && needs_causal && T != S) return flash_causal_attention(q_BTHK, k_BSGK, v_BSGK);
  }
  if (cpu_flash_fits(q_BTHK, k_BSGK, v_BSGK) && cpu_flash_pays(T * q_BTHK.size(2) / k_BSGK.size(2))) {
    return cpu_flash_attention(q_BTHK, k_BSGK, v_BSGK, mask);
  }
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

// Sequences of equal lengths side by side are one dense attention, a batch of them.
at::Tensor attend_runs(const at::Tensor& q_1THK, const at::Tensor& k_1TGK, const at::Tensor& v_1TGK,
                       const std::vector<int64_t>& lengths) {
  std::vector<at::Tensor> runs;
  int64_t first = 0;
  for (size_t i = 0; i < lengths.size();) {
    const int64_t length = lengths[i];
    int64_t count = 0;
    for (; i < lengths.size() && lengths[i] == length; ++i) ++count;
    const auto batch = [&](const at::Tensor& x) {
      return x.narrow(1, first, count * length).view({count, length, x.size(2), x.size(3)});
    };
    const at::Tensor out = dense_attention(batch(q_1THK), batch(k_1TGK), batch(v_1TGK), {});
    runs.push_back(out.reshape({1, count * length, q_1THK.size(2), q_1THK.size(3)}));
    first += count * length;
  }
  return runs.size() == 1 ? runs.front() : at::cat(runs, 1);
}

at::Tensor packed_attention(const at::Tensor& q_1THK, const at::Tensor& k_1TGK, const at::Tensor& v_1TGK,
                            const AttentionMask& mask) {
  const int64_t T = mask.packed->tokens();
  require(!mask.causal && !mask.keys_BS.defined(), "attention: packed sequences take no other mask");
  require(q_1THK.size(0) == 1 && q_1THK.size(1) == T && k_1TGK.size(0) == 1 && k_1TGK.size(1) == T,
          "attention: packed sequences of {} tokens, the queries are {} x {}, the keys {} x {}", T, q_1THK.size(0),
          q_1THK.size(1), k_1TGK.size(0), k_1TGK.size(1));
  const auto& lengths = mask.packed->lengths;
  const bool equal = std::adjacent_find(lengths.begin(), lengths.end(), std::not_equal_to<>()) == lengths.end();
  if (flash_applies(q_1THK) && !equal) {
    return flash_packed_attention(q_1THK, k_1TGK, v_1TGK, *mask.packed);
  }
  return attend_runs(q_1THK, k_1TGK, v_1TGK, lengths);
}

}  // namespace

int64_t PackedSequences::tokens() const { return std::accumulate(lengths.begin(), lengths.end(), int64_t{0}); }

PackedSequences pack_sequences(std::vector<int64_t> lengths, const at::Device& device) {
  PackedSequences packed{std::move(lengths)};
  std::vector<int32_t> bounds{0};
  for (const int64_t length : packed.lengths) {
    require(length >= 1, "packed sequences: a sequence of {} tokens, expected 1 or more", length);
    bounds.push_back(bounds.back() + static_cast<int32_t>(length));
  }
  if (device.is_cuda()) packed.bounds = at::tensor(bounds, at::kInt).to(device);
  return packed;
}

at::Tensor attention(const at::Tensor& q_BTHK, const at::Tensor& k_BSGK, const at::Tensor& v_BSGK,
                     const AttentionMask& mask) {
  const int64_t B = q_BTHK.size(0), S = k_BSGK.size(1);
  if (mask.packed) return packed_attention(q_BTHK, k_BSGK, v_BSGK, mask);
  const bool padded = mask.keys_BS.defined();
  require(!padded || (mask.keys_BS.size(0) == B && mask.keys_BS.size(1) == S),
          "attention: the key mask is for {} x {} keys, there are {} x {}", padded ? mask.keys_BS.size(0) : 0,
          padded ? mask.keys_BS.size(1) : 0, B, S);
  return dense_attention(q_BTHK, k_BSGK, v_BSGK, mask);
}

const char* attention_backend(const at::Device& device) {
  if (device.is_cuda()) return "cudnn; flash for padded, packed or appended keys";
  return cpu_flash_pays(dispatch::kCpuFlashRows) ? "cepe's flash in float32, else LibTorch's" : "LibTorch's flash";
}

void configure_attention_backends() {
  at::globalContext().setSDPPriorityOrder(
      {static_cast<int64_t>(at::SDPBackend::cudnn_attention), static_cast<int64_t>(at::SDPBackend::flash_attention),
       static_cast<int64_t>(at::SDPBackend::efficient_attention), static_cast<int64_t>(at::SDPBackend::math)});
}

}  // namespace cepe
