// Attention of many queries: blocks of scores that stay in the nearest caches (flash attention, Dao et al. 2022, arXiv
// 2205.14135). Raw pointers and plain structs, one thread a call. Nothing here sees LibTorch.
#pragma once

#include <cstdint>
#include <limits>

#include "ops/cpu/attention.h"

namespace cepe::cpu {

constexpr int64_t kFlashRows = 192;  // of a call at most; a key comes from memory once for all of them
constexpr int64_t kFlashWidth = 8;   // head sizes are multiples of it

// Queries that read one key-value head. Row n is query head n % heads of token n / heads: the heads that share keys
// stand side by side. Strides are counted in floats.
struct FlashQueries {
  const float* query = nullptr;
  int64_t query_token = 0, query_head = 0;  // strides
  float* out = nullptr;                     // softmax(scale q k^T) v; zeros where a row sees no key
  int64_t out_token = 0, out_head = 0;      // strides
  float* log_sum_exp = nullptr;             // (all rows) of the scores, or null; -infinity where a row sees no key
  int64_t heads = 1, width = 0;
  int64_t first = 0, count = 0;  // the rows of this call
  float scale = 1;
  static constexpr int64_t kAll = std::numeric_limits<int64_t>::max() / 2;
  int64_t seen_before = kAll;  // token t sees keys up to t + seen_before
};

struct FlashKeys {
  const float *k = nullptr, *v = nullptr;
  int64_t k_token = 0, v_token = 0;  // strides in floats
  int64_t tokens = 0;
  const bool* real = nullptr;  // (tokens), or null: all are
};

// Floats of scratch memory that a call needs, and rows that stand side by side in vectors: a smaller count costs as
// much.
int64_t flash_scratch(int64_t width);
int64_t flash_strip();

void flash_attention(const FlashQueries& queries, const FlashKeys& keys, float* scratch);
// The same on kept keys and values (attention.h).
void flash_attention(const FlashQueries& queries, const KeyValueSpan& keys, float* scratch);

}  // namespace cepe::cpu
