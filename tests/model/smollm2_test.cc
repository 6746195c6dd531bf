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

}  // namespace
}  // namespace cepe
