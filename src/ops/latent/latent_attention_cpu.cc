#include "ops/latent/latent_attention_cpu.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "ops/cpu/lanes.h"

namespace cepe {
namespace {

using namespace lanes;

constexpr int64_t kTokens = 2;   // states of a tile of scores
constexpr int64_t kVectors = 2;  // of a state in a tile of sums
constexpr int64_t kBlock = 64;   // states that are scored, then summed while they are in the cache

int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// The rows of one pass with what they have read so far: rows and width padded to whole tiles, with zeros.
struct Rows {
  int64_t count, width;    // multiples of the tile's rows and of kLanes
  const float* query;      // (count, width), scaled
  float* sum;              // (count, width), sum of exp(score - highest) state
  float *highest, *total;  // (count) each: the highest score, the sum of exp(score - highest)
};

// scores[r][n] of kRows queries and a block of states.
template <int64_t kRows>
CEPE_INLINE void score_tile(const float* query, const float* states, int64_t width, float* scores) {
  for (int64_t n = 0; n < kBlock; n += kTokens) {
    Vector sums[kRows][kTokens] = {};
    for (int64_t e = 0; e < width; e += kLanes) {
      for (int64_t r = 0; r < kRows; ++r) {
        const Vector q = load(query + r * width + e);
        for (int64_t t = 0; t < kTokens; ++t) sums[r][t] += q * load(states + (n + t) * width + e);
      }
    }
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t t = 0; t < kTokens; ++t) scores[r * kBlock + n + t] = lane_sum(sums[r][t]);
    }
  }
}

// kCount vectors of each row: sum[r] = sum[r] * factor[r] + sum over n of p[r][n] states[n]
template <int64_t kRows, int64_t kCount>
CEPE_INLINE void sum_columns(float* sum, const float* factor, const float* p, const float* states, int64_t width) {
  Vector sums[kRows][kCount];
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t v = 0; v < kCount; ++v) sums[r][v] = load(sum + r * width + v * kLanes) * factor[r];
  }
  for (int64_t n = 0; n < kBlock; ++n) {
    for (int64_t v = 0; v < kCount; ++v) {
      const Vector state = load(states + n * width + v * kLanes);
      for (int64_t r = 0; r < kRows; ++r) sums[r][v] += state * p[r * kBlock + n];
    }
  }
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t v = 0; v < kCount; ++v) store(sum + r * width + v * kLanes, sums[r][v]);
  }
}

template <int64_t kRows>
CEPE_INLINE void sum_tile(float* sum, const float* factor, const float* p, const float* states, int64_t width) {
  constexpr int64_t kStep = kVectors * kLanes;
  int64_t e = 0;
  for (; e + kStep <= width; e += kStep) sum_columns<kRows, kVectors>(sum + e, factor, p, states + e, width);
  for (; e < width; e += kLanes) sum_columns<kRows, 1>(sum + e, factor, p, states + e, width);
}

// Reads kBlock states, of which `real` says how many and which are there (null: the first `tokens`).
template <int64_t kRows>
CEPE_INLINE void read_block(const Rows& rows, const float* states, int64_t tokens, const bool* real) {
  alignas(64) float p[kRows * kBlock];
  for (int64_t row = 0; row < rows.count; row += kRows) {
    score_tile<kRows>(rows.query + row * rows.width, states, rows.width, p);
    float factor[kRows];
    for (int64_t r = 0; r < kRows; ++r) {
      if (real || tokens < kBlock) {
        for (int64_t n = 0; n < kBlock; ++n) {
          if (n >= tokens || (real && !real[n])) p[r * kBlock + n] = kNone;
        }
      }
      factor[r] = weigh(p + r * kBlock, kBlock, rows.highest[row + r], rows.total[row + r]);
    }
    sum_tile<kRows>(rows.sum + row * rows.width, factor, p, states, rows.width);
  }
}

// What one task reads: `count` states of `width` numbers, of type float (2 bytes: bfloat16; 1: 8 bits).
struct Span {
  const char* states;
  int64_t element, width, count;
  const bool* real;     // (count) or null
  const float* scales;  // (count) where states are in 8 bits
};

template <int64_t kRows>
CEPE_INLINE void read_span(const Rows& rows, const Span& span, float* scratch) {
  for (int64_t first = 0; first < span.count; first += kBlock) {
    const int64_t tokens = std::min(kBlock, span.count - first);
    const bool whole = tokens == kBlock && span.element == 4 && span.width == rows.width;
    const char* bytes = span.states + first * span.width * span.element;
    const float* states = whole ? reinterpret_cast<const float*>(bytes) : scratch;
    for (int64_t n = 0; !whole && n < kBlock; ++n) {
      float* out = scratch + n * rows.width;
      const char* in = bytes + n * span.width * span.element;
      if (n >= tokens) {
        std::fill_n(out, rows.width, 0.0f);
      } else if (span.element == 4) {
        std::memcpy(out, in, static_cast<size_t>(span.width) * 4);
      } else if (span.element == 1) {
        const auto* bytes_in = reinterpret_cast<const uint8_t*>(in);
        const float scale = span.scales[first + n];
        for (int64_t e = 0; e < span.width; ++e) out[e] = static_cast<float>(bytes_in[e] - 128) * scale;
      } else {
        const auto* half = reinterpret_cast<const uint16_t*>(in);
        for (int64_t e = 0; e < span.width; ++e) out[e] = std::bit_cast<float>(static_cast<uint32_t>(half[e]) << 16);
      }
    }
    read_block<kRows>(rows, states, tokens, span.real ? span.real + first : nullptr);
  }
}

struct Kernel {
  int64_t rows;  // of a tile
  void (*read)(const Rows& rows, const Span& span, float* scratch);
};

#if defined(__x86_64__)
#define CEPE_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma")))
CEPE_AVX512 void read_avx512_9(const Rows& rows, const Span& span, float* scratch) {
  read_span<9>(rows, span, scratch);
}
CEPE_AVX512 void read_avx512_8(const Rows& rows, const Span& span, float* scratch) {
  read_span<8>(rows, span, scratch);
}
__attribute__((target("avx2,fma"))) void read_avx2(const Rows& rows, const Span& span, float* scratch) {
  read_span<3>(rows, span, scratch);
}
#endif
void read_portable(const Rows& rows, const Span& span, float* scratch) { read_span<2>(rows, span, scratch); }

// A tile's sums stay in registers: 9 x 2 of AVX-512's 32, 3 x 2 double ones of AVX2's 16.
Kernel kernel_for(int64_t rows, LatentKernel wanted) {
#if defined(__x86_64__)
  static const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  static const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx512 && wanted == LatentKernel::best)
    return round_up(rows, 9) <= round_up(rows, 8) ? Kernel{9, read_avx512_9} : Kernel{8, read_avx512_8};
  if (avx2 && wanted != LatentKernel::portable) return {3, read_avx2};
#endif
  return {2, read_portable};
}

// Partial results of one span of one context.
struct Partial {
  std::vector<float> sum, highest, total;
};

Partial read(const Kernel& kernel, const at::Tensor& query_RE, const Span& span) {
  const int64_t count = query_RE.size(0), width = query_RE.size(1);
  Partial part{std::vector<float>(static_cast<size_t>(count * width)),
               std::vector<float>(static_cast<size_t>(count), kNone), std::vector<float>(static_cast<size_t>(count))};
  std::vector<float> scratch(static_cast<size_t>(kBlock * width));
  kernel.read({count, width, query_RE.const_data_ptr<float>(), part.sum.data(), part.highest.data(), part.total.data()},
              span, scratch.data());
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
void attend(const Kernel& kernel, const at::Tensor& query_RE, const Span& context, at::Tensor out_RE) {
  const int64_t blocks = (context.count + kBlock - 1) / kBlock;
  const int64_t spans = std::min<int64_t>(at::get_num_threads(), blocks), width = context.width * context.element;
  std::vector<Partial> parts(static_cast<size_t>(spans));
  at::parallel_for(0, spans, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = blocks * i / spans * kBlock;
      Span span = context;
      span.states += first * width;
      span.count = std::min(blocks * (i + 1) / spans * kBlock, context.count) - first;
      if (span.real) span.real += first;
      if (span.scales) span.scales += first;
      parts[static_cast<size_t>(i)] = read(kernel, query_RE, span);
    }
  });
  merge(parts, out_RE);
}

}  // namespace

at::Tensor cpu_latent_attention(const at::Tensor& query_BNE, const LatentStates& context, double scale,
                                LatentKernel wanted) {
  const auto& [states_BSE, mask_BS, scales_BS, inputs_ready] = context;
  const int64_t B = query_BNE.size(0), N = query_BNE.size(1), E = query_BNE.size(2), S = states_BSE.size(1);
  const int64_t contexts = states_BSE.size(0);
  const int64_t rows = contexts == 1 ? B * N : N;
  const Kernel kernel = kernel_for(rows, wanted);
  const at::Tensor padded =
      at::zeros({contexts, round_up(rows, kernel.rows), round_up(E, kLanes)}, at::TensorOptions().dtype(at::kFloat));
  padded.narrow(1, 0, rows).narrow(2, 0, E).copy_(query_BNE.reshape({contexts, rows, E})).mul_(scale);
  const at::Tensor states = states_BSE.contiguous(), mask = mask_BS.defined() ? mask_BS.contiguous() : mask_BS;
  const at::Tensor scales = scales_BS.defined() ? scales_BS.contiguous() : scales_BS;
  const at::Tensor out = at::empty({contexts, rows, E}, at::TensorOptions().dtype(at::kFloat));
  const int64_t element = static_cast<int64_t>(states.element_size());
  for (int64_t c = 0; c < contexts; ++c) {
    attend(kernel, padded[c],
           {static_cast<const char*>(states.const_data_ptr()) + c * S * E * element, element, E, S,
            mask.defined() ? mask.const_data_ptr<bool>() + c * S : nullptr,
            scales.defined() ? scales.const_data_ptr<float>() + c * S : nullptr},
           out[c]);
  }
  return out.view({B, N, E}).to(query_BNE.scalar_type());
}

}  // namespace cepe
