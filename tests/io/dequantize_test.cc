#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/temporary_directory.h"
#include "io/gguf.h"
#include "io/safetensors.h"

namespace cepe {
namespace {

std::vector<float> decoded(const TensorView& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  decode_to_f32(tensor, values.data());
  return values;
}

class Dequantize : public ::testing::TestWithParam<const char*> {};

// blocks.safetensors holds what the gguf package makes of the same bytes.
TEST_P(Dequantize, AgreesWithTheReferencePackage) {
  GgufFile blocks(CEPE_TEST_DATA "/io/blocks.gguf");
  SafetensorsFile reference(CEPE_TEST_DATA "/io/blocks.safetensors");
  const TensorView* tensor = blocks.find(GetParam());
  const TensorView* wanted = reference.find(GetParam());
  ASSERT_TRUE(tensor && wanted);
  ASSERT_EQ(tensor->shape, wanted->shape);
  std::vector<float> actual = decoded(*tensor), expected = decoded(*wanted);
  size_t block = block_elements(tensor->dtype);
  for (size_t start = 0; start < actual.size(); start += block) {
    // Exact but for d * q - m, which a compiler may fuse where the processor can: a rounding of the larger term.
    float largest = 0;
    for (size_t i = start; i < start + block; ++i) {
      if (std::isfinite(expected[i])) largest = std::max(largest, std::abs(expected[i]));
    }
    for (size_t i = start; i < start + block; ++i) {
      if (block == 1 || !std::isfinite(expected[i])) {
        EXPECT_EQ(actual[i], expected[i]) << i;
      } else {
        EXPECT_NEAR(actual[i], expected[i], 2e-6f * largest) << i;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, Dequantize,
                         ::testing::Values("f32", "f16", "f64", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k",
                                           "q5_k", "q6_k"),
                         [](const auto& info) { return std::string(info.param); });

TEST(DequantizeHalf, AllOfThemByTheirDefinition) {
  std::vector<uint16_t> bits(65536);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
  std::vector<float> values = decoded({"halves", DType::f16, {65536}, std::as_bytes(std::span(bits))});
  for (size_t i = 0; i < bits.size(); ++i) {
    int sign = i & 0x8000 ? -1 : 1, exponent = static_cast<int>(i >> 10 & 31), mantissa = static_cast<int>(i & 1023);
    if (exponent == 31 && mantissa != 0) {
      EXPECT_TRUE(std::isnan(values[i])) << i;
      continue;
    }
    // IEEE 754: 2^(e - 15) (1 + m / 1024), and 2^-14 (m / 1024) where e is 0.
    double magnitude = exponent == 31  ? std::numeric_limits<double>::infinity()
                       : exponent == 0 ? std::ldexp(mantissa, -24)
                                       : std::ldexp(1024 + mantissa, exponent - 25);
    ASSERT_EQ(values[i], sign * magnitude) << i;
    ASSERT_EQ(std::signbit(values[i]), sign < 0) << i;
  }
}

TEST(Dequantize, WorksAtAnyAddress) {
  GgufFile blocks(CEPE_TEST_DATA "/io/blocks.gguf");
  for (const auto& tensor : blocks.tensors()) {
    std::vector<std::byte> shifted(tensor.bytes.size() + 1);
    std::copy(tensor.bytes.begin(), tensor.bytes.end(), shifted.begin() + 1);
    TensorView view = tensor;
    view.bytes = std::span<const std::byte>(shifted).subspan(1);
    auto expected = decoded(tensor), actual = decoded(view);
    EXPECT_EQ(std::memcmp(expected.data(), actual.data(), 4 * expected.size()), 0) << tensor.name;
  }
}

TEST(Dequantize, RefusesIntegersAndWrongSizes) {
  std::string bytes(18, 'x');
  float out[32];
  auto message = [&](DType type, std::vector<int64_t> shape) {
    TensorView tensor{"t", type, std::move(shape), std::as_bytes(std::span(bytes))};
    return error_of<Error>([&] { decode_to_f32(tensor, out); });
  };
  EXPECT_EQ(message(DType::i8, {18}), "tensor t holds I8 values, expected a floating-point or block type");
  EXPECT_EQ(message(DType::boolean, {18}), "tensor t holds BOOL values, expected a floating-point or block type");
  EXPECT_EQ(message(DType::q4_0, {64}), "tensor t of type Q4_0 and shape [64] does not fit its 18 bytes");
  EXPECT_EQ(message(DType::q4_0, {2, 16}), "tensor t of type Q4_0 and shape [2, 16] does not fit its 18 bytes");
  EXPECT_EQ(message(DType::f16, {-9}), "tensor t of type F16 and shape [-9] does not fit its 18 bytes");
}

}  // namespace
}  // namespace cepe
