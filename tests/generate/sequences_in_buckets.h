// Sequences that come and go in batch buckets, whatever the device: what a server does with them, for tests.
#pragma once

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "generate/slots.h"
#include "generate/step_buckets.h"
#include "model/fixtures.h"

namespace cepe {

struct WrittenSequence {
  std::vector<int64_t> tokens;  // all that were read, the one that is read next at the end
  Latents context;
};

class SequencesInBuckets {
 public:
  // check(row, sequence, where): whether a step's logits of a sequence, (V), are right.
  using Check = std::function<void(const at::Tensor&, const WrittenSequence&, const std::string&)>;
  SequencesInBuckets(const Cepe& model, const KeyValueCache& cache, Check check)
      : model_(model), cache_(cache), check_(std::move(check)) {
    for (const LayerCache& layer : cache.layers) layer.k_BSGK.fill_(NAN), layer.v_BSGK.fill_(NAN);
  }

  // decode()'s logits of the last token of a sequence, (V).
  static at::Tensor by_decode(const Cepe& model, const WrittenSequence& sequence) {
    Latents context = sequence.context;
    if (context.states_BSE.defined()) context.states_BSE = context.states_BSE.to(model.dtype());
    const at::Tensor ids = at::tensor(sequence.tokens).unsqueeze(0).to(model.device());
    return logits(model, decode(model, {.ids_BT = ids, .context = &context, .last = 1})).view({-1});
  }

  // A sequence at the next place, its prompt but for the last token read.
  void join(int64_t prompt, const Latents& context) {
    const at::Tensor ids = at::randint(model_.config.decoder.vocab_size, {1, prompt}, at::kLong);
    if (prompt > 1) {
      KeyValueCache part = slot_of(cache_, static_cast<int64_t>(sequences_.size()), 0);
      const at::Tensor read = ids.narrow(1, 0, prompt - 1).to(model_.device());
      decode(model_, {.ids_BT = read, .context = &context, .cache = &part, .last = 1});
    }
    const auto* const first = ids.const_data_ptr<int64_t>();
    sequences_.push_back({{first, first + prompt}, context});
  }

  // The sequence at a place ends; the last one takes it.
  void leave(int64_t place) {
    const int64_t last = static_cast<int64_t>(sequences_.size()) - 1;
    move_slot(cache_, last, place, static_cast<int64_t>(sequences_[last].tokens.size()) - 1);
    sequences_[place] = sequences_[last];
    sequences_.pop_back();
  }

  // So many tokens of all sequences. Returns the size of the step.
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
        const at::Tensor row = found[static_cast<int64_t>(b)];
        check_(row, sequences_[b], "sequence " + std::to_string(b) + ", token " + std::to_string(i));
        sequences_[b].tokens.push_back(row.argmax().item<int64_t>());  // which the step places by itself
      }
    }
    return static_cast<int64_t>(step.positions().size());
  }

  // Up to five, with contexts of one, two and three lengths and without; buckets of a cache of five, none made yet.
  void come_and_go(StepBuckets& buckets, const std::function<Latents(int64_t length)>& context) {
    EXPECT_THAT(buckets.sizes(), testing::ElementsAre(1, 2, 4, 5));
    const Latents first = context(2);
    join(4, first);
    EXPECT_EQ(run(buckets, 2), 1);
    join(1, context(1));
    join(6, {});
    EXPECT_EQ(run(buckets, 2), 4);
    join(3, first);
    join(2, context(3));
    EXPECT_EQ(run(buckets, 3), 5);
    leave(0);
    leave(3);
    EXPECT_EQ(run(buckets, 2), 4) << "the step is there already, and reads the contexts of those that are left";
    leave(1);
    EXPECT_EQ(run(buckets, 2), 2);
    leave(1);
    EXPECT_EQ(run(buckets, 3), 1);
    EXPECT_EQ(buckets.made(), 4);
  }

 private:
  const Cepe& model_;
  KeyValueCache cache_;
  Check check_;
  std::vector<WrittenSequence> sequences_;
};

}  // namespace cepe
