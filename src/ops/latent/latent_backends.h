// The two kernels behind one pass over the latents (latent_kernel.h), which latent_backends_cuda.cc chooses between.
// on_hopper: wgmma, TMA, clusters; latent_kernel.cu. on_ampere: mma.sync, cp.async, for every GPU from compute
// capability 8.0 on; latent_mma_kernel.cu. Functions without a comment are those of latent_kernel.h.
#pragma once

#include <cstdint>

#include "ops/latent/latent_kernel.h"

namespace cepe::latent_kernel {

// How many readers of so many CTAs the current device runs at the same time.
int most_readers(int blocks);

namespace on_hopper {
int most_readers(int blocks);
int reader_blocks_for(int64_t width, bool eight_bits, int block_rows, int64_t tokens);
int block_rows_for(int64_t rows, bool eight_bits);
int64_t scratch_floats(const Args& args);
void latent_attention(const Args& args, void* stream);
}  // namespace on_hopper

// A reader is one CTA.
namespace on_ampere {
int most_readers();
int block_rows_for(int64_t rows);
int64_t scratch_floats(const Args& args);
void latent_attention(const Args& args, void* stream);
}  // namespace on_ampere

}  // namespace cepe::latent_kernel
