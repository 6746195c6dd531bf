// Trained weights in the arithmetic's type, through which gradients flow back to the float32 ones.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "model/cepe.h"

namespace cepe {

// The model with its trained parts in another type: a few kernels for each layer in place of one for each tensor, and
// as few for the gradients. Weights of one layer stand one after another in memory, so that products of the same rows
// can be one (ops/gemm/trained_products.h). In float32, which they have already, the parts themselves.
Cepe working_copy(const Cepe& model, at::ScalarType dtype);

// Tensors of one type and device as views of one tensor in another type, each with its gradient.
std::vector<at::Tensor> cast_together(const std::vector<at::Tensor>& tensors, at::ScalarType dtype);

}  // namespace cepe
