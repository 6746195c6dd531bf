// The CUDA backend of latent_attention() (latent_attention.h). In a build without CUDA it never applies
// (ops/cuda/no_cuda.cc).
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/latent/latent_states.h"

namespace cepe {

// True where the kernel applies: queries in bfloat16, states so or in 8 bits, on a CUDA device, of a width that it is
// compiled for.
bool cuda_latent_attention_applies(const at::Tensor& query_BNE, const at::Tensor& states_BSE);

// one_pass: a kernel that reads each state once for up to 64 rows (in 8 bits 32); bound by memory where rows are few.
// products: cuBLAS GEMMs over blocks of the context with a softmax kernel between them; bound by arithmetic.
// automatic: chosen by the number of rows that read one context. any_gpu: one pass by the kernel that every GPU from
// compute capability 8.0 on runs, although the device may have one of its own.
enum class CudaLatentForm { automatic, one_pass, products, any_gpu };

// As latent_attention() of latent_attention.h.
at::Tensor cuda_latent_attention(const at::Tensor& query_BNE, const LatentStates& context, double scale,
                                 CudaLatentForm form = CudaLatentForm::automatic);

}  // namespace cepe
