// Attention of few queries over a long context without a causal mask: block by block with partials that are combined by
// log-sum-exp (split-KV), and on keys and values that are kept for many calls. Materialised and cached cross-attention
// use it (model/cross_attention.h).
//
// Shape suffixes: C contexts, G key-value heads, N query rows of a key-value head (tokens times the query heads that
// share it, and the sequences of a batch that share the context), S context tokens, K head size.
// No gradients here.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/TensorOptions.h>

#include <utility>

#include "ops/context/context_keys_values.h"

namespace cepe {

// Queries by the key-value head that they read. With one context for a batch, all its sequences are rows of it.
// q (B, T, H, K) -> (C, G, N, K), C = B or 1, N = B / C * T * H / G
at::Tensor fold_queries(const at::Tensor& q_BTHK, int64_t contexts, int64_t kv_heads);
// The reverse, for a tensor (C, G, N, K) of the same queries. -> (B, T, H, K)
at::Tensor unfold_queries(const at::Tensor& out_CGNK, at::IntArrayRef q_sizes);

// A split-KV partial: the attention over some of the keys, and the log-sum-exp of their scores.
struct PartialAttention {
  at::Tensor out_CGNK;         // softmax over these keys alone; zeros where all of them are masked
  at::Tensor log_sum_exp_CGN;  // of q.k / sqrt(K), float32 (float64 for float64); -inf where all are masked
};
// k, v (C, G, S, K), any strides with the last 1. keys_CS bool, true = a real token; undefined: all are.
PartialAttention partial_attention(const at::Tensor& q_CGNK, const at::Tensor& k_CGSK, const at::Tensor& v_CGSK,
                                   const at::Tensor& keys_CS);

// Combines partials: out = sum of exp(l_i - l) out_i with l = log sum exp(l_i), in float32 (float64 for float64). Each
// partial is added as it comes, with running rescaling (Milakov & Gimelshein 2018, arXiv 1805.02867).
class AttentionMerge {
 public:
  void add(const PartialAttention& part);
  // The result in type `type`. A row whose keys are all masked gives zeros. At least one partial must have been added.
  at::Tensor result(at::ScalarType type) const { return sum_CGNK_.to(type); }

 private:
  at::Tensor sum_CGNK_, log_sum_exp_CGN_;
};

// The sizes of kept keys and values. make_context_keys_values() allocates them, write_keys_values() fills them.
struct ContextSizes {
  int64_t contexts = 1, kv_heads = 0, tokens = 0, head_dim = 0;
};
// In float32, bfloat16 or, on a CPU, in 8 bits (at::kChar).
ContextKeysValues make_context_keys_values(const ContextSizes& sizes, const at::TensorOptions& options);
// Whether a CPU reads heads of this size by its kernel, whatever the type.
bool kept_by_kernel(int64_t head_dim);
// Bytes of a number in such a type, with its share of a scale.
double kept_bytes(at::ScalarType kept, int64_t head_dim);
// k, v (C, n, G, K) become tokens first .. first + n; first is a multiple of kBlock, and so is n but at the end.
void write_keys_values(ContextKeysValues& to, int64_t first, const at::Tensor& k_CnGK, const at::Tensor& v_CnGK);
// Tokens first .. first + n as keys and values (C, G, n, K), those in 8 bits as float32; first and n as above.
std::pair<at::Tensor, at::Tensor> read_keys_values(const ContextKeysValues& from, int64_t first, int64_t n);

// softmax(q k^T / sqrt(K)) v over the whole context. mask (C, S) bool, true = a real token; undefined: all are. A row
// without any real token gives zeros. Arithmetic is float32. On a CPU a kernel serves all rows (float32, bfloat16 or 8
// bits; kept_by_kernel()) and reads each key and value from memory once. q (B, T, H, K) -> (B, T, H, K)
at::Tensor context_attention(const at::Tensor& q_BTHK, const ContextKeysValues& context, const at::Tensor& mask_CS,
                             ContextKernel kernel = ContextKernel::best);

}  // namespace cepe
