#include "ops/context/context_attention_cpu.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "ops/cpu/lanes.h"

namespace cepe {
namespace {

using namespace lanes;

constexpr int64_t kBlock = ContextKeysValues::kBlock;

// The query rows of one key-value head, and what they have read so far.
struct Rows {
  int64_t count, head_dim;
  const float* query;      // (count, head_dim), scaled
  float* sum;              // (count, head_dim), sum of exp(score - highest) v
  float *highest, *total;  // (count) each
};

// One block of keys and values.
template <class Element>
struct Block {
  const Element *k, *v;  // (head_dim, kBlock), (kBlock, head_dim)
  int64_t tokens;        // the first so many are there
  const bool* real;      // (tokens) or null
};

// A product of few rows: out[r] (kVectors vectors) = out[r] * factor[r] + sum over i of a[r][i] b[i]; factor null: out
// counts as zero. Both products of attention have this shape, the scores because keys stand side by side.
template <int64_t kRows, int64_t kVectors>
struct Tile {
  const float* a;
  int64_t a_stride, count;
  float* out;
  int64_t out_stride;
  const float* factor;

  template <class Element>
  CEPE_INLINE void multiply(const Element* b, int64_t b_stride) const {
    Vector sums[kRows][kVectors] = {};
    if (factor) {
      for (int64_t r = 0; r < kRows; ++r) {
        for (int64_t v = 0; v < kVectors; ++v) sums[r][v] = load(out + r * out_stride + v * kLanes) * factor[r];
      }
    }
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t v = 0; v < kVectors; ++v) {
        const Vector x = load(b + i * b_stride + v * kLanes);
        for (int64_t r = 0; r < kRows; ++r) sums[r][v] += x * a[r * a_stride + i];
      }
    }
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t v = 0; v < kVectors; ++v) store(out + r * out_stride + v * kLanes, sums[r][v]);
    }
  }
};

template <int64_t kRows, int64_t kVectors, class Element>
CEPE_INLINE void read_tile(const Rows& rows, int64_t row, const Block<Element>& block) {
  alignas(64) float p[kRows * kBlock];
  const int64_t K = rows.head_dim;
  for (int64_t n = 0; n < kBlock; n += kVectors * kLanes) {
    const Tile<kRows, kVectors> scores{rows.query + row * K, K, K, p + n, kBlock, nullptr};
    scores.multiply(block.k + n, kBlock);
  }
  float factor[kRows];
  for (int64_t r = 0; r < kRows; ++r) {
    if (block.real || block.tokens < kBlock) {
      for (int64_t n = 0; n < kBlock; ++n) {
        if (n >= block.tokens || (block.real && !block.real[n])) p[r * kBlock + n] = kNone;
      }
    }
    factor[r] = weigh(p + r * kBlock, kBlock, rows.highest[row + r], rows.total[row + r]);
  }
  int64_t column = 0;
  for (; column + kVectors * kLanes <= K; column += kVectors * kLanes) {
    const Tile<kRows, kVectors> sums{p, kBlock, kBlock, rows.sum + row * K + column, K, factor};
    sums.multiply(block.v + column, K);
  }
  for (; column < K; column += kLanes) {
    const Tile<kRows, 1> sums{p, kBlock, kBlock, rows.sum + row * K + column, K, factor};
    sums.multiply(block.v + column, K);
  }
}

// All rows, in tiles of kRows and one smaller tile.
template <int64_t kRows, int64_t kVectors, class Element>
CEPE_INLINE void read_rows(const Rows& rows, int64_t first, const Block<Element>& block) {
  int64_t row = first;
  for (; row + kRows <= rows.count; row += kRows) read_tile<kRows, kVectors>(rows, row, block);
  if constexpr (kRows > 1) {
    if (row < rows.count) read_rows<kRows - 1, kVectors>(rows, row, block);
  }
}

// A span of whole blocks of one key-value head; `tokens` of it are there.
struct Span {
  const void *k, *v;
  int64_t tokens;
  const bool* real;
};

template <int64_t kRows, int64_t kVectors, class Element>
CEPE_INLINE void read_span(const Rows& rows, const Span& span) {
  for (int64_t first = 0; first < span.tokens; first += kBlock) {
    const int64_t offset = first * rows.head_dim;
    read_rows<kRows, kVectors, Element>(
        rows, 0,
        {static_cast<const Element*>(span.k) + offset, static_cast<const Element*>(span.v) + offset,
         std::min(kBlock, span.tokens - first), span.real ? span.real + first : nullptr});
  }
}

using Reader = void (*)(const Rows&, const Span&);

// A tile's sums stay in registers: 6 x 4 of AVX-512's 32, 3 x 2 double ones of AVX2's 16.
#if defined(__x86_64__)
#define CEPE_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma")))
#define CEPE_AVX2 __attribute__((target("avx2,fma")))
CEPE_AVX512 void read_avx512_float(const Rows& rows, const Span& span) { read_span<6, 4, float>(rows, span); }
CEPE_AVX512 void read_avx512_half(const Rows& rows, const Span& span) { read_span<6, 4, uint16_t>(rows, span); }
CEPE_AVX2 void read_avx2_float(const Rows& rows, const Span& span) { read_span<3, 2, float>(rows, span); }
CEPE_AVX2 void read_avx2_half(const Rows& rows, const Span& span) { read_span<3, 2, uint16_t>(rows, span); }
#endif
void read_portable_float(const Rows& rows, const Span& span) { read_span<2, 1, float>(rows, span); }
void read_portable_half(const Rows& rows, const Span& span) { read_span<2, 1, uint16_t>(rows, span); }

Reader reader_for(bool half, ContextKernel wanted) {
#if defined(__x86_64__)
  static const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  static const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx512 && wanted == ContextKernel::best) return half ? read_avx512_half : read_avx512_float;
  if (avx2 && wanted != ContextKernel::portable) return half ? read_avx2_half : read_avx2_float;
#endif
  return half ? read_portable_half : read_portable_float;
}

// What one thread has read of one key-value head.
struct Partial {
  int64_t head;
  std::vector<float> sum, highest, total;
};

// out (N, K) = the parts brought to one scale, over their totals. No part, or none with a real token: zeros, or not a
// number where no score was one.
void merge_head(const std::vector<const Partial*>& parts, int64_t N, int64_t K, float* out) {
  for (int64_t n = 0; n < N; ++n) {
    const auto row = static_cast<size_t>(n);
    float highest = kNone, total = 0;
    for (const Partial* part : parts) highest = std::max(highest, part->highest[row]);
    for (const Partial* part : parts) {
      total += highest == kNone ? part->total[row] : part->total[row] * std::exp(part->highest[row] - highest);
    }
    std::fill_n(out + n * K, K, highest == kNone ? total : 0.0f);
    for (const Partial* part : parts) {
      if (highest == kNone) break;
      const float weight = std::exp(part->highest[row] - highest) / total;
      for (int64_t i = 0; i < K; ++i)
        out[n * K + i] += weight * part->sum[row * static_cast<size_t>(K) + static_cast<size_t>(i)];
    }
  }
}

// The context's blocks of all heads in one row, dealt to the threads in equal spans.
class Pass {
 public:
  Pass(const at::Tensor& query_HNK, const ContextKeysValues& context, const at::Tensor& mask_CS, Reader read)
      : query_(query_HNK),
        k_(context.k),
        v_(context.v),
        mask_(mask_CS),
        read_(read),
        tokens_(context.tokens),
        blocks_(context.k.size(2)),
        kv_heads_(context.k.size(1)) {}

  at::Tensor run() {
    const int64_t heads = query_.size(0), N = query_.size(1), K = query_.size(2), all = heads * blocks_;
    const int64_t spans = std::min<int64_t>(at::get_num_threads(), all);
    std::vector<std::vector<Partial>> found(static_cast<size_t>(spans));
    at::parallel_for(0, spans, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        found[static_cast<size_t>(i)] = read(all * i / spans, all * (i + 1) / spans);
    });
    std::vector<std::vector<const Partial*>> by_head(static_cast<size_t>(heads));
    for (const auto& parts : found) {
      for (const Partial& part : parts) by_head[static_cast<size_t>(part.head)].push_back(&part);
    }
    const at::Tensor out = at::empty({heads, N, K}, at::TensorOptions().dtype(at::kFloat));
    float* data = out.mutable_data_ptr<float>();
    at::parallel_for(0, heads, 16, [&](int64_t begin, int64_t end) {
      for (int64_t h = begin; h < end; ++h) merge_head(by_head[static_cast<size_t>(h)], N, K, data + h * N * K);
    });
    return out;
  }

 private:
  std::vector<Partial> read(int64_t first, int64_t last) const {
    std::vector<Partial> parts;
    for (int64_t at = first; at < last;) {
      const int64_t head = at / blocks_, end = std::min(last, (head + 1) * blocks_);
      parts.push_back(read_head(head, at - head * blocks_, end - head * blocks_));
      at = end;
    }
    return parts;
  }

  Partial read_head(int64_t head, int64_t first, int64_t last) const {
    const int64_t N = query_.size(1), K = query_.size(2);
    const auto rows = static_cast<size_t>(N);
    Partial part{head, std::vector<float>(rows * static_cast<size_t>(K)), std::vector<float>(rows, kNone),
                 std::vector<float>(rows)};
    const int64_t offset = (head * blocks_ + first) * kBlock * K * static_cast<int64_t>(k_.element_size());
    const bool* real =
        mask_.defined() ? mask_.const_data_ptr<bool>() + head / kv_heads_ * tokens_ + first * kBlock : nullptr;
    read_(
        {N, K, query_.const_data_ptr<float>() + head * N * K, part.sum.data(), part.highest.data(), part.total.data()},
        {static_cast<const char*>(k_.const_data_ptr()) + offset, static_cast<const char*>(v_.const_data_ptr()) + offset,
         std::min(last * kBlock, tokens_) - first * kBlock, real});
    return part;
  }

  at::Tensor query_, k_, v_, mask_;
  Reader read_;
  int64_t tokens_, blocks_, kv_heads_;
};

}  // namespace

bool context_kernel_applies(const at::Tensor& q, const ContextKeysValues& context) {
  const auto type = context.k.scalar_type();
  return context.blocked() && (type == at::kFloat || type == at::kBFloat16) && q.size(3) % kLanes == 0;
}

at::Tensor run_context_kernel(const at::Tensor& q, const ContextKeysValues& context, const at::Tensor& mask_CS,
                              ContextKernel wanted) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(3)));
  const at::Tensor query = q.to(at::kFloat).mul(scale).flatten(0, 1).contiguous();
  const at::Tensor mask = mask_CS.defined() ? mask_CS.contiguous() : mask_CS;
  const bool half = context.k.scalar_type() == at::kBFloat16;
  return Pass(query, context, mask, reader_for(half, wanted)).run().view(q.sizes());
}

}  // namespace cepe
