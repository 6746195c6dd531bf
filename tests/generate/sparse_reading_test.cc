// Parts of a context that are read while a text is written: what is chosen, when, and what an engine reads.
#include "context/sparse_reading.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "generate/many_requests.h"
#include "model/additions.h"
#include "model/fixtures.h"
#include "ops/context/context_blocks.h"

namespace cepe {
namespace {

class SparseReadings : public testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(29);
    model_ = open_fixture("cepe-mha", at::kDouble).model;
  }
  // Encoded in float64, with kept keys and values.
  Latents context_of(int64_t tokens) const {
    const at::Tensor ids = at::randint(model_.config.decoder.vocab_size, {1, tokens / 10, 10}, at::kLong);
    Latents latents = encode(model_, {ids, {}});
    latents.cache = cache_context(model_.decoder.stack, latents);
    return latents;
  }
  std::vector<at::Tensor> queries_of(const at::Tensor& ids_BT, const Latents& latents) const {
    std::vector<at::Tensor> queries;
    decode(model_, {.ids_BT = ids_BT, .context = &latents, .context_queries = &queries});
    return queries;
  }
  std::vector<TokenId> some_prompt(int64_t first) const {
    return {static_cast<TokenId>(first), static_cast<TokenId>(first + 1), static_cast<TokenId>(first + 2)};
  }
  Generation written(const Latents& latents, int64_t tokens, const ContextReading& reading) const {
    const Request request{.prompt = some_prompt(5),
                          .context = std::make_shared<const Context>(Context{latents, {}}),
                          .max_tokens = tokens,
                          .log_probabilities = model_.config.decoder.vocab_size};
    return alone(model_, tokenizer_, request, {.capacity = 64, .reading = reading});
  }
  static void expect_same(const Generation& found, const Generation& expected) {
    EXPECT_EQ(found.tokens, expected.tokens);
    ASSERT_EQ(found.log_probabilities.size(), expected.log_probabilities.size());
    for (size_t t = 0; t < found.log_probabilities.size(); ++t) {
      const auto &a = found.log_probabilities[t].best, &b = expected.log_probabilities[t].best;
      ASSERT_EQ(a.size(), b.size());
      for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i].log_probability, b[i].log_probability, 1e-5);
    }
  }

  const at::NoGradGuard no_grad_;
  Cepe model_;
  NumberTokenizer tokenizer_{128};
};

// The recorded queries give each block of 64 the mass that attention_mass() finds by absorbed scores, and the log-n
// factor counts the whole context.
TEST_F(SparseReadings, RecordedQueriesGiveTheAttentionMass) {
  for (const CrossVariants& variants : {CrossVariants{}, {.query_log_scale = 3, .query_log_tokens = 8}}) {
    set_cross_variants(model_, variants, "test");
    const Latents latents = context_of(300);
    AttentionMass mass{.chunks = ChunkBounds({64, 64, 64, 64, 44}, at::kCPU), .last = 1};
    std::vector<at::Tensor> queries;
    decode(model_, {.ids_BT = at::tensor({7, 9, 11}, at::kLong).unsqueeze(0),
                    .context = &latents,
                    .mass = &mass,
                    .context_queries = &queries});
    at::Tensor sum = at::zeros({5}, at::kDouble);
    ASSERT_EQ(static_cast<int64_t>(queries.size()), model_.config.num_cross_attn_layers);
    size_t read = 0;
    for (const ContextKeysValues& layer : latents.cache->layers) {
      if (!layer.k.defined()) continue;
      const at::Tensor q_CGNK = fold_queries(queries.at(read++), 1, layer.k.size(1));
      sum += block_sums(q_CGNK, layer, {}).softmax(-1).mean(at::IntArrayRef{0, 1, 2});
    }
    EXPECT_LT(norm_error(sum / static_cast<double>(read), mass.mean()[0]), 1e-6);
  }
}

TEST_F(SparseReadings, APartIsChosenByTheLastQueriesEverySoManyTokens) {
  const Latents latents = context_of(640);
  SparseReading reading(latents, 0.5, 3);
  EXPECT_EQ(reading.mean_share(), 1);
  std::vector<at::Tensor> queries;
  std::shared_ptr<const ContextCache> part;
  double shares = 0;
  for (int64_t token = 0; token < 8; ++token) {
    const at::Tensor ids = at::tensor({3 + token, 5 * token}, at::kLong).unsqueeze(1);  // two sequences
    queries = queries_of(ids, latents);
    EXPECT_EQ(reading.due(), token % 3 == 0);
    reading.asked(queries, 1);
    const Latents& next = reading.next();
    EXPECT_TRUE(reads_part(next));
    EXPECT_TRUE(next.states_BSE.is_same(latents.states_BSE));
    if (token % 3 == 0) {
      for (at::Tensor& layer : queries) layer = layer.narrow(0, 1, 1);
      part = choose_part(*latents.cache, queries, {}, 0.5);
    }
    ASSERT_EQ(next.cache->layers.size(), part->layers.size());
    for (size_t i = 0; i < part->layers.size(); ++i) {
      if (part->layers[i].k.defined()) {
        EXPECT_TRUE(at::equal(next.cache->layers[i].chosen, part->layers[i].chosen)) << token << " " << i;
      }
    }
    shares += part->read_share();
    EXPECT_GT(part->read_share(), 0.3);
    EXPECT_LT(part->read_share(), 0.7);
  }
  EXPECT_NEAR(reading.mean_share(), shares / 8, 1e-12);
}

// An engine's tokens are those of a loop of decode() that chooses by hand.
TEST_F(SparseReadings, AnEngineReadsTheChosenPart) {
  const Latents latents = context_of(640);
  const Generation found =
      written(latents, 8, {.form = CrossAttentionForm::cached, .read_share = 0.5, .read_again = 3});
  ASSERT_EQ(found.tokens.size(), 8u);
  KeyValueCache cache = make_cache(model_.decoder.stack, 1, 16);
  Latents part = latents;
  std::vector<int64_t> ids{5, 6, 7};
  double shares = 0;
  for (size_t t = 0; t < found.tokens.size(); ++t) {
    std::vector<at::Tensor> queries;
    const at::Tensor hidden = decode(model_, {.ids_BT = at::tensor(ids, at::kLong).unsqueeze(0),
                                              .context = &part,
                                              .cache = &cache,
                                              .last = 1,
                                              .context_queries = &queries});
    if (t % 3 == 0) part.cache = choose_part(*latents.cache, queries, {}, 0.5);
    const at::Tensor expected = logits(model_, hidden).flatten().log_softmax(-1);
    for (const TokenLogProbability& token : found.log_probabilities.at(t).best)
      EXPECT_NEAR(token.log_probability, expected[token.token].item<double>(), 1e-5) << t;
    ids = {found.tokens[t]};
    if (t + 1 < found.tokens.size()) shares += part.cache->read_share() / 7;
  }
  EXPECT_NEAR(found.read_share, shares, 1e-9);
  EXPECT_LT(found.read_share, 0.7);
}

TEST_F(SparseReadings, AShareThatNeedsAllBlocksWritesWhatAllWrites) {
  const Latents latents = context_of(640);
  const CrossAttentionForm cached = CrossAttentionForm::cached;
  const Generation all = written(latents, 12, {.form = cached});
  const Generation most = written(latents, 12, {.form = cached, .read_share = 1 - 1e-12, .read_again = 1});
  const Generation half = written(latents, 12, {.form = cached, .read_share = 0.5, .read_again = 1});
  EXPECT_EQ(most.read_share, 1);
  expect_same(most, all);
  EXPECT_NE(half.log_probabilities.at(1).chosen.log_probability, all.log_probabilities.at(1).chosen.log_probability);
  // Nothing is kept: all is read.
  const Generation absorbed = written(latents, 12, {.form = CrossAttentionForm::absorbed, .read_share = 0.5});
  EXPECT_EQ(absorbed.read_share, 1);
  expect_same(absorbed, all);
}

TEST_F(SparseReadings, RefusesWhatDoesNotFit) {
  const Latents latents = context_of(100);
  EXPECT_THROW(SparseReading(latents, 0, 1), Error);
  EXPECT_THROW(SparseReading(latents, 1.5, 1), Error);
  EXPECT_THROW(SparseReading(latents, 0.5, 0), Error);
  EXPECT_THROW(SparseReading({.states_BSE = latents.states_BSE}, 0.5, 1), Error);
  SparseReading reading(latents, 0.5, 1);
  EXPECT_THROW(reading.next(), Error) << "nothing was asked";
  for (const ContextReading& wrong : {ContextReading{.read_share = 0}, {.read_share = 2}, {.read_again = 0}})
    EXPECT_THROW(Engine(model_, tokenizer_, {.reading = wrong}), Error);
}

}  // namespace
}  // namespace cepe
