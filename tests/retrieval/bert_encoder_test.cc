// Embeddings beside those of transformers' BertModel (tests/golden/bert/record.py).
#include "retrieval/bert_encoder.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/error_of.h"
#include "base/file.h"
#include "base/temporary_directory.h"
#include "text/wordpiece.h"

namespace cepe {
namespace {

using nlohmann::json;
using testing::HasSubstr;

const std::string kTiny = CEPE_TEST_DATA "/bert/tiny";

void expect_embeddings(const BertEncoder& encoder, const json& cases) {
  const auto texts = cases["embedded"].get<std::vector<std::string>>();
  ASSERT_GE(texts.size(), 6u);
  const at::Tensor together = encoder.embed(texts);
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto row = cases["embeddings"][i].get<std::vector<float>>();
    const at::Tensor expected = at::tensor(row), found = together[static_cast<int64_t>(i)];
    EXPECT_LT((found - expected).abs().max().item<float>(), 1e-5) << texts[i];
    EXPECT_LT((encoder.embed({texts[i]})[0] - expected).abs().max().item<float>(), 1e-5) << texts[i];
  }
}

TEST(BertEncoder, EmbedsAsTheReferenceDoes) {
  const BertEncoder encoder(kTiny, at::kCPU);
  EXPECT_EQ(encoder.width(), 32);
  EXPECT_EQ(encoder.max_tokens(), 64);
  expect_embeddings(encoder, json::parse(read_file(CEPE_TEST_DATA "/bert/cases.json")));
  EXPECT_EQ(encoder.embed({}).size(0), 0);
}

// The real model, where scripts/eval-data.sh has fetched it.
TEST(BertEncoder, EmbedsWithMiniLmAsTheReferenceDoes) {
  const char* home = std::getenv("HOME");
  const std::filesystem::path directory =
      std::filesystem::path(home == nullptr ? "" : home) / ".cache/cepe/eval/encoders/all-MiniLM-L6-v2";
  if (!std::filesystem::exists(directory / "model.safetensors")) GTEST_SKIP() << directory << " is not there";
  const json cases = json::parse(read_file(CEPE_TEST_DATA "/bert/minilm.json"));
  const WordPiece wordpiece(directory / "vocab.txt", {});
  for (size_t i = 0; i < cases["texts"].size(); ++i) {
    EXPECT_EQ(wordpiece.encode(cases["texts"][i].get<std::string>()), cases["ids"][i].get<std::vector<TokenId>>())
        << cases["texts"][i];
  }
  const BertEncoder encoder(directory, at::kCPU);
  EXPECT_EQ(encoder.max_tokens(), 256);
  expect_embeddings(encoder, cases);
}

TEST(BertEncoder, BadDirectoriesAreOneSentence) {
  const TemporaryDirectory directory;
  const auto refused = [&](const std::string& file, const std::string& from, const std::string& to) {
    const std::filesystem::path copy = directory / "copy";
    std::filesystem::remove_all(copy);
    std::filesystem::copy(kTiny, copy, std::filesystem::copy_options::recursive);
    std::string content = read_file(copy / file);
    const size_t at = content.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    write_file(copy / file, content.replace(at, from.size(), to));
    return error_of([&] { BertEncoder(copy, at::kCPU); });
  };
  EXPECT_THAT(refused("config.json", "\"model_type\": \"bert\"", "\"model_type\": \"gpt2\""),
              HasSubstr("expected model_type \"bert\", found \"gpt2\""));
  EXPECT_THAT(refused("config.json", "\"gelu\"", "\"silu\""), HasSubstr("expected hidden_act gelu or relu"));
  EXPECT_THAT(refused("config.json", "\"hidden_size\": 32", "\"hidden_size\": -2"), HasSubstr("\"hidden_size\""));
  EXPECT_THAT(refused("config.json", "\"intermediate_size\": 48", "\"intermediate_size\": 40"),
              HasSubstr("encoder.layer.0.intermediate.dense.weight has shape (48, 32), expected (40, 32)"));
  EXPECT_THAT(refused("config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"),
              HasSubstr("encoder.layer.2.attention.self.query.weight is missing"));
  EXPECT_THAT(refused("1_Pooling/config.json", "true", "false"), HasSubstr("pooling_mode_mean_tokens"));
  EXPECT_THAT(refused("1_Pooling/config.json", "true", "\"yes\""),
              HasSubstr("to be a JSON boolean, found a JSON string"));
  EXPECT_THAT(refused("1_Pooling/config.json", "true", "true, \"pooling_mode_max_tokens\": true"),
              HasSubstr("expected \"pooling_mode_max_tokens\" to be false, found true"));
  EXPECT_THAT(error_of([&] { BertEncoder(directory / "absent", at::kCPU); }),
              HasSubstr("not a directory with a model"));
}

TEST(BertEncoder, ModulesThatAreNotComputedAreRefused) {
  const TemporaryDirectory directory;
  const std::filesystem::path copy = directory / "copy";
  std::filesystem::copy(kTiny, copy, std::filesystem::copy_options::recursive);
  const auto with_modules = [&](const std::vector<std::pair<std::string, std::string>>& modules) {
    json written = json::array();
    for (const auto& [type, path] : modules) {
      written.push_back({{"type", "sentence_transformers.models." + type}, {"path", path}});
    }
    write_file(copy / "modules.json", written.dump());
    return error_of([&] { BertEncoder(copy, at::kCPU); });
  };
  const std::string expected = "expected the modules Transformer, Pooling and Normalize, found ";
  EXPECT_THAT(with_modules({{"Transformer", ""}, {"Pooling", "1_Pooling"}, {"Dense", "2_Dense"}, {"Normalize", ""}}),
              HasSubstr(expected + "Transformer, Pooling, Dense, Normalize"));
  EXPECT_THAT(with_modules({{"Transformer", ""}, {"Pooling", "1_Pooling"}}),
              HasSubstr(expected + "Transformer, Pooling"));
  EXPECT_THAT(with_modules({{"Transformer", ""}, {"Pooling", "other"}, {"Normalize", ""}}),
              HasSubstr("expected the module Pooling in \"1_Pooling\", found it in \"other\""));
  with_modules({});
  write_file(copy / "modules.json", R"([{"type": "sentence_transformers.models.Transformer", "path": ""},)"
                                    R"( {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},)"
                                    R"( {"type": "sentence_transformers.models.Normalize", "path": "2_Normalize"}])");
  EXPECT_EQ(BertEncoder(copy, at::kCPU).width(), 32);
}

}  // namespace
}  // namespace cepe
