#include "ops/latent/latent_int8.h"

#include <ATen/ATen.h>

#include <algorithm>

#ifdef CEPE_CUDA
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>

#include "ops/latent/latent_kernel.h"
#endif

namespace cepe {
namespace {

#ifdef CEPE_CUDA
bool widens(const Int8States& states, at::ScalarType dtype) {
  return states.values.is_cuda() && dtype == at::kBFloat16 && states.values.size(-1) % 16 == 0 &&
         states.values.numel() > 0;
}
at::Tensor widen(const Int8States& states) {
  const c10::cuda::CUDAGuard guard(states.values.device());
  at::Tensor values = states.values.contiguous();
  if (reinterpret_cast<uintptr_t>(values.const_data_ptr()) % 16 != 0) values = values.clone();
  const at::Tensor scales = states.scales.contiguous(),
                   out = at::empty(values.sizes(), values.options().dtype(at::kBFloat16));
  latent_kernel::widen({values.const_data_ptr(), scales.const_data_ptr<float>(), out.mutable_data_ptr(), scales.numel(),
                        values.size(-1)},
                       at::cuda::getCurrentCUDAStream(values.device().index()).stream());
  return out;
}
#endif

}  // namespace

Int8States quantize_states(const at::Tensor& states) {
  constexpr int64_t kPiece = 65536;  // tokens
  const int64_t E = states.size(-1), tokens = states.numel() / std::max<int64_t>(1, E);
  const at::Tensor from = states.reshape({tokens, E});
  const at::Tensor values = at::empty({tokens, E}, states.options().dtype(at::kByte));
  const at::Tensor scales = at::empty({tokens}, states.options().dtype(at::kFloat));
  for (int64_t first = 0; first < tokens; first += kPiece) {
    const int64_t n = std::min(kPiece, tokens - first);
    const at::Tensor wide = from.narrow(0, first, n).to(at::kFloat);
    const at::Tensor scale = wide.abs().amax(-1).clamp_min(1e-12).div_(127);
    scales.narrow(0, first, n).copy_(scale);
    values.narrow(0, first, n).copy_((wide / scale.unsqueeze(1)).round_().clamp_(-127, 127).add_(128));
  }
  return {values.view(states.sizes()), scales.view(states.sizes().slice(0, states.dim() - 1))};
}

at::Tensor dequantize_states(const Int8States& states, at::ScalarType dtype) {
#ifdef CEPE_CUDA
  if (widens(states, dtype)) return widen(states);
#endif
  return states.values.to(at::kFloat).sub_(128).mul_(states.scales.unsqueeze(-1)).to(dtype);
}

}  // namespace cepe
