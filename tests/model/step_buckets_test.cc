// Sequences that come and go, each by steps of the smallest size that holds all, against decode() of its whole text.
#include "model/step_buckets.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/fixtures.h"
#include "model/step_against_decode.h"

namespace cepe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr int64_t kCapacity = 24, kVocabulary = 128;

struct Sequence {
  std::vector<int64_t> tokens;  // all that were read, the one that is read next at the end
  Latents context;
};

class Buckets : public testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(17);
    model_ = open_fixture("cepe-mha", at::kDouble).model;
    cache_ = make_cache(model_.decoder.stack, 5, kCapacity);
    for (const LayerCache& layer : cache_.layers) layer.k_BSGK.fill_(NAN), layer.v_BSGK.fill_(NAN);
  }

  Latents context_of_chunks(int64_t chunks) {
    return encode(model_, {at::randint(0, kVocabulary, {1, chunks, 16}, at::kLong), {}});
  }

  // A sequence at the next place, its prompt but for the last token read.
  void join(int64_t prompt, const Latents& context) {
    Sequence sequence{{}, context};
    for (int64_t i = 0; i < prompt; ++i) sequence.tokens.push_back(at::randint(kVocabulary, {1}).item<int64_t>());
    if (prompt > 1) {
      KeyValueCache part = cache_of(cache_, static_cast<int64_t>(sequences_.size()));
      const at::Tensor ids = at::tensor(sequence.tokens).narrow(0, 0, prompt - 1).unsqueeze(0);
      decode(model_, {.ids_BT = ids, .context = &context, .cache = &part, .last = 1});
    }
    sequences_.push_back(sequence);
  }

  // The sequence at a place ends; the last one takes it.
  void leave(StepBuckets& buckets, int64_t place) {
    const int64_t last = static_cast<int64_t>(sequences_.size()) - 1;
    buckets.move(last, place, static_cast<int64_t>(sequences_[last].tokens.size()) - 1);
    sequences_[place] = sequences_[last];
    sequences_.pop_back();
  }

  // So many tokens of all sequences, whose logits must be decode()'s. Returns the size of the step.
  int64_t run(StepBuckets& buckets, int64_t tokens) {
    std::vector<int64_t> ids, positions;
    std::vector<StepContext> contexts;
    for (size_t b = 0; b < sequences_.size(); ++b) {
      ids.push_back(sequences_[b].tokens.back());
      positions.push_back(static_cast<int64_t>(sequences_[b].tokens.size()) - 1);
      if (sequences_[b].context.tokens() > 0) contexts.push_back({sequences_[b].context, static_cast<int64_t>(b), 1});
    }
    DecodeStep& step = buckets.place({ids, positions, contexts});
    for (int64_t i = 0; i < tokens; ++i) {
      const at::Tensor found = step.run().clone();
      for (size_t b = 0; b < sequences_.size(); ++b) {
        Sequence& own = sequences_[b];
        const at::Tensor ids_1T = at::tensor(own.tokens).unsqueeze(0);
        const at::Tensor hidden = decode(model_, {.ids_BT = ids_1T, .context = &own.context, .last = 1});
        const at::Tensor expected = logits(model_, hidden).view({-1});
        EXPECT_LT(norm_error(found[static_cast<int64_t>(b)], expected), 1e-12) << "sequence " << b << ", token " << i;
        own.tokens.push_back(expected.argmax().item<int64_t>());  // which the step places by itself
      }
    }
    return static_cast<int64_t>(step.positions().size());
  }

  const at::NoGradGuard no_grad_;
  Cepe model_;
  KeyValueCache cache_;
  std::vector<Sequence> sequences_;
};

TEST_F(Buckets, SequencesComeAndGo) {
  StepBuckets buckets(model_, cache_);
  EXPECT_THAT(buckets.sizes(), ElementsAre(1, 2, 4, 5));
  const Latents first = context_of_chunks(2);
  join(4, first);
  EXPECT_EQ(run(buckets, 2), 1);
  join(1, context_of_chunks(1));
  join(6, {});
  EXPECT_EQ(run(buckets, 2), 4);
  join(3, first);
  join(2, context_of_chunks(3));
  EXPECT_EQ(run(buckets, 1), 5);
  leave(buckets, 0);
  leave(buckets, 3);
  EXPECT_EQ(run(buckets, 2), 4) << "the step is there already, and reads the contexts of those that are left";
  leave(buckets, 1);
  EXPECT_EQ(run(buckets, 2), 2);
  leave(buckets, 1);
  EXPECT_EQ(run(buckets, 1), 1);
  EXPECT_EQ(buckets.made(), 4);
}

TEST_F(Buckets, SaysWhatDoesNotFit) {
  StepBuckets buckets(model_, cache_);
  const std::vector<int64_t> six(6, 1), two(2, 1);
  EXPECT_THAT([&] { buckets.place({six, six}); }, ThrowsMessage<Error>(HasSubstr("6 sequences for a cache of 5")));
  EXPECT_THAT([&] { buckets.place({{}, {}}); }, ThrowsMessage<Error>(HasSubstr("0 sequences")));
  EXPECT_THAT([&] { buckets.place({two, six}); }, ThrowsMessage<Error>(HasSubstr("2 tokens at 6 positions")));
  EXPECT_THAT([&] { buckets.place({two, two, {{context_of_chunks(1), 2, 1}}}); },
              ThrowsMessage<Error>(HasSubstr("a context for sequences 2 to 2 of 2")));
  EXPECT_THAT([&] { buckets.move(0, 5, 1); }, ThrowsMessage<Error>(HasSubstr("from place 0 to 5")));
  EXPECT_THROW(StepBuckets(model_, cache_, {.step = {.contexts = {{context_of_chunks(1), 0, 1}}}}), Error);
}

}  // namespace
}  // namespace cepe
