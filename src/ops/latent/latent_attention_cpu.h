// The CPU backend of latent_attention() (latent_attention.h).
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/latent/latent_states.h"

namespace cepe {

// As latent_attention(), whose checks have passed: states on a CPU in float32, bfloat16 or 8 bits.
at::Tensor cpu_latent_attention(const at::Tensor& query_BNE, const LatentStates& context, double scale);

}  // namespace cepe
