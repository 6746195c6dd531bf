#include "ops/latent/latent_backends.h"

#include "ops/cuda/capability.h"
#include "ops/cuda/refuse.h"

namespace cepe::latent_kernel {
namespace {

bool hopper() { return cuda::capability().hopper; }

}  // namespace

int most_readers(int blocks) { return hopper() ? on_hopper::most_readers(blocks) : on_ampere::most_readers(); }

int reader_blocks_for(int64_t width, bool eight_bits, int block_rows, int64_t tokens) {
  return hopper() ? on_hopper::reader_blocks_for(width, eight_bits, block_rows, tokens) : 1;
}

int block_rows_for(int64_t rows, bool eight_bits) {
  return hopper() ? on_hopper::block_rows_for(rows, eight_bits) : on_ampere::block_rows_for(rows);
}

int64_t scratch_floats(const Args& args) {
  return hopper() && !args.any_gpu ? on_hopper::scratch_floats(args) : on_ampere::scratch_floats(args);
}

void latent_attention(const Args& args, void* stream) {
  if (!width_fits(args.width)) cuda::refuse("latent attention", "the width is not a multiple of 64 up to 1024");
  if (!args.table && args.tokens < 1) cuda::refuse("latent attention", "the context has no tokens");
  if (args.contexts == 0 || args.rows == 0) return;
  if (hopper() && !args.any_gpu) return on_hopper::latent_attention(args, stream);
  on_ampere::latent_attention(args, stream);
}

}  // namespace cepe::latent_kernel
