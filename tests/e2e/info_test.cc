#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "e2e/run_cepe.h"
#include "io/safetensors.h"

namespace cepe {
namespace {

using nlohmann::json;

int64_t elements_in(const std::string& model) {
  int64_t total = 0;
  const SafetensorsFile file(model + "/model.safetensors");
  for (const TensorView& tensor : file.tensors()) total += tensor.elements();
  return total;
}

TEST(InfoCommand, DescribesAModelOfTrainedParts) {
  const CommandResult result =
      run_cepe({"info", golden("trained"), "--base", golden("plain"), "--device", "cpu", "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  const json info = json::parse(result.out);
  EXPECT_EQ(info["family"], "llama");
  EXPECT_EQ(info["decoder"]["layers"], 2);
  EXPECT_EQ(info["decoder"]["width"], 32);
  EXPECT_EQ(info["decoder"]["heads"], 4);
  EXPECT_EQ(info["decoder"]["kv_heads"], 2);
  EXPECT_EQ(info["decoder"]["head_size"], 8);
  EXPECT_EQ(info["decoder"]["feed_forward"], 48);
  EXPECT_EQ(info["decoder"]["vocabulary"], 300);
  EXPECT_EQ(info["decoder"]["window"], 128);
  EXPECT_EQ(info["encoder"]["width"], 16);
  EXPECT_EQ(info["encoder"]["embeddings"], "own");
  EXPECT_EQ(info["cross_attention_layers"], 1);
  EXPECT_EQ(info["chunk_length"], 32);
  EXPECT_EQ(info["bytes_per_context_token"], 16 * 4);
  EXPECT_EQ(info["bytes_per_window_token"], 2 * 2 * 2 * 8 * 4);
  EXPECT_EQ(info["parameters"]["trainable"], elements_in(golden("trained")));
  EXPECT_EQ(info["parameters"]["total"], elements_in(golden("published")));
  EXPECT_EQ(info["base"], golden("plain"));
  EXPECT_EQ(info["base_sha256"].get<std::string>().size(), 64u);
  EXPECT_EQ(info["device"], "cpu");
  EXPECT_EQ(info["dtype"], "float32");
  EXPECT_EQ(info["chat_template"], true);
  EXPECT_FALSE(info["attention_backend"].get<std::string>().empty());
}

TEST(InfoCommand, DescribesAPlainDecoderInWords) {
  const CommandResult result = run_cepe({"info", golden("plain"), "--device", "cpu", "--dtype", "bfloat16"});
  ASSERT_EQ(result.status, 0) << result.err;
  for (const char* phrase :
       {"llama", "4 heads and 2 key-value heads of 8", "a plain decoder", "128 tokens", "bfloat16", "0 trainable"}) {
    EXPECT_NE(result.out.find(phrase), std::string::npos) << phrase << " in\n" << result.out;
  }
}

}  // namespace
}  // namespace cepe
