// Matrices that are held as their file has them, against decode_to_f32() of the same bytes.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <random>

#include "model/checkpoint/checkpoint.h"
#include "model/checkpoint/tensor_names.h"

namespace cepe {
namespace {

constexpr int64_t kHeads = 2, kRows = 64, kColumns = 96;
const std::string kPublished = "model.layers.0.self_attn.q_proj.weight", kInFile = "blk.0.attn_q.weight";

class MemorySource : public TensorSource {
 public:
  void add(const std::string& name, DType type, std::vector<int64_t> shape, std::string bytes) {
    bytes_.push_back(std::make_unique<std::string>(std::move(bytes)));
    const std::string& held = *bytes_.back();
    tensors_.push_back({name, type, std::move(shape), std::as_bytes(std::span(held.data(), held.size()))});
  }
  const std::vector<TensorView>& tensors() const override { return tensors_; }
  const TensorView* find(std::string_view name) const override {
    for (const TensorView& tensor : tensors_) {
      if (tensor.name == name) return &tensor;
    }
    return nullptr;
  }
  const std::filesystem::path& path() const override { return path_; }

 private:
  std::vector<std::unique_ptr<std::string>> bytes_;
  std::vector<TensorView> tensors_;
  std::filesystem::path path_ = "memory";
};

// Blocks of kRows x kColumns with any numbers; `headers` float16 scales and least values by `draw`.
template <class Draw>
std::string blocks(DType type, int headers, const Draw& draw) {
  std::mt19937 engine(5);
  std::string bytes(static_cast<size_t>(kRows * kColumns / 32) * block_bytes(type), '\0');
  for (char& byte : bytes) byte = static_cast<char>(engine() & 255);
  for (size_t at = 0; at < bytes.size(); at += block_bytes(type)) {
    for (int i = 0; i < headers; ++i) {
      const uint16_t bits = draw(engine);
      std::memcpy(bytes.data() + at + 2 * i, &bits, 2);
    }
  }
  return bytes;
}

// Of either sign, from the least subnormal number of float16 to 8,184.
uint16_t finite(std::mt19937& engine) { return static_cast<uint16_t>(engine() % 0x6fff | (engine() & 1) << 15); }
// What float16 scales of a model's weights are: 2^-9 to 2^-8.
uint16_t usual(std::mt19937& engine) { return static_cast<uint16_t>(0x1800 + engine() % 1024); }

struct Loaded {
  Linear linear;
  std::vector<std::string> unused;
};

Loaded load(const MemorySource& source, std::set<WeightType> as_file, bool kept = false) {
  Loaded out;
  TensorNames names;
  names.permuted_rotary = true, names.num_heads = kHeads;
  const Parameter parameter{kPublished, {kRows, kColumns}, Parameter::Part::decoder, &out.linear.weight};
  out.unused = load_parameters(
      {parameter}, {.source = source,
                    .device = at::kCPU,
                    .dtype = at::kBFloat16,
                    .names = &names,
                    .as_file = std::move(as_file),
                    .packable = {{.wide = &out.linear.weight, .packed = &out.linear.quantised, .kept = kept}}});
  return out;
}

// The file's values; its row 2 k + p of a head is the model's row k + K / 2 p.
at::Tensor expected(const MemorySource& source) {
  at::Tensor in_file = at::empty({kRows, kColumns}), out = at::empty_like(in_file);
  decode_to_f32(*source.find(kInFile), in_file.mutable_data_ptr<float>());
  constexpr int64_t K = kRows / kHeads;
  for (int64_t row = 0; row < kRows; ++row) {
    const int64_t head = row / K, in_head = row % K;
    out[head * K + in_head / 2 + in_head % 2 * (K / 2)] = in_file[row];
  }
  return out;
}

TEST(PackedLoading, FourBitBlocksKeepTheirValuesBitForBit) {
  for (const DType type : {DType::q4_0, DType::q4_1}) {
    MemorySource source;
    source.add(kInFile, type, {kRows, kColumns}, blocks(type, type == DType::q4_0 ? 1 : 2, finite));
    const Loaded loaded = load(source, {WeightType::int4, WeightType::int8});
    ASSERT_TRUE(loaded.linear.quantised) << dtype_name(type);
    EXPECT_EQ(loaded.linear.quantised->type, WeightType::int4);
    EXPECT_FALSE(loaded.linear.weight.defined());
    EXPECT_TRUE(loaded.unused.empty());
    EXPECT_TRUE(at::equal(dequantise_weight(*loaded.linear.quantised, at::kFloat), expected(source)))
        << dtype_name(type);
  }
}

// -8 scales of Q4_0 that float16 does not hold; scales that are no numbers.
TEST(PackedLoading, WhatFloat16DoesNotHoldStaysWide) {
  for (const uint16_t scale : {0x7000, 0x7c00, 0x7e00}) {  // 8,192, infinity, not a number
    MemorySource source;
    bool first = true;
    source.add(kInFile, DType::q4_0, {kRows, kColumns}, blocks(DType::q4_0, 1, [&](std::mt19937& engine) {
                 return std::exchange(first, false) ? scale : usual(engine);
               }));
    const Loaded loaded = load(source, {WeightType::int4});
    EXPECT_FALSE(loaded.linear.quantised) << scale;
    EXPECT_TRUE(at::allclose(loaded.linear.weight.to(at::kFloat), expected(source), 4e-3, 0, /*equal_nan=*/true));
  }
}

TEST(PackedLoading, OtherFormsAndTypesNotAskedForStayWide) {
  for (const auto& [type, asked] : {std::pair{DType::q4_1, WeightType::int8},
                                    {DType::q8_0, WeightType::int4},
                                    {DType::q5_1, WeightType::int4},
                                    {DType::q5_1, WeightType::int8}}) {
    MemorySource source;
    source.add(kInFile, type, {kRows, kColumns}, blocks(type, type == DType::q8_0 ? 1 : 2, usual));
    const Loaded loaded = load(source, {asked});
    EXPECT_FALSE(loaded.linear.quantised) << dtype_name(type);
    EXPECT_TRUE(at::equal(loaded.linear.weight, expected(source).to(at::kBFloat16))) << dtype_name(type);
  }
}

// Blocks of Q8_0 become rows with one scale: off by half a step of the row, and never by way of bfloat16.
TEST(PackedLoading, EightBitBlocksAreRoundedByRow) {
  MemorySource source;
  source.add(kInFile, DType::q8_0, {kRows, kColumns}, blocks(DType::q8_0, 1, usual));
  const Loaded loaded = load(source, {WeightType::int8}, /*kept=*/true);
  ASSERT_TRUE(loaded.linear.quantised);
  EXPECT_TRUE(at::equal(loaded.linear.weight, expected(source).to(at::kBFloat16))) << "kept besides";
  const at::Tensor wide = expected(source), step = wide.abs().amax(1, true) / 127;
  const at::Tensor found = dequantise_weight(*loaded.linear.quantised, at::kFloat);
  EXPECT_LE(((found - wide).abs() / step).max().item<double>(), 0.5001);
}

TEST(PackedLoading, RowsOfInt8KeepTheirValues) {
  std::mt19937 engine(6);
  std::string values(kRows * kColumns, '\0'), scales(kRows * 4, '\0');
  for (char& value : values) value = static_cast<char>(engine() & 255);
  for (int64_t row = 0; row < kRows; ++row) {
    const float scale = 1e-3f * static_cast<float>(engine() % 1000 + 1);
    std::memcpy(scales.data() + row * 4, &scale, 4);
  }
  MemorySource source;
  source.add("model.layers.3.cross_attn.q_proj.weight", DType::i8, {kRows, kColumns}, values);
  source.add("model.layers.3.cross_attn.q_proj.weight_scale", DType::f32, {kRows}, scales);
  const auto loaded = [&](std::set<WeightType> as_file) {
    Linear linear;
    const Parameter parameter{
        source.tensors()[0].name, {kRows, kColumns}, Parameter::Part::cross_attention, &linear.weight};
    EXPECT_TRUE(load_parameters({parameter}, {.source = source,
                                              .device = at::kCPU,
                                              .dtype = at::kFloat,
                                              .as_file = std::move(as_file),
                                              .packable = {{&linear.weight, &linear.quantised}}})
                    .empty());
    return linear;
  };
  const Linear packed = loaded({WeightType::int8}), wide = loaded({});
  ASSERT_TRUE(packed.quantised && wide.weight.defined());
  EXPECT_TRUE(at::equal(dequantise_weight(*packed.quantised, at::kFloat), wide.weight));
}

}  // namespace
}  // namespace cepe
