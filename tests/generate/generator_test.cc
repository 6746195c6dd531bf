#include "generate/generator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "base/error.h"
#include "context/encode_context.h"
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

TokenId best(std::span<const float> logits) {
  return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
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
    DecodingSession session(opened.model, &latents, prompt.size(1) + tokens.size(1), {.form = GetParam().form});
    const std::vector<TokenId> wanted = row(tokens, b);
    std::span<const float> logits = session.append(row(prompt, b));
    std::vector<TokenId> found;
    while (true) {
      found.push_back(best(logits));
      if (found.size() == wanted.size()) break;
      logits = session.append({&found.back(), 1});
    }
    EXPECT_EQ(found, wanted) << "sequence " << b;
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

// The cache against whole forward passes, prompt cut in pieces.
TEST(DecodingSession, EqualsDecodingWithoutACache) {
  const OpenedModel opened = open_model(kGolden / "generate" / "published");
  const Latents latents = encode_context(opened.model, some_chunks(75)).latents;
  std::vector<TokenId> tokens;
  for (int i = 0; i < 24; ++i) tokens.push_back(static_cast<TokenId>(5 + i * 11));
  DecodingSession session(opened.model, &latents, 24);
  const std::span<const TokenId> all(tokens);
  for (const auto& [from, count] :
       std::vector<std::pair<size_t, size_t>>{{0, 10}, {10, 1}, {11, 1}, {12, 7}, {19, 5}}) {
    const std::span<const float> found = session.append(all.subspan(from, count));
    const std::vector<int64_t> ids(tokens.begin(), tokens.begin() + static_cast<long>(from + count));
    const at::Tensor hidden =
        decode(opened.model, {.ids_BT = at::tensor(ids, at::kLong).unsqueeze(0), .context = &latents});
    const at::Tensor expected = logits(opened.model, hidden).select(1, -1)[0];
    const at::Tensor got = at::tensor(std::vector<float>(found.begin(), found.end()));
    EXPECT_LT((got - expected).norm().item<double>(), 2e-5 * expected.norm().item<double>())
        << "after " << from + count;
  }
  EXPECT_EQ(session.length(), 24);
  EXPECT_THROW(session.append(all.first(1)), Error);  // the cache is full
}

// Keys and values are kept where enough tokens are to come and the budget allows, and the logits are the same.
TEST(DecodingSession, KeepsKeysAndValuesWithinTheBudget) {
  const OpenedModel opened = open_model(kGolden / "generate" / "published");
  const Latents latents = encode_context(opened.model, some_chunks(75)).latents;
  const std::vector<TokenId> prompt = {5, 6, 7};
  const auto logits_with = [&](const ContextReading& reading, CrossAttentionChoice& choice) {
    DecodingSession session(opened.model, &latents, 100, reading);
    session.append(prompt);
    const std::span<const float> found = session.append(std::vector<TokenId>{8});
    choice = session.context_choice();
    return at::tensor(std::vector<float>(found.begin(), found.end()));
  };
  CrossAttentionChoice absorbed, kept, over;
  const at::Tensor expected = logits_with({.form = CrossAttentionForm::absorbed}, absorbed);
  EXPECT_EQ(absorbed.form, CrossAttentionForm::absorbed);
  EXPECT_EQ(absorbed.cost.bytes, 0);
  const at::Tensor found = logits_with({.form = CrossAttentionForm::cached}, kept);
  EXPECT_EQ(kept.form, CrossAttentionForm::cached);
  const StackConfig& config = opened.model.config.decoder;
  EXPECT_EQ(kept.cost.bytes,
            75 * opened.model.config.num_cross_attn_layers * 2 * config.num_kv_heads * config.head_dim * 4);
  EXPECT_LT((found - expected).norm().item<double>(), 2e-5 * expected.norm().item<double>());
  const at::Tensor other = logits_with({.memory_budget = kept.cost.bytes - 1}, over);
  EXPECT_NE(over.form, CrossAttentionForm::cached);
  EXPECT_LT((other - expected).norm().item<double>(), 2e-5 * expected.norm().item<double>());
  EXPECT_EQ(latents.cache, nullptr) << "the given context stays as it was";
}

TEST(DecodingSession, RefusesTokensOutsideTheVocabulary) {
  const OpenedModel opened = open_model(kGolden / "generate" / "plain");
  DecodingSession session(opened.model, nullptr, 8);
  EXPECT_THROW(session.append(std::vector<TokenId>{300}), Error);
  EXPECT_THROW(session.append(std::vector<TokenId>{-1}), Error);
  EXPECT_THROW(session.append(std::vector<TokenId>{}), Error);
}

// The same model in two layouts, trained parts on their base and published: the same logits.
TEST(DecodingSession, TrainedPartsOnTheirBaseEqualThePublishedLayout) {
  const OpenedModel published = open_model(kGolden / "generate" / "published");
  const OpenedModel trained = open_model(kGolden / "generate" / "trained", {.base = kGolden / "generate" / "plain"});
  const std::vector<TextChunk> chunks = some_chunks(50);
  const Latents a = encode_context(published.model, chunks).latents, b = encode_context(trained.model, chunks).latents;
  DecodingSession first(published.model, &a, 8), second(trained.model, &b, 8), plain(published.model, nullptr, 8);
  const std::vector<TokenId> prompt = {10, 20, 30, 40};
  const std::span<const float> x = first.append(prompt), y = second.append(prompt), z = plain.append(prompt);
  EXPECT_EQ(std::vector<float>(x.begin(), x.end()), std::vector<float>(y.begin(), y.end()));
  EXPECT_NE(std::vector<float>(x.begin(), x.end()), std::vector<float>(z.begin(), z.end()));  // the context is read
}

}  // namespace
}  // namespace cepe
