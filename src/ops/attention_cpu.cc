#include "ops/attention_cpu.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <string>
#include <vector>

#include "ops/cpu/flash_attention.h"
#include "ops/cpu/targets.h"
#include "ops/dispatch.h"
#include "ops/operand.h"

namespace cepe {
namespace {

bool readable(const at::Tensor& x) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && x.stride(3) == 1 && !wants_gradient(x);
}

}  // namespace

bool cpu_flash_fits(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  return readable(q) && readable(k) && readable(v) && q.size(3) % cpu::kFlashWidth == 0 && k.sizes() == v.sizes() &&
         k.size(0) == q.size(0) && k.size(3) == q.size(3) && q.size(2) % k.size(2) == 0;
}

// Measured on AVX2 and AVX-512.
bool cpu_flash_pays(int64_t rows) {
  const std::string target = cpu::target();
  return rows >= dispatch::kCpuFlashRows && (target == "AVX2" || target == "AVX3");
}

void for_flash_pieces(int64_t heads, int64_t rows, int64_t width, const std::function<void(const FlashPiece&)>& read) {
  constexpr int64_t kPiecesOfAThread = 4;
  const int64_t threads = at::in_parallel_region() ? 1 : at::get_num_threads(), strip = cpu::flash_strip();
  const int64_t wanted = heads * rows / (threads * kPiecesOfAThread);
  const int64_t most = std::clamp((wanted + strip - 1) / strip * strip, strip, cpu::kFlashRows);
  const int64_t pieces = (rows + most - 1) / most;
  std::atomic<int64_t> next = 0;
  at::parallel_for(0, std::min(threads, heads * pieces), 1, [&](int64_t, int64_t) {
    std::vector<float> scratch(static_cast<size_t>(cpu::flash_scratch(width)));
    for (int64_t i = next++; i < heads * pieces; i = next++) {
      const int64_t first = (pieces - 1 - i / heads) * most;
      read({i % heads, first, std::min(most, rows - first), scratch.data()});
    }
  });
}

at::Tensor cpu_flash_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionMask& mask,
                               const at::Tensor& log_sum_exp) {
  const int64_t B = q.size(0), T = q.size(1), H = q.size(2), K = q.size(3), S = k.size(1), G = k.size(2), R = H / G;
  const at::Tensor out = at::empty({B, T, H, K}, q.options());
  const at::Tensor real = mask.keys_BS.defined() ? mask.keys_BS.contiguous() : mask.keys_BS;
  const auto head = [&](const at::Tensor& x, int64_t b, int64_t h) {
    return x.const_data_ptr<float>() + b * x.stride(0) + h * x.stride(2);
  };
  for_flash_pieces(B * G, T * R, K, [&](const FlashPiece& piece) {
    const int64_t b = piece.head / G, g = piece.head % G;
    cpu::FlashQueries queries{.query = head(q, b, g * R),
                              .query_token = q.stride(1),
                              .query_head = q.stride(2),
                              .out = out.mutable_data_ptr<float>() + (b * T * H + g * R) * K,
                              .out_token = H * K,
                              .out_head = K,
                              .heads = R,
                              .width = K,
                              .first = piece.first,
                              .count = piece.count,
                              .scale = 1 / std::sqrt(static_cast<float>(K))};
    if (log_sum_exp.defined()) queries.log_sum_exp = log_sum_exp.mutable_data_ptr<float>() + piece.head * T * R;
    if (mask.causal) queries.seen_before = S - T;
    const cpu::FlashKeys keys{head(k, b, g),
                              head(v, b, g),
                              k.stride(1),
                              v.stride(1),
                              S,
                              real.defined() ? real.const_data_ptr<bool>() + b * S : nullptr};
    cpu::flash_attention(queries, keys, piece.scratch);
  });
  return out;
}

}  // namespace cepe
