#include "ops/latent/latent_int8_cuda.h"

#include "ops/cuda/launch.h"
#include "ops/latent/latent_kernel.h"

namespace cepe {

at::Tensor cuda_dequantize_states(const Int8States& states, at::ScalarType dtype) {
  const bool applies = states.values.is_cuda() && dtype == at::kBFloat16 && states.values.size(-1) % 16 == 0 &&
                       states.values.numel() > 0;
  if (!applies) return {};
  const cuda::Launch launch(states.values);
  const at::Tensor values = cuda::dense(states.values), scales = states.scales.contiguous();
  const at::Tensor out = at::empty(values.sizes(), values.options().dtype(at::kBFloat16));
  latent_kernel::widen({values.const_data_ptr(), scales.const_data_ptr<float>(), out.mutable_data_ptr(), scales.numel(),
                        values.size(-1)},
                       launch.stream());
  return out;
}

}  // namespace cepe
