// Sequences that come and go, each by steps of the smallest size that holds all, against decode() of its whole text.
#include "generate/step_buckets.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "generate/sequences_in_buckets.h"
#include "model/fixtures.h"

namespace cepe {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

class Buckets : public testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(17);
    model_ = open_fixture("cepe-mha", at::kDouble).model;
    cache_ = make_cache(model_.decoder.stack, 5, 24);
  }
  Latents context_of_chunks(int64_t chunks) {
    return encode(model_, {at::randint(0, model_.config.decoder.vocab_size, {1, chunks, 16}, at::kLong), {}});
  }

  const at::NoGradGuard no_grad_;
  Cepe model_;
  KeyValueCache cache_;
};

TEST_F(Buckets, SequencesComeAndGo) {
  SequencesInBuckets sequences(
      model_, cache_, [&](const at::Tensor& found, const auto& sequence, const std::string& where) {
        EXPECT_LT(norm_error(found, SequencesInBuckets::by_decode(model_, sequence)), 1e-12) << where;
      });
  StepBuckets buckets(model_, cache_);
  sequences.come_and_go(buckets, [&](int64_t chunks) { return context_of_chunks(chunks); });
}

// A prompt is half read into slot 3 while three sequences write in a step of four.
TEST_F(Buckets, ASparedSlotKeepsItsTokens) {
  const at::Tensor ids = at::randint(model_.config.decoder.vocab_size, {1, 4}, at::kLong);
  KeyValueCache half = slot_of(cache_, 3, 0);
  decode(model_, {.ids_BT = ids, .cache = &half});
  const auto held = [&] { return cache_.layers[0].k_BSGK.select(0, 3).narrow(0, 0, 4).clone(); };
  const at::Tensor before = held();
  StepBuckets buckets(model_, cache_);
  const std::vector<int64_t> three{5, 6, 7}, positions{0, 0, 0};
  buckets.place({.ids = three, .positions = positions, .spared_slot = 3, .spared_length = 4}).run();
  EXPECT_TRUE(at::equal(held(), before));
  buckets.place({.ids = three, .positions = positions}).run();
  EXPECT_FALSE(at::equal(held(), before)) << "a slot that no sequence has is written to";
}

TEST_F(Buckets, SaysWhatDoesNotFit) {
  StepBuckets buckets(model_, cache_);
  const std::vector<int64_t> six(6, 1), two(2, 1);
  EXPECT_THAT([&] { buckets.place({six, six}); }, ThrowsMessage<Error>(HasSubstr("6 sequences for a cache of 5")));
  EXPECT_THAT([&] { buckets.place({{}, {}}); }, ThrowsMessage<Error>(HasSubstr("0 sequences")));
  EXPECT_THAT([&] { buckets.place({two, six}); }, ThrowsMessage<Error>(HasSubstr("2 tokens at 6 positions")));
  EXPECT_THAT([&] { buckets.place({two, two, {{context_of_chunks(1), 2, 1}}}); },
              ThrowsMessage<Error>(HasSubstr("a context for sequences 2 to 2 of 2")));
  EXPECT_THAT([&] { buckets.place({.ids = two, .positions = two, .spared_slot = 1}); },
              ThrowsMessage<Error>(HasSubstr("slot 1 of 2 sequences is spared")));
  EXPECT_THAT([&] { move_slot(cache_, 0, 5, 1); }, ThrowsMessage<Error>(HasSubstr("from slot 0 to 5")));
  EXPECT_THROW(StepBuckets(model_, cache_, {.contexts = {{context_of_chunks(1), 0, 1}}}), Error);
}

}  // namespace
}  // namespace cepe
