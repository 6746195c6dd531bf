#include "ops/step/step_ops.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>

#include "base/error.h"
#include "ops/cpu/step_attention.h"
#include "ops/ops.h"
#include "ops/step/step_ops_cuda.h"

namespace cepe {
namespace {

// Each row at a position of its own. x (B, N, K)
at::Tensor rotated(const at::Tensor& x_BNK, const StepAttention& input) {
  const at::Tensor cos = input.rotary.cos.index_select(0, input.positions_B).unsqueeze(1);
  const at::Tensor sin = input.rotary.sin.index_select(0, input.positions_B).unsqueeze(1);
  const at::Tensor wide = x_BNK.scalar_type() == at::kDouble ? x_BNK : x_BNK.to(at::kFloat);
  const std::vector<at::Tensor> halves = wide.chunk(2, -1);
  const at::Tensor &a = halves[0], &b = halves[1];
  return at::cat({a * cos - b * sin, b * cos + a * sin}, -1).to(x_BNK.scalar_type());
}

at::Tensor unfused_attention(const at::Tensor& qkv_BN, const StepAttention& input, int64_t heads) {
  const int64_t B = qkv_BN.size(0), S = input.k_BSGK.size(1), G = input.k_BSGK.size(2), K = input.k_BSGK.size(3);
  const int64_t H = heads, R = H / G;
  const at::Tensor all = qkv_BN.view({B, H + 2 * G, K});
  at::Tensor q = all.narrow(1, 0, H), k = all.narrow(1, H, G);
  if (input.q_norm.defined()) q = rms_norm(q, input.q_norm, input.eps);
  if (input.k_norm.defined()) k = rms_norm(k, input.k_norm, input.eps);
  const at::Tensor slot = input.positions_B.view({B, 1, 1, 1}).expand({B, 1, G, K});
  at::Tensor k_cache = input.k_BSGK, v_cache = input.v_BSGK;
  k_cache.scatter_(1, slot, rotated(k, input).unsqueeze(1));
  v_cache.scatter_(1, slot, all.narrow(1, H + G, G).unsqueeze(1));
  // What lies in the cache behind the token is never multiplied: it may be anything.
  const at::Tensor unread = at::arange(S, input.positions_B.options()).unsqueeze(0) > input.positions_B.unsqueeze(1);
  const at::Tensor keys = k_cache.permute({0, 2, 3, 1});                                              // (B, G, K, S)
  const at::Tensor values = v_cache.masked_fill(unread.view({B, S, 1, 1}), 0).permute({0, 2, 1, 3});  // (B, G, S, K)
  const at::Tensor queries = rotated(q, input).view({B, G, R, K});
  const at::Tensor scores = at::matmul(queries, keys).div(std::sqrt(static_cast<double>(K)));
  const at::Tensor wide = scores.scalar_type() == at::kDouble ? scores : scores.to(at::kFloat);
  const at::Tensor weights = wide.masked_fill(unread.view({B, 1, 1, S}), -INFINITY).softmax(-1);
  return at::matmul(weights.to(values.scalar_type()), values).reshape({B, H * K});
}

// On a CPU positions are at hand, and a wrong one would be written outside the cache.
void check_positions(const at::Tensor& positions_B, int64_t capacity) {
  const at::Tensor positions = positions_B.contiguous();
  const int64_t* const at = positions.const_data_ptr<int64_t>();
  for (int64_t b = 0; b < positions.numel(); ++b) {
    require(at[b] >= 0 && at[b] < capacity, "step attention: position {} lies outside a cache of {}", at[b], capacity);
  }
}

at::Tensor cpu_attention(const at::Tensor& qkv_in, const StepAttention& input, int64_t heads) {
  const at::Tensor qkv = qkv_in.contiguous(), positions = input.positions_B.contiguous();
  const at::Tensor out = at::empty({qkv.size(0), heads * input.k_BSGK.size(3)}, qkv.options());
  const auto numbers = [](const at::Tensor& t) { return t.defined() ? t.const_data_ptr() : nullptr; };
  const cpu::StepArgs args{.half = qkv.scalar_type() == at::kBFloat16,
                           .qkv = qkv.const_data_ptr(),
                           .cos = input.rotary.cos.const_data_ptr<float>(),
                           .sin = input.rotary.sin.const_data_ptr<float>(),
                           .positions = positions.const_data_ptr<int64_t>(),
                           .q_norm = numbers(input.q_norm),
                           .k_norm = numbers(input.k_norm),
                           .k_cache = input.k_BSGK.mutable_data_ptr(),
                           .v_cache = input.v_BSGK.mutable_data_ptr(),
                           .out = out.mutable_data_ptr(),
                           .batch = qkv.size(0),
                           .capacity = input.k_BSGK.size(1),
                           .heads = heads,
                           .kv_heads = input.k_BSGK.size(2),
                           .head_size = input.k_BSGK.size(3),
                           .eps = static_cast<float>(input.eps)};
  static thread_local cpu::StepWork kept;  // keeps its memory from step to step
  cpu::StepWork& work = kept;
  cpu::begin(args, work);
  at::parallel_for(0, cpu::items(args, work), 1,
                   [&](int64_t first, int64_t end) { cpu::attend(args, work, first, end); });
  cpu::finish(args, work);
  return out;
}

}  // namespace

bool step_attention_is_fused(const at::Device& device, at::ScalarType type, int64_t head_dim) {
  if (device.is_cpu()) {
    return (type == at::kBFloat16 || type == at::kFloat) && cpu::step_head_size_fits(head_dim);
  }
  return cuda_step_attention_applies(device, type, head_dim);
}

at::Tensor step_attention(const at::Tensor& qkv_BN, const StepAttention& input) {
  const int64_t B = qkv_BN.size(0), S = input.k_BSGK.size(1), G = input.k_BSGK.size(2), K = input.k_BSGK.size(3);
  const int64_t heads = qkv_BN.size(1) / K - 2 * G;
  require(heads > 0 && heads % G == 0 && qkv_BN.size(1) == (heads + 2 * G) * K,
          "step attention: rows of {} are not queries, keys and values of {} heads of {}", qkv_BN.size(1), G, K);
  require(input.k_BSGK.size(0) == B && input.positions_B.size(0) == B,
          "step attention: a cache of {} sequences and positions of {} for a batch of {}", input.k_BSGK.size(0),
          input.positions_B.size(0), B);
  require(input.k_BSGK.is_contiguous() && input.v_BSGK.is_contiguous() && input.rotary.cos.size(0) >= S,
          "step attention: the cache should be contiguous, and the rotary table as long as it");
  if (qkv_BN.is_cpu()) check_positions(input.positions_B, S);
  const bool fused = step_attention_is_fused(qkv_BN.device(), qkv_BN.scalar_type(), K);
  if (fused && qkv_BN.is_cpu()) return cpu_attention(qkv_BN, input, heads);
  if (fused) return cuda_step_attention(qkv_BN, input, heads);
  return unfused_attention(qkv_BN, input, heads);
}

at::Tensor step_swiglu(const at::Tensor& gate_up_BN) {
  const int64_t F = gate_up_BN.size(1) / 2;
  if (const at::Tensor out = cuda_step_swiglu(gate_up_BN); out.defined()) return out;
  return swiglu(gate_up_BN.narrow(1, 0, F), gate_up_BN.narrow(1, F, F));
}

}  // namespace cepe
