// Activations that are computed twice instead of kept: a piece of a model's work that autograd records as one
// operation. For its backward pass the operation keeps what goes into the piece, and computes the piece again.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace cepe {

// A pure function: the same inputs give the same outputs. Its copy lives as long as the graph of the outputs, so that
// it must not hold them, and what it refers to must live as long.
using RecomputedPiece = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>& inputs)>;

// piece(inputs), each number as if autograd had recorded the piece. inputs: every tensor through which a gradient flows
// into it, but for weights (undefined ones stay so); weights: those that it reads and that ask for gradients. Products
// are in fp8 both times where they are when this is called (gemm/trained_products.h).
std::vector<at::Tensor> recomputed(const RecomputedPiece& piece, const std::vector<at::Tensor>& inputs,
                                   const std::vector<at::Tensor>& weights);

}  // namespace cepe
