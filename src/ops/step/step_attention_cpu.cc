#include "ops/step/step_attention_cpu.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "ops/cpu/avx512.h"

namespace cepe::step_attention_cpu {
namespace {

#ifdef CEPE_HAS_AVX512
using namespace cpu::avx512;

// Keys that one thread reads at once. A piece's keys and values of one head, 32 KB at a head size of 64, stay in the
// nearest caches while the heads that share them read them, and results do not depend on the number of threads.
constexpr int64_t kPiece = 128;

// A head's normed and rotated numbers.
CEPE_AVX512 void turn(const uint16_t* x, const uint16_t* norm, const Args& args, int64_t position, uint16_t* out) {
  const int64_t half = args.head_size / 2;
  float scale = 1;
  if (norm) {
    __m512 squares = _mm512_setzero_ps();
    for (int64_t i = 0; i < args.head_size; i += kLanes) squares = _mm512_fmadd_ps(load(x + i), load(x + i), squares);
    scale = 1 / std::sqrt(_mm512_reduce_add_ps(squares) / static_cast<float>(args.head_size) + args.eps);
  }
  const auto normed = [&](int64_t i) CEPE_AVX512 {
    return norm ? _mm512_mul_ps(_mm512_mul_ps(load(x + i), _mm512_set1_ps(scale)), load(norm + i)) : load(x + i);
  };
  for (int64_t i = 0; i < half; i += kLanes) {
    const __m512 cos = _mm512_loadu_ps(args.cos + position * half + i);
    const __m512 sin = _mm512_loadu_ps(args.sin + position * half + i);
    const __m512 left = normed(i), right = normed(half + i);
    store(out + i, _mm512_fmsub_ps(left, cos, _mm512_mul_ps(right, sin)));
    store(out + half + i, _mm512_fmadd_ps(right, cos, _mm512_mul_ps(left, sin)));
  }
}

// What is the same for all pieces, and what they leave: a row for each piece of each head.
struct Work {
  std::vector<uint16_t> queries;    // (batch, heads, head_size)
  std::vector<int64_t> pieces;      // (batch + 1): of the sequences before, so that the last is all
  std::vector<float> highest, sum;  // (pieces, heads): the highest score, and the sum of e^(score - highest)
  std::vector<float> read;          // (pieces, heads, head_size): the values, weighted by those
};

void write_queries_and_cache(const Args& args, Work& work) {
  const int64_t K = args.head_size, H = args.heads, G = args.kv_heads;
  work.queries.resize(args.batch * H * K);
  for (int64_t b = 0; b < args.batch; ++b) {
    const int64_t position = args.positions[b], slot = (b * args.capacity + position) * G * K;
    const uint16_t* const row = args.qkv + b * (H + 2 * G) * K;
    uint16_t* const queries = work.queries.data() + b * H * K;
    for (int64_t h = 0; h < H; ++h) turn(row + h * K, args.q_norm, args, position, queries + h * K);
    for (int64_t g = 0; g < G; ++g) turn(row + (H + g) * K, args.k_norm, args, position, args.k_cache + slot + g * K);
    std::copy_n(row + (H + G) * K, G * K, args.v_cache + slot);
  }
}

struct Piece {
  const uint16_t* query;  // (K)
  const uint16_t* keys;   // tokens `stride` numbers apart
  const uint16_t* values;
  int64_t tokens, stride, head_size;
};

// Sixteen scores from a token on; those behind the piece's end are -inf, and nothing is read there.
CEPE_AVX512_INLINE __m512 scores(const Piece& piece, int64_t first, __m512 scale) {
  const int count = static_cast<int>(std::min(piece.tokens - first, kLanes));
  __m512 dots[16];
  for (int t = 0; t < 16; ++t) {
    dots[t] = _mm512_setzero_ps();
    if (t >= count) continue;
    const uint16_t* const key = piece.keys + (first + t) * piece.stride;
    for (int64_t i = 0; i < piece.head_size; i += 2 * kLanes) {
      dots[t] = _mm512_dpbf16_ps(dots[t], (__m512bh)_mm512_loadu_si512(key + i),
                                 (__m512bh)_mm512_loadu_si512(piece.query + i));
    }
  }
  const __mmask16 there = static_cast<__mmask16>((1u << count) - 1);
  return _mm512_mask_blend_ps(there, _mm512_set1_ps(-std::numeric_limits<float>::infinity()),
                              _mm512_mul_ps(sums(dots), scale));
}

CEPE_AVX512_INLINE void add_values(const Piece& piece, const float* weights, int64_t column, float* read) {
  __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
  const uint16_t* value = piece.values + column;
  int64_t t = 0;
  for (; t + 2 <= piece.tokens; t += 2, value += 2 * piece.stride) {
    even = _mm512_fmadd_ps(_mm512_set1_ps(weights[t]), load(value), even);
    odd = _mm512_fmadd_ps(_mm512_set1_ps(weights[t + 1]), load(value + piece.stride), odd);
  }
  if (t < piece.tokens) even = _mm512_fmadd_ps(_mm512_set1_ps(weights[t]), load(value), even);
  _mm512_storeu_ps(read + column, _mm512_add_ps(even, odd));
}

CEPE_AVX512 void attend(const Piece& piece, float* highest, float* sum, float* read) {
  alignas(64) float weights[kPiece];
  const __m512 scale = _mm512_set1_ps(1 / std::sqrt(static_cast<float>(piece.head_size)));
  __m512 most = _mm512_set1_ps(-std::numeric_limits<float>::infinity()), all = _mm512_setzero_ps();
  for (int64_t t = 0; t < piece.tokens; t += kLanes) {
    const __m512 found = scores(piece, t, scale);
    _mm512_store_ps(weights + t, found);
    most = _mm512_max_ps(most, found);
  }
  *highest = _mm512_reduce_max_ps(most);
  for (int64_t t = 0; t < piece.tokens; t += kLanes) {
    const __m512 weight = exponential(_mm512_sub_ps(_mm512_load_ps(weights + t), _mm512_set1_ps(*highest)));
    _mm512_store_ps(weights + t, weight);
    all = _mm512_add_ps(all, weight);
  }
  *sum = _mm512_reduce_add_ps(all);
  for (int64_t i = 0; i < piece.head_size; i += kLanes) add_values(piece, weights, i, read);
}

// One head of one piece. item: pieces of all sequences, heads within them.
void attend_item(const Args& args, Work& work, int64_t item) {
  const int64_t K = args.head_size, stride = args.kv_heads * K, piece = item / args.heads, h = item % args.heads;
  const int64_t b = std::upper_bound(work.pieces.begin(), work.pieces.end(), piece) - work.pieces.begin() - 1;
  const int64_t first = (piece - work.pieces[b]) * kPiece, tokens = args.positions[b] + 1 - first;
  const int64_t at = (b * args.capacity + first) * stride + h / (args.heads / args.kv_heads) * K;
  attend({work.queries.data() + (b * args.heads + h) * K, args.k_cache + at, args.v_cache + at,
          std::min(tokens, kPiece), stride, K},
         &work.highest[item], &work.sum[item], work.read.data() + item * K);
}

// The pieces of a head as one: each weighted by e^(its highest score).
CEPE_AVX512 void merge(const Args& args, const Work& work, int64_t b, int64_t h) {
  const int64_t K = args.head_size, begin = work.pieces[b], end = work.pieces[b + 1];
  float highest = -std::numeric_limits<float>::infinity(), sum = 0;
  for (int64_t p = begin; p < end; ++p) highest = std::max(highest, work.highest[p * args.heads + h]);
  __m512 read[kMostHeadSize / kLanes] = {};
  for (int64_t p = begin; p < end; ++p) {
    const int64_t item = p * args.heads + h;
    const float weight = std::exp(work.highest[item] - highest);
    sum += weight * work.sum[item];
    for (int64_t i = 0; i < K / kLanes; ++i) {
      const __m512 part = _mm512_loadu_ps(work.read.data() + item * K + i * kLanes);
      read[i] = _mm512_fmadd_ps(_mm512_set1_ps(weight), part, read[i]);
    }
  }
  uint16_t* const out = args.out + (b * args.heads + h) * K;
  for (int64_t i = 0; i < K / kLanes; ++i) store(out + i * kLanes, _mm512_div_ps(read[i], _mm512_set1_ps(sum)));
}
#endif

}  // namespace

void attention(const Args& args) {
#ifdef CEPE_HAS_AVX512
  static thread_local Work kept;  // keeps its memory from step to step
  Work& work = kept;
  write_queries_and_cache(args, work);
  work.pieces.assign(1, 0);
  for (int64_t b = 0; b < args.batch; ++b) work.pieces.push_back(work.pieces[b] + args.positions[b] / kPiece + 1);
  const int64_t items = work.pieces.back() * args.heads;
  work.highest.resize(items), work.sum.resize(items), work.read.resize(items * args.head_size);
  at::parallel_for(0, items, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) attend_item(args, work, item);
  });
  for (int64_t b = 0; b < args.batch; ++b) {
    for (int64_t h = 0; h < args.heads; ++h) merge(args, work, b, h);
  }
#else
  fail("step attention: this processor has no AVX-512");
#endif
}

}  // namespace cepe::step_attention_cpu
