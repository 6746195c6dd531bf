// The CUDA backend of attention_mass() (attention_mass.h): bfloat16 queries, the widths of latent/latent_kernel.h. In
// a build without CUDA it never applies (ops/cuda/no_cuda.cc).
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/attention_mass/chunk_bounds.h"
#include "ops/latent/latent_states.h"

namespace cepe {

bool cuda_attention_mass_applies(const at::Tensor& query_BNE, const at::Tensor& states_BSE);
at::Tensor cuda_attention_mass(const at::Tensor& query_BNE, const LatentStates& context, const ChunkBounds& chunks,
                               double scale);

}  // namespace cepe
