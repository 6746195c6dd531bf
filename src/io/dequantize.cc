// decode_to_f32: one plain loop a format, written so that the compiler vectorises it. Formulas: docs/formats/gguf.md.
#include <bit>
#include <cstring>

#include "base/error.h"
#include "io/layout.h"
#include "io/tensor_source.h"

namespace cepe {
namespace {

static_assert(std::endian::native == std::endian::little, "the formats are little-endian, and read as they lie");

template <typename T>
T load(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

// Half to single precision without a branch, subnormals included and independent of flush-to-zero modes.
// Normal, infinite and NaN: the exponent field moved by 224 = 112 + 112, then scaled by 2^-112: the maximum
// exponent 31 lands on 255 before the scaling, so infinities stay. Subnormal: the mantissa is added to 0.5's
// last bits, then 0.5 is taken away.
inline float half_to_float(uint16_t half) {
  uint32_t magnitude = static_cast<uint32_t>(half & 0x7FFF);
  float normal = std::bit_cast<float>((magnitude << 13) + (224u << 23)) * 0x1.0p-112f;
  float subnormal = std::bit_cast<float>(magnitude | (126u << 23)) - 0.5f;
  uint32_t bits = magnitude < 0x400 ? std::bit_cast<uint32_t>(subnormal) : std::bit_cast<uint32_t>(normal);
  return std::bit_cast<float>(bits | static_cast<uint32_t>(half & 0x8000) << 16);
}

float half_at(const uint8_t* bytes) { return half_to_float(load<uint16_t>(bytes)); }

void decode_f64(const uint8_t* in, float* out, size_t count) {
  for (size_t i = 0; i < count; ++i) out[i] = static_cast<float>(load<double>(in + 8 * i));
}

void decode_f16(const uint8_t* in, float* out, size_t count) {
  for (size_t i = 0; i < count; ++i) out[i] = half_to_float(load<uint16_t>(in + 2 * i));
}

void decode_bf16(const uint8_t* in, float* out, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    out[i] = std::bit_cast<float>(static_cast<uint32_t>(load<uint16_t>(in + 2 * i)) << 16);
  }
}

// Q4_0: scale d (half), 16 bytes of nibbles; the low nibbles are elements 0-15, the high ones 16-31.
void block_q4_0(const uint8_t* in, float* out) {
  float d = half_at(in);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>((in[2 + i] & 15) - 8);
    out[i + 16] = d * static_cast<float>((in[2 + i] >> 4) - 8);
  }
}

// Q4_1: scale d, minimum m (halves), nibbles.
void block_q4_1(const uint8_t* in, float* out) {
  float d = half_at(in), m = half_at(in + 2);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(in[4 + i] & 15) + m;
    out[i + 16] = d * static_cast<float>(in[4 + i] >> 4) + m;
  }
}

// The fifth bits of Q5_0 and Q5_1: bit i of a 32-bit word belongs to element i. Returned in place (0 or 16).
int fifth_bit(uint32_t high, int element) { return static_cast<int>(high >> element & 1) << 4; }

// Q5_0: scale d, 4 bytes of fifth bits, nibbles.
void block_q5_0(const uint8_t* in, float* out) {
  float d = half_at(in);
  auto high = load<uint32_t>(in + 2);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(((in[6 + i] & 15) | fifth_bit(high, i)) - 16);
    out[i + 16] = d * static_cast<float>(((in[6 + i] >> 4) | fifth_bit(high, i + 16)) - 16);
  }
}

// Q5_1: scale d, minimum m, 4 bytes of fifth bits, nibbles.
void block_q5_1(const uint8_t* in, float* out) {
  float d = half_at(in), m = half_at(in + 2);
  auto high = load<uint32_t>(in + 4);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>((in[8 + i] & 15) | fifth_bit(high, i)) + m;
    out[i + 16] = d * static_cast<float>((in[8 + i] >> 4) | fifth_bit(high, i + 16)) + m;
  }
}

// Q8_0: scale d, 32 signed bytes.
void block_q8_0(const uint8_t* in, float* out) {
  float d = half_at(in);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(static_cast<int8_t>(in[2 + i]));
}

// The 6-bit scales and minima of the 8 groups of a Q4_K or Q5_K block, packed in 12 bytes: groups 0-3 in the
// low 6 bits of bytes 0-3 (scales) and 4-7 (minima); groups 4-7 in the nibbles of bytes 8-11, with their upper
// 2 bits on top of bytes 0-3 and 4-7.
struct GroupScales {
  float scale[8], minimum[8];
  GroupScales(const uint8_t* packed, float d, float d_min) {
    for (int g = 0; g < 4; ++g) {
      scale[g] = d * static_cast<float>(packed[g] & 63);
      minimum[g] = d_min * static_cast<float>(packed[g + 4] & 63);
      scale[g + 4] = d * static_cast<float>((packed[g + 8] & 15) | (packed[g] >> 6 << 4));
      minimum[g + 4] = d_min * static_cast<float>((packed[g + 8] >> 4) | (packed[g + 4] >> 6 << 4));
    }
  }
};

// Q4_K: d, d_min (halves), 12 bytes of scales, 128 bytes of nibbles. 32 bytes hold two groups of 32.
void block_q4_k(const uint8_t* in, float* out) {
  GroupScales groups(in + 4, half_at(in), half_at(in + 2));
  for (int g = 0; g < 8; g += 2) {
    const uint8_t* nibbles = in + 16 + 16 * g;
    for (int i = 0; i < 32; ++i) {
      out[32 * g + i] = groups.scale[g] * static_cast<float>(nibbles[i] & 15) - groups.minimum[g];
      out[32 * g + 32 + i] = groups.scale[g + 1] * static_cast<float>(nibbles[i] >> 4) - groups.minimum[g + 1];
    }
  }
}

// Q5_K: as Q4_K, with 32 bytes before the nibbles whose bit g holds group g's fifth bits.
void block_q5_k(const uint8_t* in, float* out) {
  GroupScales groups(in + 4, half_at(in), half_at(in + 2));
  const uint8_t* high = in + 16;
  for (int g = 0; g < 8; g += 2) {
    const uint8_t* nibbles = in + 48 + 16 * g;
    for (int i = 0; i < 32; ++i) {
      int low_value = (nibbles[i] & 15) | (high[i] >> g & 1) << 4;
      int high_value = (nibbles[i] >> 4) | (high[i] >> (g + 1) & 1) << 4;
      out[32 * g + i] = groups.scale[g] * static_cast<float>(low_value) - groups.minimum[g];
      out[32 * g + 32 + i] = groups.scale[g + 1] * static_cast<float>(high_value) - groups.minimum[g + 1];
    }
  }
}

// Q6_K: 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 signed scales, d (half). A half block of
// 128 elements takes 64 bytes of nibbles and 32 bytes of pairs; element 32 q + i of it has its pair in bits
// 2 q and 2 q + 1 of byte i. A scale serves 16 elements.
void block_q6_k(const uint8_t* in, float* out) {
  float d = half_at(in + 208);
  for (int half = 0; half < 2; ++half) {
    const uint8_t* nibbles = in + 64 * half;
    const uint8_t* pairs = in + 128 + 32 * half;
    for (int q = 0; q < 4; ++q) {
      const uint8_t* low = nibbles + 32 * (q & 1);
      int shift = q < 2 ? 0 : 4;
      for (int part = 0; part < 2; ++part) {
        float scale = d * static_cast<float>(static_cast<int8_t>(in[192 + 8 * half + 2 * q + part]));
        float* target = out + 128 * half + 32 * q + 16 * part;
        for (int i = 0; i < 16; ++i) {
          int j = 16 * part + i;
          int value = (low[j] >> shift & 15) | (pairs[j] >> (2 * q) & 3) << 4;
          target[i] = scale * static_cast<float>(value - 32);
        }
      }
    }
  }
}

template <DType type, void (*decode_block)(const uint8_t*, float*)>
void decode_blocks(const uint8_t* in, float* out, size_t count) {
  const size_t elements = block_elements(type), bytes = block_bytes(type);
  for (size_t i = 0; i < count / elements; ++i) decode_block(in + i * bytes, out + i * elements);
}

}  // namespace

void decode_to_f32(const TensorView& tensor, float* out) {
  auto expected = tensor_bytes(tensor.dtype, tensor.shape);
  require(expected == tensor.bytes.size(), "tensor {} of type {} and shape {} does not fit its {} bytes", tensor.name,
          dtype_name(tensor.dtype), shape_text(tensor.shape), tensor.bytes.size());
  const auto* in = reinterpret_cast<const uint8_t*>(tensor.bytes.data());
  auto count = static_cast<size_t>(tensor.elements());
  if (count == 0) return;
  switch (tensor.dtype) {
    case DType::f64: return decode_f64(in, out, count);
    case DType::f32: std::memcpy(out, in, 4 * count); return;
    case DType::f16: return decode_f16(in, out, count);
    case DType::bf16: return decode_bf16(in, out, count);
    case DType::q4_0: return decode_blocks<DType::q4_0, block_q4_0>(in, out, count);
    case DType::q4_1: return decode_blocks<DType::q4_1, block_q4_1>(in, out, count);
    case DType::q5_0: return decode_blocks<DType::q5_0, block_q5_0>(in, out, count);
    case DType::q5_1: return decode_blocks<DType::q5_1, block_q5_1>(in, out, count);
    case DType::q8_0: return decode_blocks<DType::q8_0, block_q8_0>(in, out, count);
    case DType::q4_k: return decode_blocks<DType::q4_k, block_q4_k>(in, out, count);
    case DType::q5_k: return decode_blocks<DType::q5_k, block_q5_k>(in, out, count);
    case DType::q6_k: return decode_blocks<DType::q6_k, block_q6_k>(in, out, count);
    default:
      fail("tensor {} holds {} values, expected a floating-point or block type", tensor.name, dtype_name(tensor.dtype));
  }
}

}  // namespace cepe
