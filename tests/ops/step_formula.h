// Self-attention of one token a sequence by its formula, sequence by sequence in float64.
#pragma once

#include <ATen/ATen.h>

#include <cmath>

#include "ops/step/step_ops.h"

namespace cepe {

// Inputs of a step on random numbers, and what the cache held before.
struct StepProblem {
  int64_t batch, heads, kv_heads, head_dim, capacity;
  std::vector<int64_t> positions;
  bool head_norms = false;
};

inline RotaryTable step_rotary(int64_t positions, int64_t head_dim, const at::TensorOptions& options) {
  const at::Tensor angle = at::arange(positions, at::kDouble).unsqueeze(1) *
                           at::pow(1e4, at::arange(0, head_dim, 2, at::kDouble) / -static_cast<double>(head_dim));
  return {angle.cos().to(options), angle.sin().to(options)};
}

struct StepTensors {
  at::Tensor qkv;
  StepAttention input;
};

inline StepTensors step_tensors(const StepProblem& p, const at::TensorOptions& options) {
  StepTensors made;
  made.qkv = at::randn({p.batch, (p.heads + 2 * p.kv_heads) * p.head_dim}, options);
  const bool wide = c10::typeMetaToScalarType(options.dtype()) == at::kDouble;
  made.input.rotary = step_rotary(p.capacity, p.head_dim, options.dtype(wide ? at::kDouble : at::kFloat));
  made.input.positions_B = at::tensor(p.positions, at::kLong).to(options.device());
  // Slots behind a sequence's token hold what nobody may read.
  const std::vector<int64_t> shape = {p.batch, p.capacity, p.kv_heads, p.head_dim};
  made.input.k_BSGK = at::full(shape, NAN, options);
  made.input.v_BSGK = at::full(shape, NAN, options);
  for (int64_t b = 0; b < p.batch; ++b) {
    const int64_t n = p.positions[b];
    if (n == 0) continue;
    made.input.k_BSGK[b].narrow(0, 0, n).normal_();
    made.input.v_BSGK[b].narrow(0, 0, n).normal_();
  }
  if (p.head_norms) {
    made.input.q_norm = at::rand({p.head_dim}, options).add(0.5);
    made.input.k_norm = at::rand({p.head_dim}, options).add(0.5);
    made.input.eps = 1e-5;
  }
  return made;
}

// What a step gives and what it leaves in the cache at each sequence's position, in float64.
struct StepResult {
  at::Tensor out_BN, k_BGK, v_BGK;
};

inline StepResult step_by_hand(const StepProblem& p, const StepTensors& given) {
  const auto wide = [](const at::Tensor& x) { return x.to(at::kCPU, at::kDouble); };
  const at::Tensor all = wide(given.qkv).view({p.batch, p.heads + 2 * p.kv_heads, p.head_dim});
  const at::Tensor cos = wide(given.input.rotary.cos), sin = wide(given.input.rotary.sin);
  const at::Tensor keys = wide(given.input.k_BSGK), values = wide(given.input.v_BSGK);
  const auto turned = [&](at::Tensor head, const at::Tensor& norm, int64_t position) {
    if (norm.defined()) head = head / (head.square().mean() + given.input.eps).sqrt() * wide(norm);
    const int64_t half = p.head_dim / 2;
    const at::Tensor a = head.narrow(0, 0, half), b = head.narrow(0, half, half);
    return at::cat({a * cos[position] - b * sin[position], b * cos[position] + a * sin[position]});
  };
  StepResult result{at::empty({p.batch, p.heads * p.head_dim}, at::kDouble),
                    at::empty({p.batch, p.kv_heads, p.head_dim}, at::kDouble),
                    {}};
  result.v_BGK = all.narrow(1, p.heads + p.kv_heads, p.kv_heads).clone();
  for (int64_t b = 0; b < p.batch; ++b) {
    const int64_t n = p.positions[b];
    for (int64_t h = 0; h < p.heads; ++h) {
      const int64_t g = h / (p.heads / p.kv_heads);
      const at::Tensor q = turned(all[b][h], given.input.q_norm, n);
      const at::Tensor own = turned(all[b][p.heads + g], given.input.k_norm, n);
      result.k_BGK[b][g] = own;
      const at::Tensor k = at::cat({keys[b].narrow(0, 0, n).select(1, g), own.unsqueeze(0)});
      const at::Tensor v = at::cat({values[b].narrow(0, 0, n).select(1, g), result.v_BGK[b][g].unsqueeze(0)});
      const at::Tensor weights = at::softmax(at::mv(k, q) / std::sqrt(static_cast<double>(p.head_dim)), 0);
      result.out_BN[b].narrow(0, h * p.head_dim, p.head_dim).copy_(at::mv(v.t(), weights));
    }
  }
  return result;
}

inline double largest_error(const at::Tensor& found, const at::Tensor& expected) {
  return ((found.to(at::kCPU, at::kDouble) - expected).abs().max() / expected.abs().max()).item<double>();
}

// The cache's entries at the sequences' positions, (B, G, K).
inline at::Tensor written(const at::Tensor& cache_BSGK, const std::vector<int64_t>& positions) {
  std::vector<at::Tensor> rows;
  for (size_t b = 0; b < positions.size(); ++b) rows.push_back(cache_BSGK[static_cast<int64_t>(b)][positions[b]]);
  return at::stack(rows);
}

}  // namespace cepe
