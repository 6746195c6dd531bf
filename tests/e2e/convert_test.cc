#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "e2e/run_cepe.h"
#include "io/hf_directory.h"
#include "io/safetensors.h"

namespace cepe {
namespace {

using nlohmann::json;

std::vector<float> values(const TensorView& tensor) {
  std::vector<float> out(static_cast<size_t>(tensor.elements()));
  decode_to_f32(tensor, out.data());
  return out;
}

const TensorView& tensor(const SafetensorsFile& file, const std::string& name) {
  const TensorView* found = file.find(name);
  EXPECT_NE(found, nullptr) << name;
  static const TensorView absent;
  return found ? *found : absent;
}

std::string context_file(const TemporaryDirectory& directory) {
  std::string text;
  for (int i = 0; i < 50; ++i) text += "The road to the town was long. ";
  return directory.write("context.txt", text);
}

json answer(const std::string& model, const std::string& context) {
  const CommandResult result =
      run_cepe({"generate", "--model", model, "--context", context, "--prompt", "Who goes there?", "--json"},
               {.models = golden("")});
  EXPECT_EQ(result.status, 0) << result.err;
  return result.status == 0 ? json::parse(result.out) : json{{"tokens", nullptr}};
}

class Convert : public testing::Test {
 protected:
  std::string convert(const std::string& weights) {
    const std::string out = (directory_.path() / weights).string();
    const CommandResult result = run_cepe(
        {"convert", "--model", golden("trained"), "--base", golden("plain"), "--out", out, "--weights", weights});
    EXPECT_EQ(result.status, 0) << result.err;
    return out;
  }
  TemporaryDirectory directory_;
  SafetensorsFile original_{golden("trained") + "/model.safetensors"};
};

TEST_F(Convert, Float32KeepsEveryBitAndTheRecords) {
  const std::string out = convert("f32");
  const SafetensorsFile written(out + "/model.safetensors");
  EXPECT_EQ(written.tensors().size(), original_.tensors().size());
  for (const TensorView& expected : original_.tensors())
    EXPECT_EQ(values(tensor(written, expected.name)), values(expected)) << expected.name;
  const json config = read_json(out + "/config.json"), before = read_json(golden("trained") + "/config.json");
  for (const char* key :
       {"base_model_name_or_path", "base_model_sha256", "training", "encoder_embeddings", "chunk_length"}) {
    EXPECT_EQ(config[key], before[key]) << key;
  }
  const std::string context = context_file(directory_);
  EXPECT_EQ(answer(out, context)["tokens"], answer(golden("trained"), context)["tokens"]);
}

TEST_F(Convert, Bfloat16RoundsToEightBits) {
  const SafetensorsFile written(convert("bf16") + "/model.safetensors");
  for (const TensorView& expected : original_.tensors()) {
    const std::vector<float> before = values(expected), after = values(tensor(written, expected.name));
    ASSERT_EQ(before.size(), after.size());
    for (size_t i = 0; i < before.size(); ++i)
      ASSERT_LE(std::abs(after[i] - before[i]), std::abs(before[i]) / 256) << expected.name;
  }
}

TEST_F(Convert, Int8HasOneScaleARow) {
  const std::string out = convert("int8");
  const SafetensorsFile written(out + "/model.safetensors");
  for (const TensorView& expected : original_.tensors()) {
    const TensorView& found = tensor(written, expected.name);
    if (expected.shape.size() < 2) {
      EXPECT_EQ(values(found), values(expected)) << expected.name;
      continue;
    }
    EXPECT_EQ(found.dtype, DType::i8) << expected.name;
    const std::vector<float> before = values(expected), scales = values(tensor(written, expected.name + "_scale"));
    const size_t width = static_cast<size_t>(expected.shape[1]);
    ASSERT_EQ(scales.size(), static_cast<size_t>(expected.shape[0]));
    for (size_t i = 0; i < before.size(); ++i) {
      const float scale = scales[i / width];
      const float value = static_cast<float>(static_cast<int8_t>(found.bytes[i])) * scale;
      ASSERT_LE(std::abs(value - before[i]), scale * 0.5001f) << expected.name << " element " << i;
    }
  }
  answer(out, context_file(directory_));  // the converted model opens and writes
  // A second conversion loses nothing more.
  const std::string again = (directory_.path() / "again").string();
  ASSERT_EQ(
      run_cepe({"convert", "--model", out, "--base", golden("plain"), "--out", again, "--weights", "int8"}).status, 0);
  const SafetensorsFile twice(again + "/model.safetensors");
  for (const TensorView& once : written.tensors()) {
    if (once.dtype != DType::i8) continue;
    EXPECT_TRUE(std::ranges::equal(once.bytes, tensor(twice, once.name).bytes)) << once.name;
  }
}

TEST(Export, TrainedPartsBecomeThePublishedModel) {
  const TemporaryDirectory directory;
  const std::string out = (directory.path() / "published").string();
  const CommandResult result = run_cepe(
      {"export", "--model", golden("trained"), "--base", golden("plain"), "--out", out, "--format", "published"});
  ASSERT_EQ(result.status, 0) << result.err;
  const SafetensorsFile written(out + "/model.safetensors"), expected(golden("published") + "/model.safetensors");
  EXPECT_EQ(written.tensors().size(), expected.tensors().size());
  for (const TensorView& view : expected.tensors()) {
    EXPECT_EQ(tensor(written, view.name).shape, view.shape) << view.name;
    EXPECT_EQ(values(tensor(written, view.name)), values(view)) << view.name;
  }
  const std::string context = context_file(directory);  // the tokenizer came along
  EXPECT_EQ(answer(out, context)["tokens"], answer(golden("published"), context)["tokens"]);
}

TEST(Export, APlainDecoderStaysTheSameDecoder) {
  const TemporaryDirectory directory;
  const std::string out = (directory.path() / "plain").string();
  ASSERT_EQ(run_cepe({"export", "--model", golden("plain"), "--out", out}).status, 0);
  const auto text = [](const std::string& model) {
    return run_cepe({"generate", "--model", model, "--prompt", "The road", "--max-tokens", "20"}).out;
  };
  const std::string expected = text(golden("plain"));
  EXPECT_GT(expected.size(), 10u);
  EXPECT_EQ(text(out), expected);
}

TEST(ConvertCommand, PublishedModelsBecomeBfloat16) {
  const TemporaryDirectory directory;
  const std::string out = (directory.path() / "half").string();
  const CommandResult result = run_cepe({"convert", "--model", golden("published"), "--out", out, "--weights", "bf16"});
  ASSERT_EQ(result.status, 0) << result.err;
  const SafetensorsFile written(out + "/model.safetensors");
  EXPECT_EQ(tensor(written, "model.layers.1.cross_attn.q_proj.weight").dtype, DType::bf16);
  answer(out, context_file(directory));
}

}  // namespace
}  // namespace cepe
