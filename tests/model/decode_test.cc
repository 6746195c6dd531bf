// The forward pass against itself in other orders: cached decoding, bounded encoding, batches, chunks.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/fixtures.h"

namespace cepe {
namespace {

at::Tensor random_ids(std::vector<int64_t> shape) { return at::randint(0, 128, shape, at::kLong); }

class Decoding : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    at::manual_seed(3);
    model_ = open_fixture(GetParam(), at::kDouble).model;
    ids_ = random_ids({2, 20});
    context_ = encode(model_, {random_ids({2, 3, 16}), {}});
  }
  const at::NoGradGuard no_grad_;
  Cepe model_;
  at::Tensor ids_;
  Latents context_;
};

TEST_P(Decoding, WithACacheEqualsTheWholeSequenceAtOnce) {
  const at::Tensor whole = decode(model_, {ids_, &context_});
  KeyValueCache cache = make_cache(model_.decoder.stack, 2, 20);
  std::vector<at::Tensor> parts;
  for (const auto& [start, length] : {std::pair{0, 7}, {7, 1}, {8, 5}, {13, 1}, {14, 6}}) {
    parts.push_back(decode(model_, {ids_.narrow(1, start, length), &context_, &cache}));
  }
  EXPECT_EQ(cache.length, 20);
  EXPECT_LT(norm_error(at::cat(parts, 1), whole), 1e-12);
}

TEST_P(Decoding, OnlyTheLastStatesEqualThoseOfAll) {
  const at::Tensor whole = decode(model_, {ids_, &context_});
  for (int64_t last : {1, 6, 20}) {
    const at::Tensor states = decode(model_, {.ids_BT = ids_, .context = &context_, .last = last});
    EXPECT_LT(norm_error(states, whole.narrow(1, 20 - last, last)), 1e-12) << last;
  }
  KeyValueCache cache = make_cache(model_.decoder.stack, 2, 20);
  decode(model_, {.ids_BT = ids_.narrow(1, 0, 12), .context = &context_, .cache = &cache, .last = 1});
  const at::Tensor after =
      decode(model_, {.ids_BT = ids_.narrow(1, 12, 8), .context = &context_, .cache = &cache, .last = 3});
  EXPECT_LT(norm_error(after, whole.narrow(1, 17, 3)), 1e-12) << "a cache holds all tokens, asked for or not";
  EXPECT_THROW(decode(model_, {.ids_BT = ids_, .last = 21}), Error);
}

TEST_P(Decoding, LowerLayersServeEveryContext) {
  const at::Tensor below = decode_below(model_, ids_);
  const Latents other = encode(model_, {random_ids({2, 2, 16}), {}});
  for (const Latents* context : std::vector<const Latents*>{nullptr, &context_, &other}) {
    const at::Tensor states = decode(model_, {.ids_BT = ids_, .context = context, .last = 5, .below_BTD = below});
    EXPECT_LT(norm_error(states, decode(model_, {ids_, context}).narrow(1, 15, 5)), 1e-12);
  }
  KeyValueCache cache = make_cache(model_.decoder.stack, 2, 20);
  EXPECT_THROW(decode(model_, {.ids_BT = ids_, .cache = &cache, .below_BTD = below}), Error);
  EXPECT_THROW(decode(model_, {.ids_BT = ids_.narrow(1, 0, 3), .below_BTD = below}), Error);
}

TEST_P(Decoding, EveryFormOfCrossAttentionGivesTheSameHiddenStates) {
  const at::Tensor whole = decode(model_, {.ids_BT = ids_, .context = &context_, .form = CrossAttentionForm::absorbed});
  const auto same = [&](const DecodeInput& input) { EXPECT_LT(norm_error(decode(model_, input), whole), 1e-12); };
  same({.ids_BT = ids_, .context = &context_, .form = CrossAttentionForm::materialised});
  same({.ids_BT = ids_, .context = &context_, .form = CrossAttentionForm::materialised, .block_tokens = 11});
  Latents kept = context_;
  kept.cache = cache_context(model_.decoder.stack, kept);
  same({.ids_BT = ids_, .context = &kept, .form = CrossAttentionForm::cached});
  same({.ids_BT = ids_, .context = &kept});
  EXPECT_THROW(decode(model_, {.ids_BT = ids_, .context = &context_, .form = CrossAttentionForm::cached}), Error);
  EXPECT_GT(norm_error(decode(model_, {ids_}), whole), 1e-3) << "the context must matter";
}

TEST_P(Decoding, EncodingInBoundedBatchesChangesNothing) {
  const ContextChunks chunks{random_ids({2, 5, 16}), at::randint(0, 2, {2, 5, 16}, at::kLong).to(at::kBool)};
  const Latents all = encode(model_, chunks, {10});
  for (int64_t at_once : {1, 3, 4}) {
    EXPECT_LT(norm_error(encode(model_, chunks, {at_once}).states_BSE, all.states_BSE), 1e-12) << at_once;
  }
}

TEST_P(Decoding, PaddingOfAChunkIsInvisible) {
  const at::Tensor real = random_ids({1, 2, 9});
  at::Tensor padded = at::cat({real, random_ids({1, 2, 7})}, 2), mask = at::zeros({1, 2, 16}, at::kBool);
  mask.narrow(2, 0, 9).fill_(true);
  const at::Tensor ids = ids_.narrow(0, 0, 1);
  const Latents short_context = encode(model_, {real, {}}), padded_context = encode(model_, {padded, mask});
  EXPECT_LT(norm_error(decode(model_, {ids, &padded_context}), decode(model_, {ids, &short_context})), 1e-12);
}

TEST_P(Decoding, OrderOfChunksDoesNotMatter) {
  const at::Tensor chunks = random_ids({1, 4, 16}), ids = ids_.narrow(0, 0, 1);
  const Latents forward = encode(model_, {chunks, {}}), backward = encode(model_, {chunks.flip(1), {}});
  EXPECT_LT(norm_error(decode(model_, {ids, &backward}), decode(model_, {ids, &forward})), 1e-12);
}

TEST_P(Decoding, TooLongAChunkIsRefused) {
  EXPECT_THROW(encode(model_, {random_ids({1, 1, 65}), {}}), Error);
  EXPECT_THROW(decode(model_, {random_ids({1, 0})}), Error);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, Decoding, testing::Values("cepe-mha", "cepe-gqa-last2"));

TEST(Decoding, APlainDecoderRefusesAContext) {
  const Cepe model = open_fixture("replug").model;
  EXPECT_THROW(encode(model, {random_ids({1, 1, 16}), {}}), Error);
}

TEST(Decoding, ACacheThatIsFullIsRefused) {
  const at::NoGradGuard no_grad;
  const Cepe model = open_fixture("replug").model;
  KeyValueCache cache = make_cache(model.decoder.stack, 1, 4);
  decode(model, {random_ids({1, 4}), nullptr, &cache});
  EXPECT_THROW(decode(model, {random_ids({1, 1}), nullptr, &cache}), Error);
}

}  // namespace
}  // namespace cepe
