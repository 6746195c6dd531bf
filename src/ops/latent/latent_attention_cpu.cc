#include "ops/latent/latent_attention_cpu.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "ops/cpu/attention.h"

namespace cepe {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();  // the score of what is not there

// Partial results of one span of one context.
struct Partial {
  std::vector<float> sum, highest, total;
};

Partial read(const at::Tensor& query_RE, const cpu::StateSpan& span) {
  const int64_t count = query_RE.size(0), width = query_RE.size(1);
  Partial part{std::vector<float>(static_cast<size_t>(count * width)),
               std::vector<float>(static_cast<size_t>(count), kNone), std::vector<float>(static_cast<size_t>(count))};
  std::vector<float> scratch(static_cast<size_t>(cpu::kBlock * width));
  cpu::read_states(
      {count, width, query_RE.const_data_ptr<float>(), part.sum.data(), part.highest.data(), part.total.data()}, span,
      scratch.data());
  return part;
}

// out (E) = one row of the spans' sums brought to one scale, over their totals.
void merge_row(const std::vector<Partial>& parts, size_t row, float* out, int64_t E) {
  float highest = kNone, total = 0;
  for (const Partial& part : parts) {
    highest = std::max(highest, part.highest[row]);
    total += part.total[row];
  }
  if (highest == kNone) {
    std::fill_n(out, E, total);  // 0, or not a number where no score was one
    return;
  }
  std::fill_n(out, E, 0.0f);
  total = 0;
  const size_t width = parts[0].sum.size() / parts[0].total.size();
  for (const Partial& part : parts) total += part.total[row] * std::exp(part.highest[row] - highest);
  for (const Partial& part : parts) {
    const float weight = std::exp(part.highest[row] - highest) / total;
    const float* sum = part.sum.data() + row * width;
    for (int64_t e = 0; e < E; ++e) out[e] += weight * sum[e];
  }
}

void merge(const std::vector<Partial>& parts, const at::Tensor& out_RE) {
  const int64_t E = out_RE.size(1);
  float* out = out_RE.mutable_data_ptr<float>();
  at::parallel_for(0, out_RE.size(0), 16, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) merge_row(parts, static_cast<size_t>(r), out + r * E, E);
  });
}

// One context: its states are dealt to the threads in spans of whole blocks.
void attend(const at::Tensor& query_RE, const cpu::StateSpan& context, int64_t bytes_a_token, at::Tensor out_RE) {
  const int64_t blocks = (context.tokens + cpu::kBlock - 1) / cpu::kBlock;
  const int64_t spans = std::min<int64_t>(at::get_num_threads(), blocks);
  std::vector<Partial> parts(static_cast<size_t>(spans));
  at::parallel_for(0, spans, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = blocks * i / spans * cpu::kBlock;
      cpu::StateSpan span = context;
      span.states = static_cast<const char*>(context.states) + first * bytes_a_token;
      span.tokens = std::min(blocks * (i + 1) / spans * cpu::kBlock, context.tokens) - first;
      if (span.real) span.real += first;
      if (span.scales) span.scales += first;
      parts[static_cast<size_t>(i)] = read(query_RE, span);
    }
  });
  merge(parts, out_RE);
}

cpu::StateType state_type(at::ScalarType type) {
  if (type == at::kFloat) return cpu::StateType::float32;
  return type == at::kBFloat16 ? cpu::StateType::bfloat16 : cpu::StateType::bytes;
}

}  // namespace

at::Tensor cpu_latent_attention(const at::Tensor& query_BNE, const LatentStates& context, double scale) {
  const auto& [states_BSE, mask_BS, scales_BS, inputs_ready] = context;
  const int64_t B = query_BNE.size(0), N = query_BNE.size(1), E = query_BNE.size(2), S = states_BSE.size(1);
  const int64_t contexts = states_BSE.size(0);
  const int64_t rows = contexts == 1 ? B * N : N;
  const at::Tensor padded = at::zeros({contexts, rows, cpu::padded_width(E)}, at::TensorOptions().dtype(at::kFloat));
  padded.narrow(2, 0, E).copy_(query_BNE.reshape({contexts, rows, E})).mul_(scale);
  const at::Tensor states = states_BSE.contiguous(), mask = mask_BS.defined() ? mask_BS.contiguous() : mask_BS;
  const at::Tensor scales = scales_BS.defined() ? scales_BS.contiguous() : scales_BS;
  const at::Tensor out = at::empty({contexts, rows, E}, at::TensorOptions().dtype(at::kFloat));
  const int64_t bytes_a_token = E * static_cast<int64_t>(states.element_size());
  for (int64_t c = 0; c < contexts; ++c) {
    attend(padded[c],
           {static_cast<const char*>(states.const_data_ptr()) + c * S * bytes_a_token, state_type(states.scalar_type()),
            E, S, mask.defined() ? mask.const_data_ptr<bool>() + c * S : nullptr,
            scales.defined() ? scales.const_data_ptr<float>() + c * S : nullptr},
           bytes_a_token, out[c]);
  }
  return out.view({B, N, E}).to(query_BNE.scalar_type());
}

}  // namespace cepe
