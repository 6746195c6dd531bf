// Matrices held in 8 or 4 bits a weight, multiplied with activations in bfloat16 or float32 ("weight-only"
// quantisation): what limits writing one token after another is reading the weights. The products of few rows are
// kernels for narrow weights: ours on a CUDA device and on a CPU (gemv.h), LibTorch's for sizes that ours lack. For
// many rows the weights are widened first, since arithmetic binds there. fp8 is another thing: for many rows the
// activations are rounded too and the arithmetic itself is narrow (fp8.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "ops/gemv/gemv_types.h"

namespace cepe {

// What a product of few rows reads for a weight, its share of the scales included.
double read_bytes_a_weight(const QuantisedWeight& weight);

// Whether a matrix of this shape can be held so: int4 asks that `in` is a multiple of 32 and `out` of 16,
// fp8 that both are of 16.
bool can_quantise(WeightType type, int64_t out, int64_t in);

// Rounds a matrix (out, in), float32 or bfloat16, to the nearest value. int4 goes from the least to the greatest weight
// of a group, both in float16: of weights that a grid of +-65504 cannot reach each becomes the nearest that it can, and
// where float16 is coarse (scales below 6e-5) values are off by up to 15 * 2^-25. Error where can_quantise() is false.
QuantisedWeight quantise_weight(const at::Tensor& weight, WeightType type);

// An int4 matrix of its numbers (out, in) uint8, 0 .. 15, and its scales (out, in / 32, 2) float16: scale, least. On
// the device where they are.
QuantisedWeight int4_weight(const at::Tensor& values_OI, const at::Tensor& scales);

// The matrix again, (out, in) of the given type; of int4 on a CUDA device rounded to bfloat16 first.
at::Tensor dequantise_weight(const QuantisedWeight& weight, at::ScalarType dtype);

// Matrices of the same `in`, one below the other. `parts` become views of it, so that memory stays what it was.
// Nothing, and parts stay as they are, where the types differ.
std::optional<QuantisedWeight> merge_quantised(const std::vector<QuantisedWeight*>& parts);

// x (..., in) -> (..., out), x's type. fp8 asks for a Hopper GPU and x in bfloat16; an Error says so. Up to
// dispatch::kGemvRows rows of x are multiplied as they are; of more, fp8 rounds x too.
at::Tensor quantised_linear(const at::Tensor& x, const QuantisedWeight& weight);

}  // namespace cepe
