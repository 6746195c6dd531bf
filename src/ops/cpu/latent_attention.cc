// Attention on states that are keys and values at once.
#include <algorithm>
#include <cstring>

#include "ops/cpu/attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/latent_attention.cc"
#include <hwy/foreach_target.h>

#include "ops/cpu/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cepe::cpu::HWY_NAMESPACE {

constexpr int64_t kGroup = 24;  // rows whose scores of a block lie on the stack
constexpr int kTokens = 4;      // whose scores are found together: a vector of four sums

// scores[r][0 .. kTokens) of kRows queries and as many states.
template <int kRows>
HWY_INLINE void score_tile(const float* query, const float* states, int64_t width, float* scores) {
  Vector sums[kRows][kTokens];
  for (int r = 0; r < kRows; ++r) {
    for (int t = 0; t < kTokens; ++t) sums[r][t] = hn::Zero(kFloats);
  }
  for (int64_t e = 0; e < width; e += kLanes) {
    Vector state[kTokens];
    for (int t = 0; t < kTokens; ++t) state[t] = load(states + t * width + e);
    for (int r = 0; r < kRows; ++r) {
      const Vector q = load(query + r * width + e);
      for (int t = 0; t < kTokens; ++t) sums[r][t] = hn::MulAdd(q, state[t], sums[r][t]);
    }
  }
  for (int r = 0; r < kRows; ++r) store_sums(sums[r], scores + r * kBlock);
}

template <int kRows>
HWY_INLINE void score_rows(const float* query, int64_t rows, const float* states, int64_t width, float* scores) {
  for (; rows >= kRows; rows -= kRows, query += kRows * width, scores += kRows * kBlock) {
    score_tile<kRows>(query, states, width, scores);
  }
  if constexpr (kRows > 1) {
    if (rows > 0) score_rows<kRows - 1>(query, rows, states, width, scores);
  }
}

// Reads kBlock states, of which `tokens` and `real` say which are there.
HWY_INLINE void read_block(const AttentionRows& rows, const float* states, int64_t tokens, const bool* real) {
  HWY_ALIGN float p[kGroup * kBlock];
  float factor[kGroup];
  const int64_t width = rows.width;
  for (int64_t first = 0; first < rows.count; first += kGroup) {
    const int64_t count = std::min(kGroup, rows.count - first);
    for (int64_t n = 0; n < kBlock; n += kTokens) {
      score_rows<kTileRows>(rows.query + first * width, count, states + n * width, width, p + n);
    }
    for (int64_t r = 0; r < count; ++r) {
      if (real || tokens < kBlock) hide(p + r * kBlock, tokens, real);
      factor[r] = weigh(p + r * kBlock, rows.highest[first + r], rows.total[first + r]);
    }
    multiply_columns({p, kBlock, kBlock, rows.sum + first * width, width, factor}, count, width, states, width);
  }
}

// One state in float32; behind its width out stays zero. 8 bits: (value - 128) * scale.
HWY_INLINE void widen(const StateSpan& span, int64_t token, float* out) {
  const int64_t width = span.width, whole = width / kLanes * kLanes;
  if (span.type == StateType::float32) {
    const float* const in = static_cast<const float*>(span.states) + token * width;
    std::memcpy(out, in, static_cast<size_t>(width) * sizeof(float));
  } else if (span.type == StateType::bfloat16) {
    const uint16_t* const in = static_cast<const uint16_t*>(span.states) + token * width;
    for (int64_t e = 0; e < whole; e += kLanes) store(out + e, load(in + e));
    for (int64_t e = whole; e < width; ++e) {
      const uint32_t bits = static_cast<uint32_t>(in[e]) << 16;
      std::memcpy(out + e, &bits, sizeof bits);
    }
  } else {
    const uint8_t* const in = static_cast<const uint8_t*>(span.states) + token * width;
    const float scale = span.scales[token];
    const Vector scales = hn::Set(kFloats, scale), middle = hn::Set(kFloats, 128.0f);
    for (int64_t e = 0; e < whole; e += kLanes) store(out + e, hn::Mul(hn::Sub(load(in + e), middle), scales));
    for (int64_t e = whole; e < width; ++e) out[e] = static_cast<float>(in[e] - 128) * scale;
  }
}

void read_latents(const AttentionRows& rows, const StateSpan& span, float* scratch) {
  std::fill_n(scratch, kBlock * rows.width, 0.0f);
  for (int64_t first = 0; first < span.tokens; first += kBlock) {
    const int64_t tokens = std::min(kBlock, span.tokens - first);
    const bool whole = tokens == kBlock && span.type == StateType::float32 && span.width == rows.width;
    const float* const states = whole ? static_cast<const float*>(span.states) + first * span.width : scratch;
    for (int64_t n = 0; !whole && n < tokens; ++n) widen(span, first + n, scratch + n * rows.width);
    if (!whole && tokens < kBlock) std::fill_n(scratch + tokens * rows.width, (kBlock - tokens) * rows.width, 0.0f);
    read_block(rows, states, tokens, span.real ? span.real + first : nullptr);
  }
}

}  // namespace cepe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cepe::cpu {

int64_t padded_width(int64_t width) {
  const int64_t vectors = (width + kMostLanes - 1) / kMostLanes * kMostLanes;
  return vectors % 256 == 0 ? vectors + kMostLanes : vectors;
}

HWY_EXPORT(read_latents);
void read_states(const AttentionRows& rows, const StateSpan& span, float* scratch) {
  HWY_DYNAMIC_DISPATCH(read_latents)(rows, span, scratch);
}

}  // namespace cepe::cpu
#endif
