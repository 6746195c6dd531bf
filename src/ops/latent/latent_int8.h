// The encoder's states in 8 bits: a byte for each number and a float32 scale for each token, half of bfloat16's memory.
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/latent/latent_states.h"

namespace cepe {

// Rounds to the nearest. states (..., E), in pieces, so that no wide copy of a long context is made. A token with a
// number that is none gets such a scale.
Int8States quantize_states(const at::Tensor& states);

// -> (..., E) of the given type
at::Tensor dequantize_states(const Int8States& states, at::ScalarType dtype);

}  // namespace cepe
