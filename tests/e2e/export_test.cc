// The exported directory is the one that the published code read when tests/golden/published-export was recorded, and
// cepe computes with it what the published code computed; the tokenizer's files of an exported GGUF file are those that
// Hugging Face's tokenizers read when tests/golden/gguf-export was recorded.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "e2e/run_cepe.h"
#include "io/hf_directory.h"
#include "text/tokenizer/tokenizer.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = fs::path(CEPE_TEST_DATA) / "published-export";

class PublishedExport : public testing::Test {
 protected:
  void SetUp() override {
    const CommandResult result = run_cepe({"export", "--model", (kGolden / "trained").string(), "--base",
                                           (kGolden / "base").string(), "--out", out_.string()});
    ASSERT_EQ(result.status, 0) << result.err;
  }
  TemporaryDirectory directory_;
  fs::path out_ = directory_.path() / "out";
};

TEST_F(PublishedExport, WritesTheFilesThatThePublishedCodeRead) {
  const nlohmann::json recorded = read_json(kGolden / "export.json");
  ASSERT_EQ(recorded.size(), 2u);
  for (const auto& [name, hash] : recorded.items())
    EXPECT_EQ(sha256_file(out_ / name), hash.get<std::string>()) << name;
}

TEST_F(PublishedExport, ComputesWhatThePublishedCodeComputed) {
  fs::copy_file(kGolden / "expected.safetensors", out_ / "expected.safetensors");
  const CommandResult result = run_cepe({"verify", out_.string()});
  EXPECT_EQ(result.status, 0) << result.err << result.out;
  EXPECT_NE(result.out.find("8 quantities, 0 beyond 2e-05 of the norm, 0 unknown: passed"), std::string::npos)
      << result.out;
}

TEST(GgufExport, BringsItsTokenizer) {
  const fs::path golden = fs::path(CEPE_TEST_DATA) / "gguf-export";
  const TemporaryDirectory directory;
  const fs::path out = directory.path() / "out";
  const std::string model = (golden / "tiny.gguf").string();
  ASSERT_EQ(run_cepe({"export", "--model", model, "--out", out.string()}).status, 0);
  const nlohmann::json recorded = read_json(golden / "ids.json");
  for (const auto& [name, hash] : recorded["sha256"].items())
    EXPECT_EQ(sha256_file(out / name), hash.get<std::string>()) << name;

  const auto tokenizer = load_tokenizer_json(out / "tokenizer.json");
  ASSERT_EQ(recorded["cases"].size(), 4u);
  for (const auto& entry : recorded["cases"]) {
    const std::string text = entry["text"];
    EXPECT_EQ(tokenizer->encode(text), entry["ids"].get<std::vector<TokenId>>()) << text;
    EXPECT_EQ(tokenizer->encode(text, {.add_special_tokens = true}), entry["with_ends"].get<std::vector<TokenId>>());
  }
  const auto answer = [](const std::string& from) {  // through the chat template
    return run_cepe({"generate", "--model", from, "--prompt", "Who goes there?", "--max-tokens", "20"}).out;
  };
  const std::string expected = answer(model);
  EXPECT_GT(expected.size(), 10u);
  EXPECT_EQ(answer(out.string()), expected);
}

}  // namespace
}  // namespace cepe
