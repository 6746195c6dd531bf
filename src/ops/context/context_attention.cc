#include "ops/context/context_attention.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "ops/attention_cpu.h"
#include "ops/attention_cuda.h"
#include "ops/context/context_attention_cpu.h"
#include "ops/dispatch.h"

namespace cepe {
namespace {

constexpr double kNone = -INFINITY;

at::ScalarType wide_type(const at::Tensor& x) { return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

double scale_of(const at::Tensor& q) { return 1.0 / std::sqrt(static_cast<double>(q.size(-1))); }

// Scores as a matrix, for what no fused kernel takes; rows in pieces, so that memory stays bounded.
PartialAttention plain_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                 const at::Tensor& bias) {
  constexpr int64_t kScores = int64_t{1} << 26;
  const int64_t N = q.size(2), S = k.size(2);
  const int64_t piece = std::max<int64_t>(1, kScores / std::max<int64_t>(1, q.size(0) * q.size(1) * S));
  std::vector<at::Tensor> outs, sums;
  for (int64_t first = 0; first < N; first += piece) {
    const at::Tensor rows = q.narrow(2, first, std::min(piece, N - first));
    at::Tensor scores = at::matmul(rows, k.transpose(2, 3)).to(wide_type(q)).mul_(scale_of(q));
    if (bias.defined()) scores = scores + bias;
    outs.push_back(at::matmul(scores.softmax(-1).to(q.scalar_type()), v));
    sums.push_back(scores.logsumexp(-1));
  }
  return {outs.size() == 1 ? outs[0] : at::cat(outs, 2), sums.size() == 1 ? sums[0] : at::cat(sums, 2)};
}

PartialAttention fused_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                 const at::Tensor& bias) {
  const bool half = q.scalar_type() == at::kBFloat16 || q.scalar_type() == at::kHalf;
  if (q.device().is_cpu()) {
    const auto mask = bias.defined() ? std::optional<at::Tensor>(bias.to(q.scalar_type())) : std::nullopt;
    const auto [out, sum] = at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, false, mask);
    return {out, sum};
  }
  if (!q.is_cuda() || !half || bias.defined() || q.size(3) % 8 != 0 || q.size(3) > dispatch::kContextHeadSize)
    return plain_attention(q, k, v, bias);
  if (q.size(2) >= dispatch::kContextManyRows) {
    const auto found = at::_scaled_dot_product_cudnn_attention(q, k, v, {}, /*compute_log_sumexp=*/true);
    return {std::get<0>(found), std::get<1>(found).reshape({q.size(0), q.size(1), q.size(2)})};
  }
  const auto found = at::_scaled_dot_product_flash_attention(q, k, v);
  return {std::get<0>(found), std::get<1>(found)};
}

// Tokens that are read together, where the kernel does not take the context as a whole.
constexpr int64_t kPart = 16384;

// Few rows do not fill a GPU: a context's parts stand beside each other as a batch.
PartialAttention split_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const int64_t C = q.size(0), G = q.size(1), N = q.size(2), K = q.size(3), S = k.size(2);
  const int64_t parts = std::clamp<int64_t>(dispatch::kContextBatch / (C * G), 1,
                                            std::max<int64_t>(1, S / dispatch::kContextPartTokens)),
                length = S / parts;
  AttentionMerge merge;
  if (parts > 1) {
    const auto apart = [&](const at::Tensor& x) {
      return x.narrow(2, 0, parts * length)
          .unflatten(2, {parts, length})
          .permute({0, 2, 1, 3, 4})
          .reshape({C * parts, G, length, K});
    };
    const at::Tensor rows = q.unsqueeze(1).expand({C, parts, G, N, K}).reshape({C * parts, G, N, K});
    const PartialAttention found = partial_attention(rows, apart(k), apart(v), {});
    const at::Tensor outs = found.out_CGNK.unflatten(0, {C, parts}),
                     sums = found.log_sum_exp_CGN.unflatten(0, {C, parts});
    const at::Tensor weights = sums.softmax(1).unsqueeze(-1);
    merge.add({(outs.to(at::kFloat) * weights).sum(1), sums.logsumexp(1)});
  }
  const int64_t read = parts > 1 ? parts * length : 0;
  if (read < S) merge.add(partial_attention(q, k.narrow(2, read, S - read), v.narrow(2, read, S - read), {}));
  return {merge.result(at::kFloat), {}};
}

}  // namespace

at::Tensor fold_queries(const at::Tensor& q, int64_t contexts, int64_t kv_heads) {
  const int64_t B = q.size(0), T = q.size(1), H = q.size(2), K = q.size(3), C = contexts, G = kv_heads;
  return q.reshape({C, B / C * T, G, H / G, K}).permute({0, 2, 1, 3, 4}).reshape({C, G, B / C * T * (H / G), K});
}

at::Tensor unfold_queries(const at::Tensor& out, at::IntArrayRef q_sizes) {
  const int64_t B = q_sizes[0], T = q_sizes[1], H = q_sizes[2], K = q_sizes[3], C = out.size(0), G = out.size(1);
  return out.reshape({C, G, B / C * T, H / G, K}).permute({0, 2, 1, 3, 4}).reshape({B, T, H, K});
}

PartialAttention partial_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const at::Tensor& keys_CS) {
  const at::Tensor by_token = q.transpose(1, 2), k_CSGK = k.transpose(1, 2), v_CSGK = v.transpose(1, 2);
  if (cpu_flash_fits(by_token, k_CSGK, v_CSGK) && cpu_flash_pays(q.size(2))) {
    const at::Tensor sums = at::empty({q.size(0), q.size(1), q.size(2)}, q.options());
    const at::Tensor out = cpu_flash_attention(by_token, k_CSGK, v_CSGK, {.keys_BS = keys_CS}, sums);
    return {out.transpose(1, 2), sums};
  }
  if (!keys_CS.defined()) return fused_attention(q, k, v, {});
  // Where no key is real there is no softmax: all are let in, and the result is put aside.
  const at::Tensor empty = keys_CS.any(1).logical_not().view({-1, 1, 1});
  const at::Tensor hidden = keys_CS.logical_not().logical_and(empty.logical_not().view({-1, 1}));
  const at::Tensor bias = at::zeros(keys_CS.sizes(), q.options().dtype(wide_type(q))).masked_fill(hidden, kNone);
  const PartialAttention found = fused_attention(q, k, v, bias.view({keys_CS.size(0), 1, 1, keys_CS.size(1)}));
  return {found.out_CGNK.masked_fill(empty.unsqueeze(-1), 0), found.log_sum_exp_CGN.masked_fill(empty, kNone)};
}

void AttentionMerge::add(const PartialAttention& part) {
  const bool same_layout = !sum_CGNK_.defined() || sum_CGNK_.strides() == part.out_CGNK.strides();
  if (fused_merge_applies(part.out_CGNK) && same_layout) {
    fused_merge_attention(part.out_CGNK, part.log_sum_exp_CGN, sum_CGNK_, log_sum_exp_CGN_);
    return;
  }
  const at::Tensor out = part.out_CGNK.to(wide_type(part.out_CGNK));
  if (!sum_CGNK_.defined()) {
    sum_CGNK_ = out.is_same(part.out_CGNK) ? out.clone() : out;
    log_sum_exp_CGN_ = part.log_sum_exp_CGN;
    return;
  }
  const at::Tensor all = at::logaddexp(log_sum_exp_CGN_, part.log_sum_exp_CGN);
  const at::Tensor nothing = all.eq(kNone);
  const auto weight = [&](const at::Tensor& sum) { return (sum - all).exp_().masked_fill_(nothing, 0).unsqueeze(-1); };
  sum_CGNK_.mul_(weight(log_sum_exp_CGN_)).addcmul_(out, weight(part.log_sum_exp_CGN));
  log_sum_exp_CGN_ = all;
}

ContextKeysValues make_context_keys_values(const ContextSizes& sizes, const at::TensorOptions& options) {
  constexpr int64_t kBlock = ContextKeysValues::kBlock;
  const int64_t C = sizes.contexts, G = sizes.kv_heads, S = sizes.tokens, K = sizes.head_dim;
  ContextKeysValues made;
  made.tokens = S;
  const bool int8 = options.dtype() == at::kChar;
  require(!int8 || options.device().is_cpu(), "context: keys and values in 8 bits are kept on a CPU alone");
  if (!options.device().is_cpu()) {
    made.k = at::empty({C, G, S, K}, options);
    made.v = at::empty({C, G, S, K}, options);
    return made;
  }
  const int64_t blocks = (S + kBlock - 1) / kBlock;
  made.k = at::empty({C, G, blocks, K, kBlock}, options);
  made.v = at::empty({C, G, blocks * kBlock, K}, options);
  if (blocks > 0) made.k.select(2, blocks - 1).zero_();
  made.v.narrow(2, S, blocks * kBlock - S).zero_();
  if (int8) {
    made.k_scales = at::zeros({C, G, blocks * kBlock}, options.dtype(at::kFloat));
    made.v_scales = at::zeros_like(made.k_scales);
  }
  return made;
}

double kept_bytes(at::ScalarType kept, int64_t head_dim) {
  return static_cast<double>(c10::elementSize(kept)) + (kept == at::kChar ? 4.0 / static_cast<double>(head_dim) : 0);
}

namespace {

// x (C, n, G, K) in 8 bits, with a scale for each head of each token.
std::pair<at::Tensor, at::Tensor> in_8_bits(const at::Tensor& x) {
  const at::Tensor wide = x.to(at::kFloat), scale = wide.abs().amax(-1).clamp_min(1e-12) / 127;
  return {(wide / scale.unsqueeze(-1)).round().to(at::kChar), scale};
}

// Which tokens each head reads of chosen blocks, (C * G, S) bool, without those that the mask hides.
at::Tensor chosen_tokens(const ContextKeysValues& context, const at::Tensor& mask_CS) {
  const int64_t C = context.k.size(0), G = context.k.size(1), blocks = context.k.size(2);
  at::Tensor read = at::zeros({C * G * blocks}, at::kBool).index_fill_(0, context.chosen, true);
  read = read.view({C, G, -1, 1}).expand({C, G, -1, ContextKeysValues::kBlock}).flatten(2).narrow(2, 0, context.tokens);
  if (mask_CS.defined()) read = read.logical_and(mask_CS.unsqueeze(1));
  return read.flatten(0, 1);
}

}  // namespace

void write_keys_values(ContextKeysValues& to, int64_t first, const at::Tensor& k_CnGK, const at::Tensor& v_CnGK) {
  constexpr int64_t kBlock = ContextKeysValues::kBlock;
  const int64_t n = k_CnGK.size(1), whole = n / kBlock, rest = n % kBlock;
  require(first % kBlock == 0 && first + n <= to.tokens && (rest == 0 || first + n == to.tokens),
          "context: keys and values {} to {} of {} are not whole blocks of {}", first, first + n, to.tokens, kBlock);
  at::Tensor k = k_CnGK, v = v_CnGK;
  if (to.k_scales.defined()) {
    if (int8_writer_applies(k, v)) return write_int8_context(to, first, k, v);
    const auto [k_values, k_scales] = in_8_bits(k);
    const auto [v_values, v_scales] = in_8_bits(v);
    to.k_scales.narrow(2, first, n).copy_(k_scales.transpose(1, 2));
    to.v_scales.narrow(2, first, n).copy_(v_scales.transpose(1, 2));
    k = k_values, v = v_values;
  }
  to.v.narrow(2, first, n).copy_(v.transpose(1, 2));
  const at::Tensor keys = k.transpose(1, 2);  // (C, G, n, K)
  if (!to.blocked()) {
    to.k.narrow(2, first, n).copy_(keys);
    return;
  }
  if (whole > 0) {
    to.k.narrow(2, first / kBlock, whole)
        .copy_(keys.narrow(2, 0, whole * kBlock).unflatten(2, {whole, kBlock}).transpose(3, 4));
  }
  if (rest > 0) {
    to.k.select(2, first / kBlock + whole)
        .narrow(3, 0, rest)
        .copy_(keys.narrow(2, whole * kBlock, rest).transpose(2, 3));
  }
}

std::pair<at::Tensor, at::Tensor> read_keys_values(const ContextKeysValues& from, int64_t first, int64_t n) {
  constexpr int64_t kBlock = ContextKeysValues::kBlock;
  if (from.k_scales.defined()) {
    ContextKeysValues numbers = from;
    numbers.k_scales.reset();
    const auto [k, v] = read_keys_values(numbers, first, n);
    return {k * from.k_scales.narrow(2, first, n).unsqueeze(-1), v * from.v_scales.narrow(2, first, n).unsqueeze(-1)};
  }
  const at::Tensor v = from.v.narrow(2, first, n);
  if (!from.blocked()) return {from.k.narrow(2, first, n), v};
  const int64_t blocks = (n + kBlock - 1) / kBlock;
  // A copy, of a lone block too: attention wants the values of a key side by side.
  const at::Tensor k = from.k.narrow(2, first / kBlock, blocks).transpose(3, 4).contiguous();
  return {k.flatten(2, 3).narrow(2, 0, n), v};
}

at::Tensor context_attention(const at::Tensor& q_BTHK, const ContextKeysValues& context, const at::Tensor& mask_CS,
                             ContextKernel kernel) {
  const int64_t C = context.k.size(0), G = context.k.size(1), S = context.tokens;
  require(S > 0, "context attention: the context has no tokens");
  require(C == 1 || C == q_BTHK.size(0), "context attention: {} contexts for a batch of {}", C, q_BTHK.size(0));
  require(!mask_CS.defined() || (mask_CS.size(0) == C && mask_CS.size(1) == S),
          "context attention: the mask should be {} x {}", C, S);
  const bool part = context.chosen.defined();
  require(!part || context.blocked(), "context attention: blocks are chosen on a CPU alone");
  const at::Tensor q = fold_queries(q_BTHK, C, G);
  if (kernel != ContextKernel::none && context_kernel_applies(q, context)) {
    return unfold_queries(run_context_kernel(q, context, mask_CS), q_BTHK.sizes()).to(q_BTHK.scalar_type());
  }
  if (!context.blocked() && q.size(2) < dispatch::kContextManyRows && !mask_CS.defined() &&
      q.scalar_type() != at::kDouble) {
    return unfold_queries(split_attention(q, context.k, context.v).out_CGNK, q_BTHK.sizes()).to(q_BTHK.scalar_type());
  }
  // Where heads read blocks of their own, each is a context of one head.
  const auto apart = [&](const at::Tensor& x) { return part ? x.flatten(0, 1).unsqueeze(1) : x; };
  const at::Tensor real = part ? chosen_tokens(context, mask_CS) : mask_CS;
  AttentionMerge merge;
  for (int64_t first = 0; first < S; first += kPart) {
    const int64_t n = std::min(kPart, S - first);
    const auto [k, v] = read_keys_values(context, first, n);
    const at::ScalarType type = q.scalar_type();
    merge.add(partial_attention(apart(q), apart(k.to(type)), apart(v.to(type)),
                                real.defined() ? real.narrow(1, first, n) : real));
  }
  return unfold_queries(merge.result(q.scalar_type()).reshape(q.sizes()), q_BTHK.sizes());
}

}  // namespace cepe
