#include "ops/gemm/fp8_cuda.h"

#include "base/error.h"
#include "ops/cuda/launch.h"
#include "ops/gemm/fp8_kernel.h"

namespace cepe {

std::string cuda_fp8_refusal(const at::Device& device) {
  const cudaDeviceProp* const found = at::cuda::getDeviceProperties(device.index());
  if (found->major == 9 && found->minor == 0) return "";
  return fmt::format("found {} of {}.{}", found->name, found->major, found->minor);
}

std::optional<Fp8Rows> cuda_fp8_rows(const at::Tensor& given, const at::Tensor& given_gate) {
  const bool applies = given.is_cuda() && given.scalar_type() == at::kBFloat16 && fused::fp8_width_fits(given.size(1));
  if (!applies) return std::nullopt;
  const at::Tensor x = cuda::dense(given), gate = given_gate.defined() ? cuda::dense(given_gate) : at::Tensor();
  const cuda::Launch launch(x);
  const Fp8Rows out{at::empty(x.sizes(), x.options().dtype(at::kFloat8_e4m3fn)),
                    at::empty({x.size(0), 1}, x.options().dtype(at::kFloat))};
  fused::Fp8RowsArgs args{};
  args.x = x.const_data_ptr();
  args.gate = gate.defined() ? gate.const_data_ptr() : nullptr;
  args.values = out.values.mutable_data_ptr();
  args.scales = out.scales.mutable_data_ptr<float>();
  args.rows = x.size(0), args.width = x.size(1);
  fused::fp8_rows(args, launch.stream());
  return out;
}

}  // namespace cepe
