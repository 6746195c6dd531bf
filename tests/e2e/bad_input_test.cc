// What a user can get wrong: one clear sentence and an exit status, never a crash or an answer.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "e2e/run_cepe.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Words = std::vector<std::string>;

Words generate(const std::string& model, const Words& more = {"--prompt", "The rain"}) {
  Words words = {"generate", "--model", model};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

TEST(BadInput, Prompts) {
  const TemporaryDirectory directory;
  const std::string plain = golden("plain");
  expect_refused(generate(plain, {}), "a prompt is needed");
  expect_refused(generate(plain, {"--prompt", "a", "--prompt-file", directory.write("p.txt", "b")}),
                 "a prompt is needed");
  expect_refused(generate(plain, {"--prompt", ""}), "empty");
  expect_refused(generate(plain, {"--prompt-file", directory.write("empty.txt", "")}), "empty");
  expect_refused(generate(plain, {"--prompt-file", "/absent/prompt.txt"}), "/absent/prompt.txt");
  expect_refused(generate(plain, {"--prompt", "a\xff"}), "UTF-8");
  expect_refused(generate(plain, {"--prompt", "a", "--raw", "--system", "b"}), "--raw");
  std::string longer;
  for (int i = 0; i < 300; ++i) longer += "rain ";
  expect_refused(generate(plain, {"--prompt", longer}), "window of 128");
}

TEST(BadInput, Contexts) {
  const TemporaryDirectory directory;
  const std::string published = golden("published"), text = directory.write("text.txt", "The harbour.");
  expect_refused(generate(golden("plain"), {"--prompt", "a", "--context", text}), "no encoder");
  expect_refused(generate(published, {"--prompt", "a", "--context", directory.write("empty.txt", "")}), "empty.txt");
  expect_refused(generate(published, {"--prompt", "a", "--context", "/absent/book.txt"}), "/absent/book.txt");
  expect_refused(generate(published, {"--prompt", "a", "--context", directory.path().string()}),
                 directory.path().string());
  expect_refused(generate(published, {"--prompt", "a", "--context", directory.write("binary.txt", "a\xfe\xff")}),
                 "binary.txt");
}

TEST(BadInput, SamplingOptions) {
  const std::string plain = golden("plain");
  const auto with = [&](const std::string& option, const std::string& value) {
    return generate(plain, {"--prompt", "a", option, value});
  };
  expect_refused(with("--temperature", "-1"), "temperature");
  expect_refused(with("--top-p", "0"), "top-p");
  expect_refused(with("--top-p", "1.5"), "top-p");
  expect_refused(with("--top-k", "-3"), "top-k");
  expect_refused(with("--min-p", "2"), "min-p");
  expect_refused(with("--repetition-penalty", "0"), "repetition penalty");
  expect_refused(with("--max-tokens", "0"), "max-tokens");
  expect_refused(with("--stop", ""), "stop string");
}

TEST(BadInput, ModelsThatAreNone) {
  const TemporaryDirectory directory;
  expect_refused(generate("/absent/model"), "/absent/model");
  expect_refused(generate(directory.path().string()), "config.json");
  expect_refused(generate(directory.write("model.bin", "weights")), "model.bin");
  expect_refused(generate(directory.write("empty.gguf", "")), "empty.gguf");
  expect_refused(generate(directory.write("short.gguf", "GGUF\x03")), "short.gguf");
  expect_refused(generate(directory.write("other.gguf", std::string(4096, 'x'))), "other.gguf");
  expect_refused({"info", "/absent/model"}, "/absent/model");
}

class DamagedModel : public testing::Test {
 protected:
  void set(const char* key, const json& value) {
    json config = json::parse(read_file(model_ / "config.json"));
    config[key] = value;
    write_file(model_ / "config.json", config.dump());
  }
  TemporaryDirectory directory_;
  fs::path model_ = directory_.copy_of(golden("published"));
};

TEST_F(DamagedModel, TruncatedWeights) {
  const fs::path weights = model_ / "model.safetensors";
  for (const uintmax_t size : {fs::file_size(weights) - 4, uintmax_t{100}, uintmax_t{3}, uintmax_t{0}}) {
    fs::resize_file(weights, size);
    expect_refused(generate(model_.string()), "model.safetensors");
  }
  fs::remove(weights);
  expect_refused(generate(model_.string()), model_.string());
}

TEST_F(DamagedModel, AHostileHeader) {
  const std::string content = read_file(model_ / "model.safetensors");
  write_file(model_ / "model.safetensors", std::string(8, '\xff') + content.substr(8));
  expect_refused(generate(model_.string()), "model.safetensors");
  write_file(model_ / "model.safetensors", content.substr(0, 8) + std::string(content.size() - 8, '{'));
  expect_refused(generate(model_.string()), "model.safetensors");
}

TEST_F(DamagedModel, MisShapedAndMissingTensors) {
  set("intermediate_size", 64);
  expect_refused(generate(model_.string()), "gate_proj");
  set("intermediate_size", 48);
  set("num_hidden_layers", 3);
  expect_refused(generate(model_.string()), "model.layers.2");
}

TEST_F(DamagedModel, AnUnknownArchitecture) {
  set("model_type", "mamba");
  expect_refused(generate(model_.string()), "mamba");
}

TEST_F(DamagedModel, ConfigurationsThatMakeNoSense) {
  set("num_key_value_heads", 3);
  expect_refused(generate(model_.string()), "config.json");
  set("num_key_value_heads", 2);
  set("hidden_size", "wide");
  expect_refused(generate(model_.string()), "hidden_size");
  write_file(model_ / "config.json", "{\"model_type\": ");
  expect_refused(generate(model_.string()), "config.json");
}

TEST_F(DamagedModel, ATokenizerOfAnotherModel) {
  json tokenizer = json::parse(read_file(model_ / "tokenizer.json"));
  json token = tokenizer["added_tokens"][0];
  token["id"] = 300;
  token["content"] = "<|one too many|>";
  tokenizer["added_tokens"].push_back(token);
  write_file(model_ / "tokenizer.json", tokenizer.dump());
  expect_refused(generate(model_.string()), "embedding");
  write_file(model_ / "tokenizer.json", "[]");
  expect_refused(generate(model_.string()), "tokenizer.json");
  fs::remove(model_ / "tokenizer.json");
  expect_refused(generate(model_.string()), "tokenizer");
}

TEST(BadInput, TrainedPartsWithoutTheirBase) {
  const TemporaryDirectory directory;
  const std::string trained = golden("trained");
  expect_refused({"info", trained}, "--base", {.models = directory.path().string()});
  expect_refused({"info", trained, "--base", "/absent/base"}, "/absent/base");
  expect_refused({"info", trained, "--base", golden("published")}, "SHA-256");
}

TEST(BadInput, OutputsOfConvertAndExport) {
  const TemporaryDirectory directory;
  const std::string file = directory.write("file", "kept"), out = (directory.path() / "out").string(),
                    published = golden("published");
  expect_refused({"convert", "--model", published, "--out", published, "--weights", "bf16"}, "--out");
  expect_refused({"convert", "--model", published, "--out", file, "--weights", "bf16"}, "--out");
  expect_refused({"convert", "--model", published, "--out", file + "/below", "--weights", "bf16"}, file);
  expect_refused({"convert", "--model", published, "--out", out, "--weights", "int8"}, "int8");
  expect_refused({"convert", "--model", published, "--out", out, "--weights", "int3"}, "int3");
  expect_refused({"convert", "--model", golden("plain"), "--out", out, "--weights", "bf16"}, "plain decoder");
  expect_refused({"export", "--model", published, "--out", out, "--format", "onnx"}, "onnx");
  expect_refused({"export", "--model", published, "--out", out, "--weights", "int8"}, "int8");
  EXPECT_EQ(read_file(file), "kept");
  EXPECT_FALSE(fs::exists(out));
}

TEST(BadInput, AFullDiskUnderStandardOutput) {
  ASSERT_TRUE(fs::exists("/dev/full"));
  expect_refused(generate(golden("plain")), "standard output", {.stdout_path = "/dev/full"});
  expect_refused({"info", golden("plain")}, "standard output", {.stdout_path = "/dev/full"});
}

TEST(BadInput, CommandLines) {
  for (const Words& words :
       {Words{}, Words{"compose"}, Words{"generate"}, Words{"info"}, Words{"generate", "--model"},
        Words{"info", golden("plain"), "--device", "tpu"}, Words{"info", golden("plain"), "--dtype", "float7"},
        generate(golden("plain"), {"--prompt", "a", "--top-k", "many"})}) {
    const CommandResult result = run_cepe(words);
    EXPECT_GT(result.status, 0);
    EXPECT_LT(result.status, 128);
    EXPECT_FALSE(result.err.empty());
  }
}

}  // namespace
}  // namespace cepe
