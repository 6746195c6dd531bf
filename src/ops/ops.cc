#include "ops/ops.h"

#include <ATen/ATen.h>

#include "base/error.h"
#include "ops/elementwise/elementwise_cpu.h"
#include "ops/elementwise/elementwise_cuda.h"

namespace cepe {
namespace {

// Norms and rotations are computed in at least float32.
at::Tensor widen(const at::Tensor& x) { return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat); }

bool all_fused_on_cpu(const at::Tensor& x, const at::Tensor& weight) {
  return fused_cpu_applies(x) && fused_cpu_applies(weight) && x.scalar_type() == weight.scalar_type();
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  if (fused_norm_applies(x, weight)) return fused_rms_norm(x, weight, eps);
  if (all_fused_on_cpu(x, weight)) return fused_cpu_rms_norm(x, weight, eps);
  // LibTorch's own kernel computes in float32 inside.
  return at::rms_norm(x, {x.size(-1)}, weight, eps);
}

NormedSum add_rms_norm(const at::Tensor& x, const at::Tensor& y, const at::Tensor& weight, double eps) {
  if (fused_norm_applies(x, weight, y)) return fused_add_rms_norm(x, y, weight, eps);
  if (all_fused_on_cpu(x, weight) && fused_cpu_applies(y) && x.sizes() == y.sizes() &&
      x.scalar_type() == y.scalar_type()) {
    return fused_cpu_add_rms_norm(x, y, weight, eps);
  }
  const at::Tensor sum = x + y;
  return {sum, rms_norm(sum, weight, eps)};
}

at::Tensor rotary(const at::Tensor& x_BTHK, const RotaryTable& table, int64_t first) {
  const int64_t T = x_BTHK.size(1), positions = table.cos.size(0);
  require(first >= 0 && first + T <= positions, "rotary: position {} lies beyond the table of {} positions",
          first + T - 1, positions);
  if (fused_applies(x_BTHK)) return fused_rotary(x_BTHK, table, first);
  if (fused_cpu_applies(x_BTHK) && table.cos.scalar_type() == at::kFloat) return fused_cpu_rotary(x_BTHK, table, first);
  const at::Tensor cos = table.cos.narrow(0, first, T).view({1, T, 1, table.cos.size(1)});
  const at::Tensor sin = table.sin.narrow(0, first, T).view({1, T, 1, table.sin.size(1)});
  const std::vector<at::Tensor> halves = widen(x_BTHK).chunk(2, -1);
  const at::Tensor &a = halves[0], &b = halves[1];
  return at::cat({a * cos - b * sin, b * cos + a * sin}, -1).to(x_BTHK.scalar_type());
}

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  if (fused_applies(gate)) return fused_swiglu(gate, up);
  return at::silu(gate) * up;
}

}  // namespace cepe
