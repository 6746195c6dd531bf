#include "generate/generator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <stdexcept>

#include "base/error.h"
#include "context/encode_context.h"
#include "generate/number_tokenizer.h"
#include "generate/prompt.h"
#include "io/safetensors.h"
#include "model/checkpoint/checkpoint.h"
#include "text/utf8.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = CEPE_TEST_DATA;

std::vector<TokenId> row(const at::Tensor& ids_BT, int64_t b) {
  const at::Tensor ids = ids_BT[b].contiguous();
  const int64_t* data = ids.const_data_ptr<int64_t>();
  return {data, data + ids.numel()};
}

at::Tensor recorded_ids(const SafetensorsFile& file, const std::string& name) {
  const TensorView* view = file.find(name);
  if (!view) fail("{} has no {}", file.path().string(), name);
  return at::from_blob(const_cast<std::byte*>(view->bytes.data()), view->shape, at::kLong).clone();
}

struct Reading {
  const char* fixture;
  CrossAttentionForm form;
};
class Fixture : public testing::TestWithParam<Reading> {};

// The published code's greedy tokens, one at a time through the key-value cache.
TEST_P(Fixture, GreedyTokensEqualTheRecordedOnes) {
  const OpenedModel opened = open_model(kGolden / GetParam().fixture);
  const SafetensorsFile expected(kGolden / GetParam().fixture / "expected.safetensors");
  const at::Tensor context = recorded_ids(expected, "encoder_input_ids"),
                   mask = recorded_ids(expected, "encoder_attention_mask").to(at::kBool),
                   prompt = recorded_ids(expected, "greedy.prompt"), tokens = recorded_ids(expected, "greedy.tokens");
  for (int64_t b = 0; b < prompt.size(0); ++b) {
    const Latents latents =
        encode(opened.model, {.ids_BML = context.slice(0, b, b + 1), .mask_BML = mask.slice(0, b, b + 1)});
    const NumberTokenizer tokenizer(opened.model.config.decoder.vocab_size);
    const std::vector<TokenId> read = row(prompt, b), wanted = row(tokens, b);
    const Generation made = generate({opened.model, tokenizer, read, &latents},
                                     {.max_tokens = tokens.size(1), .context = {.form = GetParam().form}});
    EXPECT_EQ(made.tokens, wanted) << "sequence " << b;
  }
}
INSTANTIATE_TEST_SUITE_P(Published, Fixture,
                         testing::Values(Reading{"cepe-mha", CrossAttentionForm::automatic},
                                         Reading{"cepe-mha", CrossAttentionForm::cached},
                                         Reading{"cepe-mha", CrossAttentionForm::absorbed},
                                         Reading{"cepe-gqa-last2", CrossAttentionForm::automatic},
                                         Reading{"cepe-gqa-last2", CrossAttentionForm::cached},
                                         Reading{"cepe-gqa-last2", CrossAttentionForm::materialised}));

nlohmann::json greedy_records() {
  std::ifstream file(kGolden / "generate" / "greedy.json");
  return nlohmann::json::parse(file);
}

GenerateOptions options_of(const nlohmann::json& record) {
  GenerateOptions options;
  options.max_tokens = 40;
  options.end_tokens = {2};
  options.sampling.repetition_penalty = record.value("repetition_penalty", 1.0);
  return options;
}

TEST(Generate, TokensAndTextEqualTheReference) {
  const OpenedModel opened = open_model(kGolden / "generate" / "plain");
  for (const auto& record : greedy_records()) {
    const std::vector<TokenId> prompt = record["prompt_tokens"];
    const Generation made = generate({opened.model, *opened.tokenizer, prompt}, options_of(record));
    EXPECT_EQ(made.tokens, record["tokens"].get<std::vector<TokenId>>());
    EXPECT_EQ(made.text, record["text"].get<std::string>());
    EXPECT_EQ(made.reason, record["ended"].get<bool>() ? StopReason::end_token : StopReason::max_tokens);
    EXPECT_GT(made.first_token_seconds, 0);
    EXPECT_GE(made.seconds, made.first_token_seconds);
  }
}

TEST(Generate, AStopStringEndsTheTextWhereverItLies) {
  const OpenedModel opened = open_model(kGolden / "generate" / "plain");
  const nlohmann::json record = greedy_records()[0];
  const std::vector<TokenId> prompt = record["prompt_tokens"];
  const std::string whole = record["text"];
  std::vector<size_t> starts;  // of characters
  for (size_t i = 0; i < whole.size(); i += code_point_at(whole, i).size) starts.push_back(i);
  for (size_t i = 0; i + 4 < starts.size(); i += 3) {
    const std::string stop = whole.substr(starts[i], starts[i + 4] - starts[i]);  // four characters span tokens
    GenerateOptions options = options_of(record);
    options.stop = {"never in it", stop};
    std::string shown;
    options.on_text = [&](std::string_view piece) {
      EXPECT_FALSE(piece.empty());
      EXPECT_EQ(find_invalid_utf8(piece), std::string_view::npos) << "a piece is whole characters";
      shown += piece;
    };
    const Generation made = generate({opened.model, *opened.tokenizer, prompt}, options);
    EXPECT_EQ(made.text, whole.substr(0, whole.find(stop)));
    EXPECT_EQ(shown, made.text);
    EXPECT_EQ(made.reason, StopReason::stop_string);
  }
}

TEST(Generate, StopsWhereTheWindowIsFull) {
  const OpenedModel opened = open_model(kGolden / "generate" / "plain");
  const std::vector<TokenId> prompt(100, 40);
  GenerateOptions options;
  options.max_tokens = 1'000'000'000'000'000;
  const Generation made = generate({opened.model, *opened.tokenizer, prompt}, options);
  EXPECT_EQ(made.reason, StopReason::window);
  EXPECT_EQ(made.tokens.size(), 28u);
  options.max_tokens = 28;  // asked for exactly what fits
  EXPECT_EQ(generate({opened.model, *opened.tokenizer, prompt}, options).reason, StopReason::max_tokens);
  const std::vector<TokenId> full(128, 40);
  EXPECT_THROW(generate({opened.model, *opened.tokenizer, full}, options), Error);
  EXPECT_THROW(generate({opened.model, *opened.tokenizer, std::vector<TokenId>{}}, options), Error);
  options.max_tokens = 0;
  EXPECT_THROW(generate({opened.model, *opened.tokenizer, prompt}, options), Error);
}

TEST(Generate, TheSeedDecidesTheText) {
  const OpenedModel opened = open_model(kGolden / "generate" / "plain");
  const std::vector<TokenId> prompt = {30, 31, 32};
  const auto text = [&](uint64_t seed) {
    GenerateOptions options;
    options.max_tokens = 20;
    options.sampling = {.temperature = 1.0, .top_p = 0.9, .seed = seed};
    return generate({opened.model, *opened.tokenizer, prompt}, options).text;
  };
  EXPECT_EQ(text(1), text(1));
  EXPECT_NE(text(1), text(2));
}

std::vector<TextChunk> some_chunks(int64_t tokens) {
  std::vector<TextChunk> chunks;
  std::vector<TokenId> document;
  for (int64_t i = 0; i < tokens; ++i) document.push_back(static_cast<TokenId>(3 + (i * 31) % 290));
  append_chunks(document, "document", 32, chunks);
  return chunks;
}

// Log-probabilities of the whole vocabulary by token, for a token of the answer.
at::Tensor by_token(const Generation& made, size_t index) {
  const std::vector<TokenLogProbability>& best = made.log_probabilities.at(index).best;
  std::vector<float> values(best.size());
  for (const TokenLogProbability& token : best) values.at(static_cast<size_t>(token.token)) = token.log_probability;
  return at::tensor(values);
}

// Keys and values are kept where enough tokens are to come and the budget allows, and the logits are the same.
TEST(Generate, KeepsKeysAndValuesWithinTheBudget) {
  const OpenedModel opened = open_model(kGolden / "generate" / "published");
  const Latents latents = encode_context(opened.model, some_chunks(75)).latents;
  const std::vector<TokenId> prompt = {5, 6, 7};
  const auto made_with = [&](const ContextReading& reading) {
    return generate({opened.model, *opened.tokenizer, prompt, &latents},
                    {.max_tokens = 97, .context = reading, .log_probabilities = opened.tokenizer->vocabulary_size()});
  };
  const Generation absorbed = made_with({.form = CrossAttentionForm::absorbed}),
                   kept = made_with({.form = CrossAttentionForm::cached});
  const CrossAttentionCost& cost = kept.context_choice.cost;
  const Generation over = made_with({.memory_budget = cost.bytes - 1});
  EXPECT_EQ(absorbed.context_choice.form, CrossAttentionForm::absorbed);
  EXPECT_EQ(absorbed.context_choice.cost.bytes, 0);
  EXPECT_EQ(kept.context_choice.form, CrossAttentionForm::cached);
  EXPECT_NE(over.context_choice.form, CrossAttentionForm::cached);
  const StackConfig& config = opened.model.config.decoder;
  EXPECT_EQ(cost.bytes, 75 * opened.model.config.num_cross_attn_layers * 2 * config.num_kv_heads * config.head_dim * 4);
  for (const Generation* other : {&kept, &over}) {
    for (const size_t t : {0, 1, 50}) {
      const at::Tensor expected = by_token(absorbed, t);
      EXPECT_LT((by_token(*other, t) - expected).norm().item<double>(), 2e-5 * expected.norm().item<double>()) << t;
    }
  }
  EXPECT_EQ(latents.cache, nullptr) << "the given context stays as it was";
}

TEST(Generate, RefusesTokensOutsideTheVocabulary) {
  const OpenedModel opened = open_model(kGolden / "generate" / "plain");
  for (const TokenId token : {300, -1}) {
    const std::vector<TokenId> prompt{token};
    EXPECT_THROW(generate({opened.model, *opened.tokenizer, prompt}, {.max_tokens = 2}), Error);
  }
}

TEST(Generate, WhatOnTextThrowsComesOut) {
  const OpenedModel opened = open_model(kGolden / "generate" / "plain");
  const std::vector<TokenId> prompt{30, 31};
  GenerateOptions options{.max_tokens = 9};
  options.on_text = [](std::string_view) { throw std::out_of_range("mine"); };
  EXPECT_THROW(generate({opened.model, *opened.tokenizer, prompt}, options), std::out_of_range);
}

TEST(Generate, ADamagedContextIsAnError) {
  const OpenedModel opened = open_model(kGolden / "generate" / "published");
  Latents latents = encode_context(opened.model, some_chunks(40)).latents;
  latents.states_BSE.fill_(NAN);
  const std::vector<TokenId> prompt{30, 31};
  EXPECT_THROW(generate({opened.model, *opened.tokenizer, prompt, &latents}, {.max_tokens = 2}), Error);
}

// The same model in two layouts, trained parts on their base and published: the same logits.
TEST(Generate, TrainedPartsOnTheirBaseEqualThePublishedLayout) {
  const OpenedModel published = open_model(kGolden / "generate" / "published");
  const OpenedModel trained = open_model(kGolden / "generate" / "trained", {.base = kGolden / "generate" / "plain"});
  const std::vector<TextChunk> chunks = some_chunks(50);
  const Latents a = encode_context(published.model, chunks).latents, b = encode_context(trained.model, chunks).latents;
  const std::vector<TokenId> prompt = {10, 20, 30, 40};
  const auto first_token = [&](const OpenedModel& opened, const Latents* latents) {
    return by_token(generate({opened.model, *opened.tokenizer, prompt, latents},
                             {.max_tokens = 1, .log_probabilities = opened.tokenizer->vocabulary_size()}),
                    0);
  };
  const at::Tensor x = first_token(published, &a), y = first_token(trained, &b), z = first_token(published, nullptr);
  EXPECT_TRUE(at::equal(x, y));
  EXPECT_FALSE(at::equal(x, z));  // the context is read
}

}  // namespace
}  // namespace cepe
