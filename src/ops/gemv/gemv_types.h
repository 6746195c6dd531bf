// What GEMVs take beside x, shared by the operations (gemv.h, quantised_weight.h) and their backends.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

namespace cepe {

// What is fused into a product: the prologue (norm) and the epilogue (bias, residual, SwiGLU). The skinny GEMM runs the
// norm as a kernel of its own. The CPU's kernel takes these tensors in x's type.
struct GemvOptions {
  at::Tensor norm = {};  // (I): the product is of rms_norm(x, norm, eps)
  double eps = 0;
  at::Tensor bias = {};        // (O): added
  at::Tensor residual = {};    // (..., O): added; not where gated
  at::Tensor semaphores = {};  // make_semaphores(); calls that may run at the same time must not share them
  bool gated = false;  // weight holds the rows of gate and then of up: the result is swiglu(gate, up), (..., O / 2)
};

enum class WeightType {
  stored,  // the model's dtype
  int8,    // one scale a row: weight = scale * value, value in -127 .. 127
  int4,    // groups of 32 along a row: weight = scale * value + least, value in 0 .. 15, scale and least float16
  fp8,     // one scale a row: weight = scale * value, value in e4m3 (fp8.h)
};
const char* weight_type_name(WeightType type);  // "stored", "int8", "int4", "fp8"

constexpr int64_t kInt4Group = 32;

// One matrix (out, in). Immutable; copies share their tensors.
struct QuantisedWeight {
  WeightType type = WeightType::int8;
  int64_t out = 0, in = 0;
  at::Tensor values;   // int8: (out, in) int8. int4: (out, in / 2) uint8, the even column in the high half.
                       // fp8: (out, in) float8_e4m3fn
  at::Tensor scales;   // int8, fp8: (out). int4: (out, in / 32, 2) float16: scale, least
  bool tiled = false;  // int4 on a CPU: values and scales of each 16 rows lie in the order of ops/cpu/gemv_args.h

  int64_t bytes() const;  // of all of it
};

// A model's matrix (out, in): dense or quantised.
struct Matrix {
  at::Tensor weight;  // undefined where quantised; where it is there besides, products take the quantised one
  std::shared_ptr<const QuantisedWeight> quantised = nullptr;

  bool defined() const { return quantised || weight.defined(); }
  bool dense() const { return !quantised && weight.defined(); }
  int64_t in() const { return quantised ? quantised->in : weight.size(1); }
  int64_t out() const { return quantised ? quantised->out : weight.size(0); }
};

}  // namespace cepe
