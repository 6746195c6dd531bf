#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
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
  EXPECT_EQ(info["weights"], "stored, float32 (the file has none in 4 or 8 bits)");
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

TEST(InfoCommand, ShowsWhatTrainedPartsRecordOfTheirTraining) {
  const TemporaryDirectory directory;
  const std::filesystem::path parts = directory.copy_of(golden("trained"));
  json config = json::parse(read_file(parts / "config.json"));
  config["training"] = {{"data", {{{"path", "books.tokens"}, {"sha256", "0a1b"}}, {{"path", "code.tokens"}}, 5}},
                        {"parts", {{"path", "run/warm-up"}, {"sha256", "2c3d"}}},
                        {"of_another_version", {1, 2}}};
  write_file(parts / "config.json", config.dump());
  const std::vector<std::string> words = {"info", parts.string(), "--base", golden("plain"), "--device", "cpu"};
  const CommandResult text = run_cepe(words);
  ASSERT_EQ(text.status, 0) << text.err;
  EXPECT_NE(text.out.find("trained on         books.tokens (sha256 0a1b)\n"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("trained on         code.tokens (sha256 not recorded)\n"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("trained from       run/warm-up (sha256 2c3d)\n"), std::string::npos) << text.out;
  std::vector<std::string> as_json = words;
  as_json.push_back("--json");
  EXPECT_EQ(json::parse(run_cepe(as_json).out)["training"], config["training"]);
}

TEST(InfoCommand, DescribesPickledWeights) {
  const TemporaryDirectory directory;
  const std::filesystem::path model = directory.copy_of(golden("plain"));
  std::filesystem::remove(model / "model.safetensors");
  std::filesystem::copy(CEPE_TEST_DATA "/pickle/plain", model);
  const CommandResult result = run_cepe({"info", model.string(), "--device", "cpu", "--dtype", "bfloat16"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.out.find("16 matrices stored as F16 are held in bfloat16"), std::string::npos) << result.out;

  const std::filesystem::path out = directory.path() / "out";
  ASSERT_EQ(run_cepe({"export", "--model", model.string(), "--out", out.string()}).status, 0);
  EXPECT_EQ(elements_in(out.string()), elements_in(golden("plain")));
  const CommandResult written = run_cepe({"generate", "--model", model.string(), "--prompt", "The rain", "--raw",
                                          "--json", "--max-tokens", "4", "--device", "cpu", "--dtype", "float32"});
  ASSERT_EQ(written.status, 0) << written.err;
  const CommandResult again = run_cepe({"generate", "--model", out.string(), "--prompt", "The rain", "--raw", "--json",
                                        "--max-tokens", "4", "--device", "cpu", "--dtype", "float32"});
  EXPECT_EQ(json::parse(written.out)["tokens"], json::parse(again.out)["tokens"]);
}

}  // namespace
}  // namespace cepe
