// Products of many rows through which gradients flow, with what follows them, each one operation of autograd. Products
// of the same rows are one: forward, for the rows' gradient, and for the weights'. A training step of a small model has
// far fewer kernels so than by one operation after another, and no sums of gradients between them.
//
// Fewer products are joined without a copy where the weights stand one after another in memory, as
// model/merged_projections.h leaves them. A frozen weight gets no gradient, and then the rows are not kept.
//
// On a CUDA device in bfloat16 by the kernels of elementwise/; elsewhere by LibTorch's operations.
#pragma once

#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "ops/gemm/fp8_types.h"
#include "ops/gemm/fused_gemm_types.h"
#include "ops/types.h"

namespace cepe {

// Frozen weights in fp8, each rounded when a product first needs it, and kept: two bytes a number, beside the weight.
// Threads may share it. A weight must not change.
class Fp8Weights {
 public:
  struct Kept {
    Fp8Rows rows;     // of the weight
    Fp8Rows columns;  // rows of its transpose
  };
  // Of matrices of equal width one below another. Known again by where the first one stands in memory, which is held.
  const Kept& of(const std::vector<at::Tensor>& matrices);

 private:
  struct Entry {
    at::Tensor first;
    Kept kept;
  };
  std::mutex mutex_;
  std::map<std::pair<const void*, size_t>, Entry> entries_;
};

// While one lives, products of its thread whose weights are frozen are in fp8 (fp8.h), forward and for the rows'
// gradient: rows and gradients are rounded as they come, each row with a scale of its own, weights as `weights` keeps
// them. Weights that are trained, and sizes that fp8_fits() refuses, stay in bfloat16. Error, when a product comes,
// where fp8_refusal() speaks against it.
class Fp8FrozenProducts {
 public:
  explicit Fp8FrozenProducts(Fp8Weights* weights);  // null: none are in fp8; else it outlives the products' graph
  ~Fp8FrozenProducts();
  static Fp8Weights* current();  // of the innermost one of this thread
  Fp8FrozenProducts(const Fp8FrozenProducts&) = delete;
  Fp8FrozenProducts& operator=(const Fp8FrozenProducts&) = delete;

 private:
  Fp8Weights* const before_;
};

// Whether the operations of ops/ that multiply such rows are one of these: bfloat16 on a CUDA device, more rows than a
// GEMV or skinny GEMM takes, and a gradient wanted of rows or weights.
bool trained_product_applies(const at::Tensor& x, std::initializer_list<at::Tensor> weights);

// x weight^T. x (..., D), weight (O, D) -> (..., O)
at::Tensor trained_product(const at::Tensor& x, const at::Tensor& weight_OD);

// The same of queries, keys and values; or no gradient is wanted, and the weights stand one after another in memory.
bool trained_rotary_applies(const at::Tensor& x, const RotaryGemmWeights& weights, const RotaryTable& table);

// As swiglu_gemm() of fused_gemm.h. x (..., D), gate and up (F, D) -> (..., F)
at::Tensor trained_swiglu(const at::Tensor& x, const at::Tensor& gate_FD, const at::Tensor& up_FD);

// As rotary_gemm() of fused_gemm.h. The three results are views of one tensor.
RotaryGemm trained_rotary(const at::Tensor& x_BTD, const RotaryGemmWeights& weights, const RotaryTable& table,
                          int64_t first);

// Matrices of equal width one below another: a view where they stand so in memory, else a copy. Without autograd.
at::Tensor joined_rows(const std::vector<at::Tensor>& matrices);
bool stand_together(const std::vector<at::Tensor>& matrices);  // they stand so

}  // namespace cepe
