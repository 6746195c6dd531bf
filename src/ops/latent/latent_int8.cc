#include "ops/latent/latent_int8.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "ops/latent/latent_int8_cuda.h"

namespace cepe {

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
  if (const at::Tensor wide = cuda_dequantize_states(states, dtype); wide.defined()) return wide;
  return states.values.to(at::kFloat).sub_(128).mul_(states.scales.unsqueeze(-1)).to(dtype);
}

}  // namespace cepe
