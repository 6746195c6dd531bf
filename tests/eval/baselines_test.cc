// Baselines against recorded losses of an independent implementation (tests/golden/lm/record.py), in float64.
#include "eval/lm/baselines.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/temporary_directory.h"
#include "eval/lm/scoring.h"
#include "eval/lm_fixture.h"
#include "io/json_file.h"
#include "model/layer/streaming_layers.h"

namespace cepe {
namespace {

using nlohmann::json;
using testing::HasSubstr;

// The recorded document, scored by readers.
class RecordedText {
 public:
  RecordedText() : golden_(read_json(CEPE_TEST_DATA "/lm/baselines.json")) {
    documents_.push_back({"a", "a", golden_.at("tokens").get<std::vector<TokenId>>(), ""});
  }
  const json& cases() const { return golden_.at("cases"); }
  int64_t window() const { return golden_.at("window"); }

  BaselineOptions options(const json& one) const {
    BaselineOptions options;
    options.decoder_tokens = golden_.at("decoder_tokens");
    options.sinks = one.value("sinks", int64_t{4});
    options.recent = one.value("recent", int64_t{0});
    options.replug_chunk = one.value("chunk", int64_t{8});
    options.replug_passages = one.value("passages", int64_t{0});
    options.replug_temperature = one.value("temperature", 1.0);
    options.replug_uniform = one.value("uniform", false);
    return options;
  }

  double loss(const Cepe& model, const LmReader& reader, int64_t context_tokens) const {
    const auto end = static_cast<int64_t>(documents_[0].tokens.size());
    const int64_t decoder_tokens = golden_.at("decoder_tokens");
    const std::vector<Window> windows{{0, end - 1 - decoder_tokens, std::nullopt, std::nullopt}};
    const WindowBatch batch{documents_, windows, model.device(), decoder_tokens, golden_.at("scored_tokens")};
    const std::vector<WantedRow> rows{{Control::own, context_tokens, 0}};
    double loss = 0;
    reader.score(batch, rows, [&](size_t, const RowScores& scores) { loss = scores.nll.at(0); });
    return loss;
  }

 private:
  json golden_;
  std::vector<TokenDocument> documents_;
};

TEST(Baselines, LossesAreTheRecordedOnes) {
  const RecordedText text;
  const NumberTokenizer tokenizer;
  std::map<std::string, int> counts;
  for (const json& one : text.cases()) {
    const Cepe model = open_lm_fixture(one.at("model"), text.window());
    const auto reader = baseline_reader(one.at("baseline"), model, tokenizer, text.options(one));
    ASSERT_TRUE(reader->reads(one.at("context_tokens"))) << reader->why_not(one.at("context_tokens"));
    EXPECT_NEAR(text.loss(model, *reader, one.at("context_tokens")), one.at("loss"), 1e-10) << one;
    ++counts[one.at("baseline")];
  }
  for (const std::string& name : baseline_names()) EXPECT_GE(counts[name], 2) << name;
}

TEST(Baselines, EachSaysWhichContextsItLeavesOut) {
  const RecordedText text;
  const NumberTokenizer tokenizer;
  const Cepe model = open_lm_fixture("replug", text.window());
  BaselineOptions options = text.options(json::object());
  options.attention_tokens = 80;
  const auto why = [&](const char* name, int64_t n) {
    return baseline_reader(name, model, tokenizer, options)->why_not(n);
  };
  for (const std::string& name : baseline_names()) EXPECT_NE(why(name.c_str(), 0), "") << name;
  EXPECT_EQ(why("full", 16), "");
  EXPECT_EQ(why("full", 17), "beside the decoder's 32 they do not fit its window of 48");
  EXPECT_EQ(why("yarn", 16), "beside the decoder's 32 they fit its window, where it is full attention");
  EXPECT_EQ(why("yarn", 48), "");
  EXPECT_EQ(why("pi", 49), "with the decoder's they are more than the 80 that full attention is to read");
  EXPECT_EQ(why("streaming", 100000), "");
  EXPECT_EQ(why("replug", 12), "they are no whole number of chunks of 8");
}

// No chunk shares a word with the text.
TEST(Baselines, RePlugTakesTheNearestOfEqualChunks) {
  const NumberTokenizer tokenizer;
  const Cepe model = open_lm_fixture("replug", 48);
  std::vector<TokenId> tokens;
  for (TokenId token = 3; token < 27; ++token) tokens.push_back(token);
  for (TokenId token = 64; token < 97; ++token) tokens.push_back(token);
  const std::vector<TokenDocument> documents{{"a", "a", tokens, ""}};
  const std::vector<Window> windows{{0, 24, std::nullopt, std::nullopt}};
  const WindowBatch batch{documents, windows, model.device(), 32, 8};
  const auto reader =
      baseline_reader("replug", model, tokenizer, {.decoder_tokens = 32, .replug_chunk = 8, .replug_passages = 1});
  std::vector<double> losses;
  const std::vector<WantedRow> rows{{Control::own, 8, 0}, {Control::own, 24, 1}};
  reader->score(batch, rows, [&](size_t, const RowScores& scores) { losses.push_back(scores.nll.at(0)); });
  ASSERT_EQ(losses.size(), 2u);
  EXPECT_NEAR(losses[0], losses[1], 1e-12);
}

TEST(Baselines, ATokenWithoutARowIsNamed) {
  const Cepe model = open_lm_fixture("replug", 48);
  const std::vector<TokenDocument> documents{{"a", "a", {3, 127, 128}, ""}};
  EXPECT_EQ(error_of<Error>([&] { check_vocabulary(model, documents, "model:other"); }),
            "a: the tokenizer does not match model:other: token 128 is outside its vocabulary of 128");
}

TEST(Baselines, WhatADecoderCannotBeIsRefused) {
  const NumberTokenizer tokenizer;
  BaselineOptions options;
  options.decoder_tokens = 32;
  const auto refused = [&](const Cepe& model, const char* name, const std::string& phrase) {
    try {
      baseline_reader(name, model, tokenizer, options);
      ADD_FAILURE() << name << " is not refused";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(phrase));
    }
  };
  refused(open_lm_fixture("families/llama-dynamic", 0), "yarn", "scaled already");
  refused(open_lm_fixture("families/llama-dynamic", 0), "streaming", "change with the length");
  const Cepe model = open_lm_fixture("replug", 48);
  options.recent = 44;
  refused(model, "streaming", "4 sinks, 44 recent tokens and the token itself exceed the decoder's window of 48");
  options.replug_chunk = 17;
  refused(model, "replug", "a chunk of 17 tokens and the decoder's 32 exceed the decoder's window of 48");
  refused(model, "rope", "there is no baseline");
}

// The model itself is not changed, and a view does not use rotations that the model kept.
TEST(Baselines, AStretchedDecoderIsAView) {
  const at::NoGradGuard no_grad;
  const Cepe model = open_lm_fixture("replug", 48);
  const at::Tensor ids = at::arange(3, 67).unsqueeze(0);
  const at::Tensor before = decode(model, {.ids_BT = ids});
  const Cepe view = stretched_decoder(model, "pi", 96);
  EXPECT_TRUE(view.decoder.stack.embedding.is_same(model.decoder.stack.embedding));
  EXPECT_GT((decode(view, {.ids_BT = ids}) - before).abs().max().item<double>(), 1e-3);
  EXPECT_TRUE(at::equal(decode(model, {.ids_BT = ids}), before));
}

TEST(Streaming, DoesNotDependOnTheBlocks) {
  for (const char* name : {"replug", "cepe-gqa-last2"}) {
    const Cepe model = open_lm_fixture(name, 0);
    at::manual_seed(3);
    StreamingInput input{.ids_BT = at::randint(3, 128, {2, 90}, at::kLong), .sinks = 4, .recent = 13};
    const at::Tensor whole = decode_streaming(model, input);
    ASSERT_EQ(whole.sizes(), (std::vector<int64_t>{2, 90, 64}));
    for (const int64_t block : {1, 3, 20, 89}) {
      input.block_tokens = block;
      EXPECT_LT((decode_streaming(model, input) - whole).abs().max().item<double>(), 1e-11) << block;
    }
    input.last = 7;
    EXPECT_LT((decode_streaming(model, input) - whole.narrow(1, 83, 7)).abs().max().item<double>(), 1e-11);
  }
}

// A cache that holds the whole text forgets nothing.
TEST(Streaming, IsFullAttentionWithinTheCache) {
  const at::NoGradGuard no_grad;
  const Cepe model = open_lm_fixture("cepe-gqa-last2", 0);
  const at::Tensor ids = at::arange(10, 70).unsqueeze(0);
  const at::Tensor streamed = decode_streaming(model, {.ids_BT = ids, .sinks = 4, .recent = 60, .block_tokens = 16});
  EXPECT_LT((streamed - decode(model, {.ids_BT = ids})).abs().max().item<double>(), 1e-11);
}

}  // namespace
}  // namespace cepe
