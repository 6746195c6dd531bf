// SmolLM2-135M-Instruct as published in Q4_1: a real file, registered only where CEPE_SMOLLM2_GGUF names it.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "io/gguf.h"

namespace cepe {
namespace {

TEST(SmolLm2, HasThePublishedShape) {
  GgufFile file(CEPE_SMOLLM2_GGUF);
  EXPECT_EQ(file.string("general.architecture"), "llama");
  EXPECT_EQ(file.integer("llama.block_count"), 30);
  EXPECT_EQ(file.integer("llama.embedding_length"), 576);
  EXPECT_EQ(file.integer("llama.attention.head_count"), 9);
  EXPECT_EQ(file.integer("llama.attention.head_count_kv"), 3);
  EXPECT_EQ(file.integer("llama.feed_forward_length"), 1536);
  EXPECT_EQ(file.integer("llama.context_length"), 8192);
  EXPECT_EQ(file.number("llama.rope.freq_base"), 100000);
  EXPECT_NEAR(file.number("llama.attention.layer_norm_rms_epsilon"), 1e-5, 1e-9);
  EXPECT_EQ(file.strings("tokenizer.ggml.tokens").size(), 49152u);
  EXPECT_EQ(file.string("tokenizer.ggml.pre"), "smollm");

  std::map<DType, int> count;
  int64_t parameters = 0;
  for (const auto& tensor : file.tensors()) {
    ++count[tensor.dtype];
    parameters += tensor.elements();
  }
  EXPECT_EQ(count, (std::map<DType, int>{{DType::f32, 61}, {DType::q4_1, 210}, {DType::q8_0, 1}}));
  EXPECT_EQ(parameters, 134515008);
  EXPECT_EQ(file.find("token_embd.weight")->shape, (std::vector<int64_t>{49152, 576}));
  EXPECT_EQ(file.find("blk.0.attn_k.weight")->shape, (std::vector<int64_t>{192, 576}));
}

TEST(SmolLm2, DecodesToWeightsOfAReasonableSize) {
  GgufFile file(CEPE_SMOLLM2_GGUF);
  for (const auto& tensor : file.tensors()) {
    std::vector<float> values(static_cast<size_t>(tensor.elements()));
    decode_to_f32(tensor, values.data());
    double squares = 0;
    for (float value : values) squares += static_cast<double>(value) * value;
    double root_mean_square = std::sqrt(squares / static_cast<double>(values.size()));
    EXPECT_TRUE(root_mean_square > 1e-3 && root_mean_square < 30) << tensor.name << " " << root_mean_square;
  }
}

}  // namespace
}  // namespace cepe
