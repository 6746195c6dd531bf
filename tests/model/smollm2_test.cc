// SmolLM2-135M-Instruct itself, against what Hugging Face's implementation computed (tests/golden/smollm2/record.py).
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>

#include "io/safetensors.h"
#include "model/fixtures.h"

namespace cepe {
namespace {

at::Tensor read(const SafetensorsFile& file, const std::string& name) {
  const TensorView* view = file.find(name);
  at::Tensor out = at::empty(view->shape, view->dtype == DType::i64 ? at::kLong : at::kFloat);
  std::memcpy(out.data_ptr(), view->bytes.data(), view->bytes.size());
  return out;
}

TEST(SmolLM2, LogitsAndTokensEqualTheReference) {
  const at::NoGradGuard no_grad;
  const OpenedModel opened = open_model(CEPE_SMOLLM2_GGUF);
  const SafetensorsFile recorded(std::filesystem::path(CEPE_TEST_DATA) / "smollm2/expected.safetensors");
  for (const std::string text : {"0", "1", "2"}) {
    const at::Tensor ids = read(recorded, text + ".ids");
    const std::vector<TokenId> tokens = opened.tokenizer->encode(recorded.metadata().at(text + ".text"));
    ASSERT_EQ(std::vector<int64_t>(tokens.begin(), tokens.end()),
              std::vector<int64_t>(ids.data_ptr<int64_t>(), ids.data_ptr<int64_t>() + ids.numel()));
    const at::Tensor found = logits(opened.model, decode(opened.model, {ids.unsqueeze(0)}))[0];
    EXPECT_TRUE(at::equal(found.argmax(-1), read(recorded, text + ".best"))) << "text " << text;
    EXPECT_LT(norm_error(found.slice(1, 0, found.size(1), 24), read(recorded, text + ".logits")), 1e-4)
        << "text " << text;
    EXPECT_LT(norm_error(found.logsumexp(-1), read(recorded, text + ".logsumexp")), 1e-4) << "text " << text;
  }
}

TEST(SmolLM2, IsWhatItsFileSays) {
  const OpenedModel opened = open_model(CEPE_SMOLLM2_GGUF);
  const StackConfig& config = opened.model.config.decoder;
  EXPECT_EQ(config.num_layers, 30);
  EXPECT_EQ(config.hidden_size, 576);
  EXPECT_EQ(config.num_kv_heads, 3);
  EXPECT_TRUE(config.tie_embeddings);
  EXPECT_EQ(config.max_positions, 8192);
  EXPECT_FALSE(opened.chat_template.empty());
  EXPECT_TRUE(opened.notes.empty());
}

// Held as the file has them: each of the file's values again, and the same logits but for the order of sums. The file's
// head is Q8_0, so that it stays wide here.
TEST(SmolLM2, InFourBitsIsTheSameModel) {
  const at::NoGradGuard no_grad;
  OpenOptions as_file;
  as_file.as_file = {WeightType::int4};
  OpenedModel wide = open_model(CEPE_SMOLLM2_GGUF), packed = open_model(CEPE_SMOLLM2_GGUF, as_file);
  as_file.dtype = at::kBFloat16;
  OpenedModel half = open_model(CEPE_SMOLLM2_GGUF, as_file);
  const auto of_wide = packable_matrices(wide.model, WeightType::int4);
  const auto of_packed = packable_matrices(packed.model, WeightType::int4);
  const auto of_half = packable_matrices(half.model, WeightType::int4);
  for (size_t i = 0; i < of_wide.size(); ++i) {
    ASSERT_EQ(*of_packed[i].packed == nullptr, of_wide[i].head);
    if (of_wide[i].head) continue;
    for (const auto& packed_one : {*of_packed[i].packed, *of_half[i].packed}) {
      ASSERT_EQ(packed_one->type, WeightType::int4);
      EXPECT_TRUE(at::equal(dequantise_weight(*packed_one, at::kFloat), *of_wide[i].wide)) << i;
    }
  }
  EXPECT_EQ(packed_matrices(packed.model), (std::map<WeightType, int64_t>{{WeightType::int4, 210}}));
  EXPECT_LT(weight_bytes(packed.model), weight_bytes(wide.model) / 2) << "the embedding stays";
  // By the kernels of few and of many rows, which round these to 16 bits in groups.
  for (const int64_t tokens : {3, 90}) {
    const at::Tensor ids = at::arange(2000, 2000 + tokens).unsqueeze(0);
    const auto outputs = [&](const Cepe& model) { return logits(model, decode(model, {ids})); };
    EXPECT_LT(norm_error(outputs(packed.model), outputs(wide.model)), 3e-4) << tokens;
  }
}

}  // namespace
}  // namespace cepe
