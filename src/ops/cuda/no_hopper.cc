// In place of the kernels for Hopper in a CUDA build without code for sm_90a. None of them ever applies: capability.h
// says so before one is asked for.
#include "ops/attention_mass/attention_mass_kernel.h"
#include "ops/chain/gemv_chain_kernel.h"
#include "ops/cuda/capability.h"
#include "ops/cuda/refuse.h"
#include "ops/gemm/fused_gemm_kernel.h"
#include "ops/gemv/gemv_kernel.h"
#include "ops/latent/latent_backends.h"

namespace cepe {
namespace {

[[noreturn]] void absent(const char* kernel) { cuda::refuse(kernel, "this build has no code for sm_90a"); }

}  // namespace

bool cuda::hopper_is_built() { return false; }

namespace latent_kernel::on_hopper {
int most_readers(int) { absent("latent attention"); }
int reader_blocks_for(int64_t, bool, int, int64_t) { absent("latent attention"); }
int block_rows_for(int64_t, bool) { absent("latent attention"); }
int64_t scratch_floats(const Args&) { absent("latent attention"); }
void latent_attention(const Args&, void*) { absent("latent attention"); }
}  // namespace latent_kernel::on_hopper

namespace mass_kernel {
int64_t statistics_floats(int64_t, int64_t) { absent("attention mass"); }
void score_tiles(const ScoreArgs&, void*) { absent("attention mass"); }
void sum_by_chunk(const SumArgs&, void*) { absent("attention mass"); }
}  // namespace mass_kernel

namespace gemv_kernel {
bool tiles_fit(const Args&) { return false; }
int64_t tile_part_bytes(const Args&) { absent("skinny GEMM"); }
void skinny_gemm(const Args&, void*) { absent("skinny GEMM"); }
}  // namespace gemv_kernel

namespace fused_gemm_kernel {
bool fits(const SwigluArgs&) { return false; }
bool pays(const SwigluArgs&) { return false; }
void swiglu_gemm(const SwigluArgs&, void*) { absent("fused GEMM"); }
bool fits(const RotaryArgs&) { return false; }
bool pays(const RotaryArgs&) { return false; }
void rotary_gemm(const RotaryArgs&, void*) { absent("fused GEMM"); }
}  // namespace fused_gemm_kernel

namespace gemv_chain_kernel {
bool fits(const Args&) { return false; }
int64_t workspace_bytes(const Args&) { absent("GEMV chain"); }
void run(const Args&, void*) { absent("GEMV chain"); }
}  // namespace gemv_chain_kernel

}  // namespace cepe
