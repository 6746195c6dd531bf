// The CUDA backends of the operations in a build without CUDA: none applies to any tensor, so the dispatch above them
// takes the CPU's kernels or LibTorch's operations.
#include "base/error.h"
#include "ops/attention_cuda.h"
#include "ops/attention_mass/attention_mass_cuda.h"
#include "ops/chain/gemv_chain.h"
#include "ops/cuda/device.h"
#include "ops/elementwise/elementwise_cuda.h"
#include "ops/gemm/fp8_cuda.h"
#include "ops/gemm/fused_gemm_cuda.h"
#include "ops/gemv/gemv.h"
#include "ops/gemv/gemv_cuda.h"
#include "ops/latent/context_table.h"
#include "ops/latent/latent_attention_cuda.h"
#include "ops/latent/latent_int8_cuda.h"
#include "ops/step/captured_work.h"
#include "ops/step/sample.h"
#include "ops/step/step_ops_cuda.h"

namespace cepe {
namespace {

using at::Tensor;

[[noreturn]] void absent(const char* operation) { fail("{}: this build of cepe is without CUDA", operation); }

}  // namespace

std::string cuda_device_name(const c10::Device&) { return ""; }
bool device_is_exclusive(const c10::Device&) { return false; }
std::string hopper_refusal(const c10::Device& device) {
  return fmt::format("a Hopper GPU (compute capability 9.0) is needed, found the device {}", device.str());
}

// elementwise/elementwise_cuda.h
bool fused_applies(const Tensor&) { return false; }
bool fused_norm_applies(const Tensor&, const Tensor&, const Tensor&) { return false; }
Tensor fused_rotary(const Tensor&, const RotaryTable&, int64_t) { absent("rotary positions on a GPU"); }
Tensor fused_swiglu(const Tensor&, const Tensor&) { absent("SwiGLU on a GPU"); }
void fused_turn(const Tensor&, const Tensor&, const RotaryTurn&) { absent("rotary positions on a GPU"); }
Tensor fused_swiglu_halves(const Tensor&) { absent("SwiGLU on a GPU"); }
Tensor fused_swiglu_halves_backward(const Tensor&, const Tensor&) { absent("SwiGLU on a GPU"); }
Tensor fused_cross_entropy(Tensor&, const Tensor&, bool) { absent("cross-entropy on a GPU"); }
Tensor fused_rms_norm(const Tensor&, const Tensor&, double) { absent("RMSNorm on a GPU"); }
NormedSum fused_add_rms_norm(const Tensor&, const Tensor&, const Tensor&, double) { absent("RMSNorm on a GPU"); }

// attention_cuda.h
bool flash_applies(const Tensor&) { return false; }
Tensor flash_causal_attention(const Tensor&, const Tensor&, const Tensor&) { absent("attention on a GPU"); }
Tensor flash_masked_attention(const Tensor&, const Tensor&, const Tensor&, const Tensor&) {
  absent("attention on a GPU");
}
PackedKeys flash_pack_keys(const Tensor&, const Tensor&, int64_t) { absent("attention on a GPU"); }
Tensor flash_attend_packed(const Tensor&, const Tensor&, const Tensor&, const PackedKeys&) {
  absent("attention on a GPU");
}
Tensor flash_packed_attention(const Tensor&, const Tensor&, const Tensor&, const PackedSequences&) {
  absent("attention on a GPU");
}
bool fused_merge_applies(const Tensor&) { return false; }
void fused_merge_attention(const Tensor&, const Tensor&, Tensor&, Tensor&) { absent("merging attention on a GPU"); }

// latent/latent_attention_cuda.h
bool cuda_latent_attention_applies(const Tensor&, const Tensor&) { return false; }
Tensor cuda_latent_attention(const Tensor&, const LatentStates&, double, CudaLatentForm) {
  absent("attention on latents on a GPU");
}

// latent/latent_int8_cuda.h
Tensor cuda_dequantize_states(const Int8States&, at::ScalarType) { return {}; }

// latent/context_table.h
bool context_table_applies(const TableBatch&, const std::vector<TableRange>&) { return false; }
ContextTable::ContextTable(const TableBatch& batch, const std::vector<TableRange>&) : batch_(batch) {
  absent("contexts of different lengths in one pass");
}
void ContextTable::set(const std::vector<TableRange>&) { absent("contexts of different lengths in one pass"); }
Tensor latent_attention(const Tensor&, const ContextTable&, double) {
  absent("contexts of different lengths in one pass");
}

// attention_mass/attention_mass_cuda.h
bool cuda_attention_mass_applies(const Tensor&, const Tensor&) { return false; }
Tensor cuda_attention_mass(const Tensor&, const LatentStates&, const ChunkBounds&, double) {
  absent("attention mass on a GPU");
}

// gemv/gemv_cuda.h
bool cuda_gemv_applies(const Tensor&, const Tensor&) { return false; }
bool cuda_gemv_applies(const Tensor&, const QuantisedWeight&) { return false; }
Tensor cuda_gemv(const Tensor&, const Tensor&, const GemvOptions&) { absent("GEMV on a GPU"); }
Tensor cuda_gemv(const Tensor&, const QuantisedWeight&, const GemvOptions&) { absent("GEMV on a GPU"); }
bool cuda_skinny_gemm_applies(const Tensor&, const Tensor&, bool) { return false; }
Tensor cuda_semaphores(const c10::Device&) { return {}; }
Tensor cuda_skinny_gemm(const Tensor&, const Tensor&, const GemvOptions&) { return {}; }
Tensor cuda_batched_gemv(const Tensor&, const Tensor&, bool, const Tensor&) { return {}; }
Tensor cuda_dequantise_int4(const QuantisedWeight&) { absent("int4 weights on a GPU"); }

// gemm/fused_gemm_cuda.h, gemm/fp8_cuda.h
Tensor cuda_swiglu_gemm(const Tensor&, const Tensor&, const Tensor&) { return {}; }
Tensor cuda_rotary_gemm(const Tensor&, const RotaryGemmWeights&, const RotaryTable&, int64_t) { return {}; }
std::string cuda_fp8_refusal(const at::Device&) { return "and a build with CUDA, which this is not"; }
std::optional<Fp8Rows> cuda_fp8_rows(const Tensor&, const Tensor&) { return std::nullopt; }

// chain/gemv_chain.h: every product is computed when it is added.
struct GemvChain::Pending {};
GemvChain::GemvChain(bool, bool tiles) : tiles_(tiles) {}
GemvChain::~GemvChain() = default;
Tensor GemvChain::product(const Tensor& x, const Tensor& weight_OI, const GemvOptions& options) {
  return gemv(x, weight_OI, options);
}
Tensor GemvChain::product(const Tensor& x, const QuantisedWeight& weight_OI, const GemvOptions& options) {
  return gemv(x, weight_OI, options);
}
Tensor GemvChain::batched_gemv(const Tensor& x_BHI, const Tensor& matrices, bool transposed) {
  return cepe::batched_gemv(x_BHI, matrices, transposed);
}
void GemvChain::run() {}
void GemvChain::discard() {}
ChainTurn::ChainTurn(const c10::Device&) {}
ChainTurn::~ChainTurn() = default;

// step/captured_work.h: every run calls the work.
struct CapturedWork::Graph {};
CapturedWork::CapturedWork(const c10::Device&, bool, std::function<void()> work) : work_(std::move(work)) {}
CapturedWork::~CapturedWork() = default;
void CapturedWork::run() { work_(); }

// step/sample.h
bool DeviceSampler::applies(const c10::Device&) { return false; }
void DeviceSampler::launch(const Tensor&, const Tensor&, int64_t) { absent("sampling on a GPU"); }

// step/step_ops_cuda.h
bool cuda_step_attention_applies(const at::Device&, at::ScalarType, int64_t) { return false; }
Tensor cuda_step_attention(const Tensor&, const StepAttention&, int64_t) { absent("step attention on a GPU"); }
Tensor cuda_step_swiglu(const Tensor&) { return {}; }

}  // namespace cepe
