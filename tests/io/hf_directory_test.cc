#include "io/hf_directory.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "base/file.h"
#include "base/temporary_directory.h"
#include "io/pickle_bytes.h"
#include "io/safetensors.h"

namespace cepe {
namespace {

class HfDirectoryTest : public ::testing::Test {
 protected:
  void put(const std::string& name, const std::string& content) { std::ofstream(directory_ / name) << content; }
  void put_weights(const std::string& name) {
    write_safetensors(directory_ / name, {{"w", DType::u8, {4}, std::as_bytes(std::span(content_))}}, {});
  }
  std::string message() {
    return error_of<Error>([&] { open_hf_directory(directory_.path()); });
  }
  std::string at(const std::string& name) { return directory_ / name; }
  TemporaryDirectory directory_;
  std::string content_ = "1234";
};

TEST_F(HfDirectoryTest, OpensASingleFile) {
  put("config.json", R"({"model_type": "llama"})");
  put("generation_config.json", R"({"eos_token_id": [2, 3]})");
  put("tokenizer.json", "{}");
  put_weights("model.safetensors");
  HfDirectory model = open_hf_directory(directory_.path());
  EXPECT_EQ(model.config["model_type"], "llama");
  EXPECT_EQ(model.generation_config["eos_token_id"].size(), 2u);
  EXPECT_TRUE(model.tokenizer_config.is_object() && model.tokenizer_config.empty());
  EXPECT_EQ(model.tokenizer_json, directory_ / "tokenizer.json");
  EXPECT_FALSE(model.tokenizer_model.has_value());
  EXPECT_NE(model.weights->find("w"), nullptr);
}

TEST_F(HfDirectoryTest, OpensShards) {
  put("config.json", "{}");
  put("tokenizer.model", "x");
  put_weights("part-1.safetensors");
  put("model.safetensors.index.json", R"({"weight_map": {"w": "part-1.safetensors"}})");
  HfDirectory model = open_hf_directory(directory_.path());
  EXPECT_NE(model.weights->find("w"), nullptr);
  EXPECT_EQ(model.tokenizer_model, directory_ / "tokenizer.model");
  EXPECT_FALSE(model.tokenizer_json.has_value());
}

TEST_F(HfDirectoryTest, OpensWithoutWeightsWhenAsked) {
  put("config.json", "{}");
  EXPECT_EQ(open_hf_directory(directory_.path(), false).weights, nullptr);
}

TEST_F(HfDirectoryTest, NamesWhatIsMissingOrWrong) {
  std::string path = directory_.path();
  EXPECT_EQ(error_of<Error>([&] { open_hf_directory(at("none")); }), at("none") + ": not a directory with a model");
  EXPECT_EQ(message(), path + ": not a model directory: it has no config.json");
  put("config.json", "[]");
  EXPECT_EQ(message(), at("config.json") + ": holds array, expected a JSON object");
  put("config.json", "{\"a\": 1,}");
  EXPECT_EQ(message(), at("config.json") + ": not valid JSON in UTF-8: it breaks off or goes wrong at byte 9");
  put("config.json", "{\"a\": \"\xff\"}");
  EXPECT_EQ(message(), at("config.json") + ": not valid JSON in UTF-8: it breaks off or goes wrong at byte 8");
  put("config.json", std::string(200000, '['));
  EXPECT_EQ(message(), at("config.json") + ": not valid JSON in UTF-8: it breaks off or goes wrong at byte 200001");
  put("config.json", "{\"a\": 1e999}");
  EXPECT_EQ(message(), at("config.json") + ": holds a number beyond the range of a double");
  put("config.json", "{}");
  EXPECT_EQ(message(), path + ": holds neither model.safetensors nor pytorch_model.bin, whole or with an index.json");
  put("pytorch_model.bin", "");
  EXPECT_EQ(message(),
            at("pytorch_model.bin") +
                ": not a checkpoint of torch.save: expected a zip archive, or model.safetensors in the file's place");
  put("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
  EXPECT_EQ(message(), at("model.safetensors") +
                           ": a pointer of Git LFS, not the weights themselves: fetch them with git lfs pull");
}

TEST_F(HfDirectoryTest, NamesWhatTheDirectoryIsInstead) {
  std::string path = directory_.path();
  put("x.gguf", "");
  EXPECT_EQ(message(),
            path + ": not a model directory: it has no config.json, but a GGUF file: name " + at("x.gguf") + " itself");
  put("adapter_config.json", "{}");
  EXPECT_EQ(message(), path +
                           ": not a model directory: it has no config.json, but an adapter (adapter_config.json), not "
                           "a model: merge it into its base and save that");
  std::filesystem::create_directories(directory_ / "snapshots/abc");
  EXPECT_EQ(message(),
            path + ": the root of a hub cache entry, not a model directory: name the snapshot " + at("snapshots/abc"));
  put("config.json", "{}");
  EXPECT_EQ(message(), path +
                           ": expected model.safetensors or pytorch_model.bin, found an adapter (adapter_config.json), "
                           "not a model: merge it into its base and save that");
}

TEST_F(HfDirectoryTest, TakesPickledWeightsWhereThereAreNoSafetensors) {
  put("config.json", "{}");
  put("pytorch_model-1.bin", checkpoint_of(pickle_of(pickled(PickleEntry{.name = "w"}))));
  put("pytorch_model.bin.index.json", R"({"weight_map": {"w": "pytorch_model-1.bin"}})");
  put("training_args.bin", "no weights");
  EXPECT_EQ(open_hf_directory(directory_.path()).weights->find("w")->dtype, DType::f32);
  EXPECT_EQ(weight_files(directory_.path()), std::vector<std::filesystem::path>{directory_ / "pytorch_model-1.bin"});
  put("pytorch_model.bin.index.json", R"({"weight_map": {"w": "../pytorch_model-1.bin"}})");
  EXPECT_NE(message().find("expected a file name without a directory"), std::string::npos);
  put("pytorch_model.bin.index.json", R"({"weight_map": {"w": "pytorch_model-2.bin"}})");
  EXPECT_EQ(message(), at("pytorch_model-2.bin") + ": cannot open the file: No such file or directory");

  put_weights("model.safetensors");
  put_weights("other.safetensors");
  EXPECT_EQ(open_hf_directory(directory_.path()).weights->find("w")->dtype, DType::u8);
  EXPECT_EQ(weight_files(directory_.path()),
            (std::vector<std::filesystem::path>{directory_ / "model.safetensors", directory_ / "other.safetensors"}));
}

}  // namespace
}  // namespace cepe
