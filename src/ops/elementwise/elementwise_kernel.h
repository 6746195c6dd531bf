// CUDA kernels behind ops.h, as raw pointers and plain structs: no torch here. bfloat16 in and out, float32
// inside. Each launch is asynchronous on the given stream (a cudaStream_t) of the current device; a launch that CUDA
// refuses throws Error. Results do not depend on the order in which blocks run. Built only with CEPE_CUDA.
// docs/kernels/elementwise.md derives each kernel and counts its bytes.
#pragma once

#include <cstdint>

#include "ops/dispatch.h"

namespace cepe::fused {

// y_BTHK = rotate(x_BTHK) with positions first + t; inverse rotates back (the gradient). Strides in elements;
// the K elements of a head are contiguous, K is even.
struct RotaryArgs {
  const void* x;
  void* y;
  const float* cos;  // (positions, K/2)
  const float* sin;
  int64_t batch, tokens, heads, head_size, first;
  int64_t x_stride_batch, x_stride_token, x_stride_head;
  int64_t y_stride_batch, y_stride_token, y_stride_head;
  bool inverse;
};
void rotary(const RotaryArgs& args, void* stream);

// out = silu(gate) * up over n contiguous elements.
struct SwigluArgs {
  const void* gate;
  const void* up;
  void* out;
  int64_t n;
};
void swiglu(const SwigluArgs& args, void* stream);

// grad_gate and grad_up from grad_out.
struct SwigluBackwardArgs {
  const void* grad_out;
  const void* gate;
  const void* up;
  void* grad_gate;
  void* grad_up;
  int64_t n;
};
void swiglu_backward(const SwigluBackwardArgs& args, void* stream);

// The same of rows whose gate and up stand side by side: (rows, 2 width), gate first. out is (rows, width).
struct SwigluHalvesArgs {
  const void* gate_up;
  void* out;
  int64_t rows, width;
};
void swiglu_halves(const SwigluHalvesArgs& args, void* stream);

// grad_gate_up (rows, 2 width) from grad_out (rows, width).
struct SwigluHalvesBackwardArgs {
  const void* grad_out;
  const void* gate_up;
  void* grad_gate_up;
  int64_t rows, width;
};
void swiglu_halves_backward(const SwigluHalvesBackwardArgs& args, void* stream);

// The widths that both norm kernels below take: a row lives in the registers of one warp. The forward one takes wider
// rows too, a block of threads each.
constexpr bool norm_width_fits(int64_t width) { return width > 0 && width % 8 == 0 && width <= dispatch::kNormWidth; }
constexpr bool norm_forward_width_fits(int64_t width) {
  return width > 0 && width % 8 == 0 && width <= dispatch::kNormForwardWidth;
}

// y = s / sqrt(mean(s^2) + eps) * weight for each of `rows` contiguous rows, where s = x, or x + addend when an addend
// is given. All pointers are aligned to 16 bytes.
struct RmsNormArgs {
  const void* x;       // (rows, width)
  const void* addend;  // (rows, width), or null
  const void* weight;  // (width)
  void* sum;           // (rows, width): s in bfloat16, the value that is normalised; null without an addend
  void* y;             // (rows, width)
  float* rstd;         // (rows): 1 / sqrt(mean(s^2) + eps), for the backward pass
  int64_t rows, width;
  float eps;
};
void rms_norm(const RmsNormArgs& args, void* stream);

// grad_s = d loss / d s from grad_y (and from grad_sum, what else depends on s); optionally grad_weight.
struct RmsNormBackwardArgs {
  const void* grad_y;    // (rows, width)
  const void* grad_sum;  // (rows, width), added to grad_s; or null
  const void* s;         // (rows, width): what was normalised
  const void* weight;    // (width)
  const float* rstd;     // (rows)
  void* grad_s;          // (rows, width)
  void* grad_weight;     // (width) bfloat16, or null: not wanted
  float* partial;        // (norm_partial_rows(rows), width) scratch for grad_weight; null with it
  int64_t rows, width;
};
int64_t norm_partial_rows(int64_t rows);
void rms_norm_backward(const RmsNormBackwardArgs& args, void* stream);

// Row-wise cross-entropy over logits (rows, vocabulary) in bfloat16: loss[row] = -log softmax(logits[row])[label],
// 0 for a negative label, not-a-number for a label beyond the vocabulary. With `gradient`, the logits are
// overwritten by softmax - onehot (0 where not scored).
struct CrossEntropyArgs {
  void* logits;
  const int64_t* labels;
  float* loss;
  int64_t rows, vocabulary;
  bool gradient;
};
void cross_entropy(const CrossEntropyArgs& args, void* stream);

// Moves rows of row_bytes (a multiple of 16) between a padded and a packed array. rank[i] counts the kept rows up to
// and including i, so that kept row i is packed row rank[i] - 1.
struct PackRowsArgs {
  const void* from;
  void* to;
  const bool* keep;     // (rows) of the padded array
  const int32_t* rank;  // (rows)
  int64_t rows, row_bytes;
};
// padded -> packed: packed rows beyond the last kept one are left as they are.
void pack_rows(const PackRowsArgs& args, void* stream);
// packed -> padded: rows that are not kept become 0.
void unpack_rows(const PackRowsArgs& args, void* stream);

// Adds one split-KV partial to the running sum (context_attention.h): merged = log(exp(before) + exp(log_sum_exp)),
// sum = exp(before - merged) sum + exp(log_sum_exp - merged) out for each of contexts x heads x rows rows. Where both
// are -inf the sum is 0.
struct MergeAttentionArgs {
  const void* out;           // bfloat16, elements of a row side by side; strides below
  const float* log_sum_exp;  // (contexts, heads, rows)
  const float* before;       // the same of the partials so far; null for the first, where `sum` is only written
  float* sum;                // float32, strides as out's
  float* merged;             // (contexts, heads, rows), not `before`
  int64_t contexts, heads, rows, head_size;  // head_size a multiple of 8
  int64_t stride_context, stride_head, stride_row;
};
void merge_attention(const MergeAttentionArgs& args, void* stream);

}  // namespace cepe::fused
