// Vectors run across queries: a strip of them is transposed once, then keys and values are read as they lie, one number
// at a time for whole vectors of queries, and neither a maximum nor a sum runs across lanes.
#include "ops/cpu/flash_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/flash_attention.cc"
#include <hwy/foreach_target.h>

#include "ops/cpu/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cepe::cpu::HWY_NAMESPACE {

constexpr float kNone = -std::numeric_limits<float>::infinity();  // the score of what is not there

// A tile's sums stay in registers: 4 x 3 of 16, 8 x 3 of 32. The last strip of a call may need fewer vectors:
// kVectors of the functions below.
constexpr int kTileRows = kRegisters == 16 ? 4 : 8;
constexpr int kTileVectors = 3;
constexpr int64_t kStrip = kTileVectors * kLanes;
constexpr int64_t kStrips = (kFlashRows + kStrip - 1) / kStrip;
static_assert(kBlock % kTileRows == 0 && kFlashWidth % kTileRows == 0);

// 2^x for x <= 0, within 2.5e-7 of it; 0 of -infinity; not-a-number stays. Highway's exponential has twice the
// instructions: the whole kernel would take a sixth longer. p: 2^r for |r| <= 1/2, at Chebyshev's nodes, 1 at 0.
HWY_INLINE Vector power_of_2(Vector x) {
  const hn::RebindToUnsigned<Floats> bits;
  const Vector shift = hn::Set(kFloats, 12582912.0f + 127);  // 1.5 * 2^23: rounds; 127: the exponent's bias
  const Vector above = hn::IfThenElse(hn::Lt(x, hn::Set(kFloats, -127.0f)), hn::Set(kFloats, -127.0f), x);
  const Vector rounded = hn::Add(above, shift);
  const Vector r = hn::Sub(above, hn::Sub(rounded, shift));
  Vector p = hn::MulAdd(r, hn::Set(kFloats, 1.3381302e-3f), hn::Set(kFloats, 9.6663684e-3f));
  p = hn::MulAdd(p, r, hn::Set(kFloats, 5.5503812e-2f));
  p = hn::MulAdd(p, r, hn::Set(kFloats, 2.4022350e-1f));
  p = hn::MulAdd(p, r, hn::Set(kFloats, 6.9314718e-1f));
  p = hn::MulAdd(p, r, hn::Set(kFloats, 1.0f));
  return hn::Mul(p, hn::BitCast(kFloats, hn::ShiftLeft<23>(hn::BitCast(bits, rounded))));
}

// A strip of queries, and what it has read so far.
struct Strip {
  float *query, *sum;      // (width, kStrip)
  float *highest, *total;  // (kStrip)
};

// Keys and values of kBlock tokens in float32. Key n begins at k + n * k_token, its numbers are k_step apart.
struct Block {
  const float* k;
  int64_t k_token, k_step;
  const float* v;  // (tokens, width)
  int64_t tokens, width;
};

template <int kVectors>
using Sums = Vector[kTileRows][kVectors];

// A matrix whose rows are `row` numbers apart, and their numbers `step`.
struct Matrix {
  const float* at;
  int64_t row, step;
};

// sums[i] += sum over j of a[i][j] b[j], b (count, kStrip).
template <int kVectors>
HWY_INLINE void multiply(Matrix a, const float* b, int64_t count, Sums<kVectors>& sums) {
  for (int64_t j = 0; j < count; ++j, a.at += a.step, b += kStrip) {
    Vector x[kVectors];
    for (int v = 0; v < kVectors; ++v) x[v] = load(b + v * kLanes);
    for (int i = 0; i < kTileRows; ++i) {
      const Vector factor = hn::Set(kFloats, a.at[i * a.row]);
      for (int v = 0; v < kVectors; ++v) sums[i][v] = hn::MulAdd(factor, x[v], sums[i][v]);
    }
  }
}

// p (kBlock, kStrip). Whole tiles of keys: what lies behind the last key is a number too, and is not read.
template <int kVectors>
HWY_INLINE void find_scores(const Strip& strip, const Block& block, float* p) {
  for (int64_t n = 0; n < block.tokens; n += kTileRows, p += kTileRows * kStrip) {
    Sums<kVectors> sums;
    for (auto& row : sums) {
      for (Vector& x : row) x = hn::Zero(kFloats);
    }
    multiply<kVectors>({block.k + n * block.k_token, block.k_token, block.k_step}, strip.query, block.width, sums);
    for (int i = 0; i < kTileRows; ++i) {
      for (int v = 0; v < kVectors; ++v) store(p + i * kStrip + v * kLanes, sums[i][v]);
    }
  }
}

// Scores of keys behind the last one that a query sees, which is limits[query].
template <int kVectors>
HWY_INLINE void hide_later(float* p, int64_t tokens, const float* limits) {
  for (int64_t n = 0; n < tokens; ++n, p += kStrip) {
    const Vector key = hn::Set(kFloats, static_cast<float>(n));
    for (int v = 0; v < kVectors; ++v) {
      const auto later = hn::Gt(key, load(limits + v * kLanes));
      store(p + v * kLanes, hn::IfThenElse(later, hn::Set(kFloats, kNone), load(p + v * kLanes)));
    }
  }
}

// Scores become 2^(score - highest); highest and total take the block in. factor: for what was read before.
template <int kVectors>
HWY_INLINE void weigh(const Strip& strip, int64_t tokens, float* p, Vector (&factor)[kVectors]) {
  Vector most[kVectors], shift[kVectors], sum[kVectors];
  for (int v = 0; v < kVectors; ++v) most[v] = load(strip.highest + v * kLanes);
  for (int64_t n = 0; n < tokens; ++n) {
    for (int v = 0; v < kVectors; ++v) {
      const Vector x = load(p + n * kStrip + v * kLanes);
      most[v] = hn::IfThenElse(hn::Gt(x, most[v]), x, most[v]);  // what is not a number is never the highest
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    const auto nothing = hn::Eq(most[v], hn::Set(kFloats, kNone));  // no key so far
    shift[v] = hn::IfThenElse(nothing, hn::Zero(kFloats), most[v]);
    factor[v] = power_of_2(hn::Sub(load(strip.highest + v * kLanes), shift[v]));
    sum[v] = hn::Mul(load(strip.total + v * kLanes), factor[v]);
    store(strip.highest + v * kLanes, most[v]);
  }
  for (int64_t n = 0; n < tokens; ++n, p += kStrip) {
    for (int v = 0; v < kVectors; ++v) {
      const Vector weight = power_of_2(hn::Sub(load(p + v * kLanes), shift[v]));
      store(p + v * kLanes, weight);
      sum[v] = hn::Add(sum[v], weight);
    }
  }
  for (int v = 0; v < kVectors; ++v) store(strip.total + v * kLanes, sum[v]);
}

template <int kVectors>
HWY_INLINE void add_values(const Strip& strip, const Block& block, const float* p, const Vector (&factor)[kVectors]) {
  for (int64_t d = 0; d < block.width; d += kTileRows) {
    float* const to = strip.sum + d * kStrip;
    Sums<kVectors> sums;
    for (int i = 0; i < kTileRows; ++i) {
      for (int v = 0; v < kVectors; ++v) sums[i][v] = hn::Mul(load(to + i * kStrip + v * kLanes), factor[v]);
    }
    multiply<kVectors>({block.v + d, 1, block.width}, p, block.tokens, sums);
    for (int i = 0; i < kTileRows; ++i) {
      for (int v = 0; v < kVectors; ++v) store(to + i * kStrip + v * kLanes, sums[i][v]);
    }
  }
}

constexpr int64_t strip_floats(int64_t width) { return kStrip * (2 * width + 2); }

// A call's memory: its strips, then a block of keys and one of values.
struct Memory {
  float* floats;
  int64_t width;

  Strip strip(int64_t i) const {
    float* const query = floats + i * strip_floats(width);
    return {query, query + kStrip * width, query + 2 * kStrip * width, query + 2 * kStrip * width + kStrip};
  }
  float* keys() const { return floats + kStrips * strip_floats(width); }
  float* values() const { return keys() + kBlock * width; }
};

// Side by side: rows far apart would share the cache's sets. Behind the last one whole tiles of zeros.
HWY_INLINE void gather(const float* from, int64_t stride, int64_t tokens, int64_t width, float* to) {
  for (int64_t n = 0; n < tokens; ++n) {
    std::memcpy(to + n * width, from + n * stride, static_cast<size_t>(width) * sizeof(float));
  }
  std::fill_n(to + tokens * width, (kBlock - tokens) * width, 0.0f);
}

HWY_INLINE Block read_block(const FlashKeys& keys, int64_t first, int64_t tokens, const Memory& memory) {
  const int64_t width = memory.width;
  gather(keys.k + first * keys.k_token, keys.k_token, tokens, width, memory.keys());
  gather(keys.v + first * keys.v_token, keys.v_token, tokens, width, memory.values());
  return {memory.keys(), width, 1, memory.values(), tokens, width};
}

template <class Element>
HWY_INLINE void widen(const Element* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; i += kLanes) store(to + i, load(from + i));
}

template <class Element>
HWY_INLINE Block widen_block(const KeyValueSpan& keys, int64_t first, int64_t tokens, const Memory& memory) {
  const int64_t width = memory.width, numbers = kBlock * width;
  float *const k = memory.keys(), *const v = memory.values();
  widen(static_cast<const Element*>(keys.k) + first * width, numbers, k);
  widen(static_cast<const Element*>(keys.v) + first * width, numbers, v);
  for (int64_t i = 0; keys.k_scales && i < numbers; i += kLanes) {
    store(k + i, hn::Mul(load(k + i), load(keys.k_scales + first + i % kBlock)));
    store(v + i, hn::Mul(load(v + i), hn::Set(kFloats, keys.v_scales[first + i / width])));
  }
  return {k, 1, kBlock, v, tokens, width};
}

HWY_INLINE Block read_block(const KeyValueSpan& keys, int64_t first, int64_t tokens, const Memory& memory) {
  if (keys.type == KeyValueType::bfloat16) return widen_block<uint16_t>(keys, first, tokens, memory);
  if (keys.type == KeyValueType::int8) return widen_block<int8_t>(keys, first, tokens, memory);
  const int64_t offset = first * memory.width;
  return {static_cast<const float*>(keys.k) + offset, 1,      kBlock,
          static_cast<const float*>(keys.v) + offset, tokens, memory.width};
}

template <class Keys>
class Call {
 public:
  Call(const FlashQueries& queries, const Keys& keys, float* scratch)
      : q_(queries), keys_(keys), memory_{scratch, queries.width} {}

  void run() const {
    const int64_t strips = (q_.count + kStrip - 1) / kStrip, end = seen(q_.count - 1);
    for (int64_t i = 0; i < strips; ++i) begin(i);
    for (int64_t first = 0; first < end; first += kBlock) {
      const int64_t tokens = std::min(kBlock, end - first);
      const bool* const real = keys_.real ? keys_.real + first : nullptr;
      if (real && std::find(real, real + tokens, true) == real + tokens) continue;
      const Block block = read_block(keys_, first, tokens, memory_);
      for (int64_t i = 0; i < strips; ++i) read(i, first, block);
    }
    for (int64_t i = 0; i < strips; ++i) finish(i);
  }

 private:
  // Keys that a row of this call sees.
  int64_t seen(int64_t row) const {
    return std::clamp<int64_t>((q_.first + row) / q_.heads + q_.seen_before + 1, 0, keys_.tokens);
  }
  int64_t rows_of(int64_t strip) const { return std::min(kStrip, q_.count - strip * kStrip); }

  void begin(int64_t i) const {
    const Strip strip = memory_.strip(i);
    const float scale = q_.scale * 1.44269504f;  // scores are exponents of 2
    std::fill_n(strip.query, 2 * kStrip * q_.width, 0.0f);
    std::fill_n(strip.highest, kStrip, kNone);
    std::fill_n(strip.total, kStrip, 0.0f);
    for (int64_t r = 0; r < rows_of(i); ++r) {
      const int64_t row = q_.first + i * kStrip + r;
      const float* const from = q_.query + row / q_.heads * q_.query_token + row % q_.heads * q_.query_head;
      for (int64_t d = 0; d < q_.width; ++d) strip.query[d * kStrip + r] = from[d] * scale;
    }
  }

  void read(int64_t i, int64_t first, Block block) const {
    const int64_t rows = rows_of(i);
    block.tokens = std::min(block.tokens, seen(i * kStrip + rows - 1) - first);
    if (block.tokens <= 0) return;
    if (rows <= kLanes) return read_vectors<1>(i, first, block);
    rows <= 2 * kLanes ? read_vectors<2>(i, first, block) : read_vectors<kTileVectors>(i, first, block);
  }

  template <int kVectors>
  void read_vectors(int64_t i, int64_t first, const Block& block) const {
    const int64_t row = i * kStrip;
    HWY_ALIGN float p[kBlock * kStrip];
    const Strip strip = memory_.strip(i);
    find_scores<kVectors>(strip, block, p);
    if (seen(row) < first + block.tokens) {
      HWY_ALIGN float limits[kStrip];
      for (int64_t r = 0; r < kStrip; ++r) limits[r] = static_cast<float>(seen(row + r) - 1 - first);
      hide_later<kVectors>(p, block.tokens, limits);
    }
    for (int64_t n = 0; keys_.real && n < block.tokens; ++n) {
      if (!keys_.real[first + n]) std::fill_n(p + n * kStrip, kStrip, kNone);
    }
    Vector factor[kVectors];
    weigh<kVectors>(strip, block.tokens, p, factor);
    add_values<kVectors>(strip, block, p, factor);
  }

  void finish(int64_t i) const {
    const Strip strip = memory_.strip(i);
    for (int64_t r = 0; r < rows_of(i); ++r) {
      const int64_t row = q_.first + i * kStrip + r;
      float* const to = q_.out + row / q_.heads * q_.out_token + row % q_.heads * q_.out_head;
      // Without a key 0, or not a number where no score was one.
      const float highest = strip.highest[r], total = strip.total[r], share = highest == kNone ? total : 1 / total;
      for (int64_t d = 0; d < q_.width; ++d) to[d] = strip.sum[d * kStrip + r] * share;
      if (q_.log_sum_exp) q_.log_sum_exp[row] = (highest + std::log2(total)) * 0.693147181f;
    }
  }

  const FlashQueries& q_;
  const Keys& keys_;
  const Memory memory_;
};

void read_rows(const FlashQueries& queries, const FlashKeys& keys, float* scratch) {
  Call<FlashKeys>(queries, keys, scratch).run();
}

void read_kept(const FlashQueries& queries, const KeyValueSpan& keys, float* scratch) {
  Call<KeyValueSpan>(queries, keys, scratch).run();
}

int64_t strip_rows() { return kStrip; }

int64_t scratch_floats(int64_t width) { return kStrips * strip_floats(width) + 2 * kBlock * width; }

}  // namespace cepe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cepe::cpu {

HWY_EXPORT(scratch_floats);
int64_t flash_scratch(int64_t width) { return HWY_DYNAMIC_DISPATCH(scratch_floats)(width); }

HWY_EXPORT(strip_rows);
int64_t flash_strip() { return HWY_DYNAMIC_DISPATCH(strip_rows)(); }

HWY_EXPORT(read_rows);
void flash_attention(const FlashQueries& queries, const FlashKeys& keys, float* scratch) {
  HWY_DYNAMIC_DISPATCH(read_rows)(queries, keys, scratch);
}

HWY_EXPORT(read_kept);
void flash_attention(const FlashQueries& queries, const KeyValueSpan& keys, float* scratch) {
  HWY_DYNAMIC_DISPATCH(read_kept)(queries, keys, scratch);
}

}  // namespace cepe::cpu
#endif
