#include "ops/gemm/fp8.h"

#include <ATen/ATen.h>

#include "base/error.h"
#include "ops/gemm/fp8_cuda.h"
#include "ops/ops.h"

namespace cepe {
namespace {

constexpr double kGreatest = 448;

Fp8Rows by_operations(const at::Tensor& x) {
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor greatest = wide.abs().amax(-1, /*keepdim=*/true).clamp_min(1e-12);
  const at::Tensor limit = at::full_like(greatest, kGreatest);  // a quotient of tensors is not replaced by a product
  return {(wide * (limit / greatest)).to(at::kFloat8_e4m3fn), greatest / limit};
}

}  // namespace

std::string fp8_refusal(const at::Device& device) {
  constexpr const char* kNeeded = "a Hopper GPU (compute capability 9.0) is needed";
  if (!device.is_cuda()) return fmt::format("{}, found the device {}", kNeeded, device.str());
  const std::string refusal = cuda_fp8_refusal(device);
  return refusal.empty() ? "" : fmt::format("{}, {}", kNeeded, refusal);
}

Fp8Rows fp8_rows(const at::Tensor& x) {
  const at::Tensor rows = x.reshape({-1, x.size(-1)});
  if (const auto found = cuda_fp8_rows(rows, {})) return *found;
  return by_operations(rows);
}

Fp8Rows fp8_swiglu(const at::Tensor& gate, const at::Tensor& up) {
  require(gate.sizes() == up.sizes(), "fp8 SwiGLU: the gate has {} numbers, the other factor {}", gate.numel(),
          up.numel());
  const at::Tensor gates = gate.reshape({-1, gate.size(-1)}), ups = up.reshape({-1, up.size(-1)});
  if (const auto found = cuda_fp8_rows(ups, gates)) return *found;
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
