// CUDA kernels behind ops.h, as raw pointers and plain structs: no torch here. bfloat16 in and out, float32
// inside. Each launch is asynchronous on the given stream (a cudaStream_t). Built only with CEPE_CUDA.
#pragma once

#include <cstdint>

namespace cepe::fused {

// y_BTHK = rotate(x_BTHK) with positions first + t; inverse rotates back (the gradient). Strides in elements;
// the K elements of a head are contiguous.
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

// Row-wise cross-entropy over logits (rows, vocabulary) in bfloat16: loss[row] = -log softmax(logits[row])[label],
// 0 for a negative label. With `gradient`, the logits are overwritten by softmax - onehot (0 where not scored).
struct CrossEntropyArgs {
  void* logits;
  const int64_t* labels;
  float* loss;
  int64_t rows, vocabulary;
  bool gradient;
};
void cross_entropy(const CrossEntropyArgs& args, void* stream);

}  // namespace cepe::fused
