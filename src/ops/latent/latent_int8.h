// The encoder's states in 8 bits: a byte for each number and a float32 scale for each token, half of bfloat16's memory.
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/latent/latent_states.h"

namespace cepe {

// Rounds to nearest. states (..., E). Works block by block, so that no float32 copy of a long context is made. A token
// that has a NaN or infinity gets a scale that is one.
Int8States quantize_states(const at::Tensor& states);

// -> (..., E) of the given type
at::Tensor dequantize_states(const Int8States& states, at::ScalarType dtype);

}  // namespace cepe
