// Self-attention of one token for each sequence of a batch.
#include "ops/cpu/step_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/step_attention.cc"
#include <hwy/foreach_target.h>

#include "ops/cpu/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cepe::cpu::HWY_NAMESPACE {

// Keys that one thread reads at once. A piece's keys and values of one head, 64 KB at a head size of 64, stay in the
// nearest caches while the heads that share them read them, and results do not depend on the number of threads.
constexpr int64_t kStepPiece = 128;

template <class Element>
struct Head {
  const Element* x;        // (size)
  const Element* norm;     // the same, or null
  const float *cos, *sin;  // (size / 2), of its position
  int64_t size;
  float eps;
};

// A head's normed and rotated numbers, times `factor`.
template <class Element, class Out>
HWY_INLINE void turn(const Head<Element>& head, float factor, Out* out) {
  const int64_t half = head.size / 2;
  const Element *const x = head.x, *const norm = head.norm;
  Vector scale = hn::Set(kFloats, factor);
  if (norm) {
    Vector squares = hn::Zero(kFloats);
    for (int64_t i = 0; i < head.size; i += kLanes) squares = hn::MulAdd(load(x + i), load(x + i), squares);
    scale = hn::Set(kFloats, factor / std::sqrt(sum_of_lanes(squares) / static_cast<float>(head.size) + head.eps));
  }
  for (int64_t i = 0; i < half; i += kLanes) {
    Vector left = hn::Mul(load(x + i), scale), right = hn::Mul(load(x + half + i), scale);
    if (norm) left = hn::Mul(left, load(norm + i)), right = hn::Mul(right, load(norm + half + i));
    const Vector cos = load(head.cos + i), sin = load(head.sin + i);
    store(out + i, hn::NegMulAdd(right, sin, hn::Mul(left, cos)));
    store(out + half + i, hn::MulAdd(left, sin, hn::Mul(right, cos)));
  }
}

template <class Element>
void begin_as(const StepArgs& args, StepWork& work) {
  const int64_t K = args.head_size, H = args.heads, G = args.kv_heads;
  const auto *const q_norm = static_cast<const Element*>(args.q_norm), *const k_norm =
                                                                           static_cast<const Element*>(args.k_norm);
  const float scale = 1 / std::sqrt(static_cast<float>(K));
  for (int64_t b = 0; b < args.batch; ++b) {
    const int64_t position = args.positions[b], slot = (b * args.capacity + position) * G * K;
    const Element* const row = static_cast<const Element*>(args.qkv) + b * (H + 2 * G) * K;
    Element* const keys = static_cast<Element*>(args.k_cache) + slot;
    float* const queries = work.queries.data() + b * H * K;
    Head<Element> head{row, q_norm, args.cos + position * K / 2, args.sin + position * K / 2, K, args.eps};
    for (int64_t h = 0; h < H; ++h, head.x += K) turn(head, scale, queries + h * K);
    head.norm = k_norm;
    for (int64_t g = 0; g < G; ++g, head.x += K) turn(head, 1.0f, keys + g * K);
    std::copy_n(row + (H + G) * K, G * K, static_cast<Element*>(args.v_cache) + slot);
  }
}

void begin_step(const StepArgs& args, StepWork& work) {
  work.queries.resize(static_cast<size_t>(args.batch * args.heads * args.head_size));
  work.pieces.assign(1, 0);
  for (int64_t b = 0; b < args.batch; ++b)
    work.pieces.push_back(work.pieces.back() + args.positions[b] / kStepPiece + 1);
  const auto count = static_cast<size_t>(items(args, work));
  work.highest.resize(count), work.sum.resize(count), work.read.resize(count * static_cast<size_t>(args.head_size));
  args.half ? begin_as<uint16_t>(args, work) : begin_as<float>(args, work);
}

template <class Element>
struct Piece {
  const float* query;   // (size)
  const Element* keys;  // tokens `stride` numbers apart
  const Element* values;
  int64_t tokens, stride, size;
};

// Scores of all tokens; up to a whole vector -infinity behind them. The last group of four repeats the last token.
template <class Element>
HWY_INLINE void score(const Piece<Element>& piece, float* scores) {
  constexpr int64_t kAtOnce = 4;
  for (int64_t t = 0; t < piece.tokens; t += kAtOnce) {
    const Element* keys[kAtOnce];
    Vector dots[kAtOnce];
    for (int64_t k = 0; k < kAtOnce; ++k) {
      keys[k] = piece.keys + std::min(t + k, piece.tokens - 1) * piece.stride;
      dots[k] = hn::Zero(kFloats);
    }
    for (int64_t i = 0; i < piece.size; i += kLanes) {
      const Vector query = load(piece.query + i);
      for (int64_t k = 0; k < kAtOnce; ++k) dots[k] = hn::MulAdd(load(keys[k] + i), query, dots[k]);
    }
    store_sums(dots, scores + t);
  }
  const int64_t whole = (piece.tokens + kLanes - 1) / kLanes * kLanes;
  std::fill(scores + piece.tokens, scores + std::max(whole, (piece.tokens + kAtOnce - 1) / kAtOnce * kAtOnce),
            -std::numeric_limits<float>::infinity());
}

template <class Element>
HWY_INLINE void add_values(const Piece<Element>& piece, const float* weights, float* read) {
  for (int64_t i = 0; i < piece.size; i += kLanes) {
    Vector even = hn::Zero(kFloats), odd = hn::Zero(kFloats);
    const Element* value = piece.values + i;
    int64_t t = 0;
    for (; t + 2 <= piece.tokens; t += 2, value += 2 * piece.stride) {
      even = hn::MulAdd(hn::Set(kFloats, weights[t]), load(value), even);
      odd = hn::MulAdd(hn::Set(kFloats, weights[t + 1]), load(value + piece.stride), odd);
    }
    if (t < piece.tokens) even = hn::MulAdd(hn::Set(kFloats, weights[t]), load(value), even);
    store(read + i, hn::Add(even, odd));
  }
}

template <class Element>
HWY_INLINE void attend_piece(const Piece<Element>& piece, float& highest, float& sum, float* read) {
  HWY_ALIGN float weights[kStepPiece + 16];
  score(piece, weights);
  Vector most = hn::Set(kFloats, -std::numeric_limits<float>::infinity()), all = hn::Zero(kFloats);
  for (int64_t t = 0; t < piece.tokens; t += kLanes) {
    const Vector x = load(weights + t);
    most = hn::IfThenElse(hn::Gt(x, most), x, most);
  }
  highest = max_of_lanes(most);
  for (int64_t t = 0; t < piece.tokens; t += kLanes) {
    const Vector weight = exponential(hn::Sub(load(weights + t), hn::Set(kFloats, highest)));
    store(weights + t, weight);
    all = hn::Add(all, weight);
  }
  sum = sum_of_lanes(all);
  add_values(piece, weights, read);
}

template <class Element>
void attend_as(const StepArgs& args, StepWork& work, int64_t first, int64_t end) {
  const int64_t K = args.head_size, stride = args.kv_heads * K;
  for (int64_t item = first; item < end; ++item) {
    const int64_t piece = item / args.heads, h = item % args.heads;
    const int64_t b = std::upper_bound(work.pieces.begin(), work.pieces.end(), piece) - work.pieces.begin() - 1;
    const int64_t begun = (piece - work.pieces[b]) * kStepPiece, tokens = args.positions[b] + 1 - begun;
    const int64_t at = (b * args.capacity + begun) * stride + h / (args.heads / args.kv_heads) * K;
    const Piece<Element> one{work.queries.data() + (b * args.heads + h) * K,
                             static_cast<const Element*>(args.k_cache) + at,
                             static_cast<const Element*>(args.v_cache) + at,
                             std::min(tokens, kStepPiece),
                             stride,
                             K};
    attend_piece(one, work.highest[item], work.sum[item], work.read.data() + item * K);
  }
}

void attend_items(const StepArgs& args, StepWork& work, int64_t first, int64_t end) {
  args.half ? attend_as<uint16_t>(args, work, first, end) : attend_as<float>(args, work, first, end);
}

// The pieces of a head as one: each weighted by e^(its highest score), which takes that one's place.
template <class Element>
HWY_INLINE void merge(const StepArgs& args, StepWork& work, int64_t b, int64_t h) {
  const int64_t K = args.head_size, begin = work.pieces[b], end = work.pieces[b + 1];
  float highest = -std::numeric_limits<float>::infinity(), sum = 0;
  for (int64_t p = begin; p < end; ++p) highest = std::max(highest, work.highest[p * args.heads + h]);
  for (int64_t p = begin; p < end; ++p) {
    float& weight = work.highest[p * args.heads + h];
    weight = std::exp(weight - highest);
    sum += weight * work.sum[p * args.heads + h];
  }
  Element* const out = static_cast<Element*>(args.out) + (b * args.heads + h) * K;
  for (int64_t i = 0; i < K; i += kLanes) {
    Vector read = hn::Zero(kFloats);
    for (int64_t p = begin; p < end; ++p) {
      const int64_t item = p * args.heads + h;
      read = hn::MulAdd(hn::Set(kFloats, work.highest[item]), load(work.read.data() + item * K + i), read);
    }
    store(out + i, hn::Div(read, hn::Set(kFloats, sum)));
  }
}

void finish_step(const StepArgs& args, StepWork& work) {
  for (int64_t b = 0; b < args.batch; ++b) {
    for (int64_t h = 0; h < args.heads; ++h) {
      args.half ? merge<uint16_t>(args, work, b, h) : merge<float>(args, work, b, h);
    }
  }
}

}  // namespace cepe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cepe::cpu {

HWY_EXPORT(begin_step);
HWY_EXPORT(attend_items);
HWY_EXPORT(finish_step);

void begin(const StepArgs& args, StepWork& work) { HWY_DYNAMIC_DISPATCH(begin_step)(args, work); }
void attend(const StepArgs& args, StepWork& work, int64_t first, int64_t end) {
  HWY_DYNAMIC_DISPATCH(attend_items)(args, work, first, end);
}
void finish(const StepArgs& args, StepWork& work) { HWY_DYNAMIC_DISPATCH(finish_step)(args, work); }

}  // namespace cepe::cpu
#endif
