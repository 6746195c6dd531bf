// Attention of few query rows over a context, block by block: the kernels of a CPU, as raw pointers and plain structs.
// A call reads one span of a context with one thread; whoever deals spans to threads brings their results to one scale
// by `highest`. Nothing here sees LibTorch.
#pragma once

#include <cstdint>

namespace cepe::cpu {

constexpr int64_t kBlock = 64;      // tokens that are scored, then summed while they are in the cache
constexpr int64_t kMostLanes = 16;  // of a vector, whatever the instruction set: widths are padded to it

// The query rows of one pass, and what they have read so far.
struct AttentionRows {
  int64_t count = 0, width = 0;
  const float* query = nullptr;  // (count, width), scaled
  float* sum = nullptr;  // (count, width): sum of exp(score - highest) value; begin with 0. Keys alone are read: null
  float* highest = nullptr;  // (count): the highest score; begin with -infinity
  float* total = nullptr;    // (count): sum of exp(score - highest); begin with 0
};

// States that are keys and values at once (latent attention). 8 bits: state = scale * (value - 128).
enum class StateType { float32, bfloat16, bytes };
struct StateSpan {
  const void* states = nullptr;  // (tokens, width)
  StateType type = StateType::float32;
  int64_t width = 0, tokens = 0;
  const bool* real = nullptr;     // (tokens), or null: all are
  const float* scales = nullptr;  // (tokens), of bytes
};

// The width of a pass's rows over states of a width: padded with zeros to whole vectors, and so that rows which stand
// below each other do not share the cache's sets (a stride of 4 KB would leave them 8 ways).
int64_t padded_width(int64_t width);

// rows.width = padded_width(span.width). scratch: kBlock * padded_width() floats.
void read_states(const AttentionRows& rows, const StateSpan& span, float* scratch);

// Keys and values of one key-value head. Keys lie in blocks (width, kBlock), so that one vector holds the same element
// of several keys; values (tokens, width). Both are padded to whole blocks with zeros.
enum class KeyValueType { float32, bfloat16, int8 };
struct KeyValueSpan {
  const void *k = nullptr, *v = nullptr;
  KeyValueType type = KeyValueType::float32;
  int64_t tokens = 0;
  const bool* real = nullptr;                            // (tokens), or null: all are
  const float *k_scales = nullptr, *v_scales = nullptr;  // int8: (tokens to whole blocks): key = scale * value
};
// Numbers of one head of some tokens in 8 bits, a scale a token: value = round(number / scale).
struct Int8Source {
  const float* numbers = nullptr;  // (tokens, stride), `width` of each
  int64_t tokens = 0, width = 0, stride = 0;
};
// out (tokens, width), scales (tokens)
void write_int8_values(const Int8Source& from, int8_t* out, float* scales);
// The same, into blocks (width, kBlock) of `out`, whose first one begins with the first token.
void write_int8_keys(const Int8Source& from, int8_t* out, float* scales);

// rows.width is a multiple of kMostLanes.
void read_keys_values(const AttentionRows& rows, const KeyValueSpan& span);

}  // namespace cepe::cpu
