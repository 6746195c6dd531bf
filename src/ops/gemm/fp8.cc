#include "ops/gemm/fp8.h"

#include <ATen/ATen.h>

#include "base/error.h"
#include "ops/ops.h"

#ifdef CEPE_CUDA
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>

#include "ops/gemm/fp8_kernel.h"
#endif

namespace cepe {
namespace {

constexpr double kGreatest = 448;

Fp8Rows by_operations(const at::Tensor& x) {
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor greatest = wide.abs().amax(-1, /*keepdim=*/true).clamp_min(1e-12);
  const at::Tensor limit = at::full_like(greatest, kGreatest);  // a quotient of tensors is not replaced by a product
  return {(wide * (limit / greatest)).to(at::kFloat8_e4m3fn), greatest / limit};
}

#ifdef CEPE_CUDA
bool kernel_applies(const at::Tensor& x) {
  return x.is_cuda() && x.scalar_type() == at::kBFloat16 && fused::fp8_width_fits(x.size(1));
}

// Contiguous and aligned for 16-byte accesses; a copy only where it must be one.
at::Tensor dense(const at::Tensor& x) {
  const at::Tensor y = x.contiguous();
  return reinterpret_cast<uintptr_t>(y.const_data_ptr()) % 16 == 0 ? y : y.clone();
}

Fp8Rows by_kernel(const at::Tensor& given, const at::Tensor& given_gate) {
  const at::Tensor x = dense(given), gate = given_gate.defined() ? dense(given_gate) : at::Tensor();
  const c10::cuda::CUDAGuard guard(x.device());
  const Fp8Rows out{at::empty(x.sizes(), x.options().dtype(at::kFloat8_e4m3fn)),
                    at::empty({x.size(0), 1}, x.options().dtype(at::kFloat))};
  fused::Fp8RowsArgs args{};
  args.x = x.const_data_ptr();
  args.gate = gate.defined() ? gate.const_data_ptr() : nullptr;
  args.values = out.values.mutable_data_ptr();
  args.scales = out.scales.mutable_data_ptr<float>();
  args.rows = x.size(0), args.width = x.size(1);
  fused::fp8_rows(args, at::cuda::getCurrentCUDAStream(x.device().index()).stream());
  return out;
}
#endif

}  // namespace

std::string fp8_refusal(const at::Device& device) {
  constexpr const char* kNeeded = "a Hopper GPU (compute capability 9.0) is needed";
  if (!device.is_cuda()) return fmt::format("{}, found the device {}", kNeeded, device.str());
#ifdef CEPE_CUDA
  const cudaDeviceProp* const found = at::cuda::getDeviceProperties(device.index());
  if (found->major == 9 && found->minor == 0) return "";
  return fmt::format("{}, found {} of {}.{}", kNeeded, found->name, found->major, found->minor);
#else
  return fmt::format("{}, and a build with CUDA, which this is not", kNeeded);
#endif
}

Fp8Rows fp8_rows(const at::Tensor& x) {
  const at::Tensor rows = x.reshape({-1, x.size(-1)});
#ifdef CEPE_CUDA
  if (kernel_applies(rows)) return by_kernel(rows, {});
#endif
  return by_operations(rows);
}

Fp8Rows fp8_swiglu(const at::Tensor& gate, const at::Tensor& up) {
  require(gate.sizes() == up.sizes(), "fp8 SwiGLU: the gate has {} numbers, the other factor {}", gate.numel(),
          up.numel());
  const at::Tensor gates = gate.reshape({-1, gate.size(-1)}), ups = up.reshape({-1, up.size(-1)});
#ifdef CEPE_CUDA
  if (kernel_applies(ups)) return by_kernel(ups, gates);
#endif
  return by_operations(swiglu(gates.to(at::kFloat), ups.to(at::kFloat)));
}

at::Tensor fp8_product(const Fp8Rows& x, const Fp8Rows& weight) {
  const int64_t out = weight.values.size(0), in = weight.values.size(1);
  const std::string refusal = fp8_refusal(x.values.device());
  require(refusal.empty(), "products in fp8: {}", refusal);
  require(fp8_fits(out, in), "products in fp8: a matrix of ({}, {}), expected multiples of 16", out, in);
  require(x.values.size(1) == in, "products in fp8: {} inputs, expected {}", x.values.size(1), in);
  // Row times column, each with its scale: cuBLASLt's outer-vector scaling, on any number of rows.
  return at::_scaled_mm(x.values, weight.values.t(), x.scales, weight.scales.reshape({1, out}), /*bias=*/{},
                        /*scale_result=*/{}, at::kBFloat16, /*use_fast_accum=*/true);
}

}  // namespace cepe
