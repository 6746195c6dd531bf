// The forward pass against itself in other orders: cached decoding, bounded encoding, batches, chunks.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "base/error.h"
#include "io/safetensors.h"
#include "model/decode_step.h"
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

// Chunks of their own lengths as rows without padding, and padded to the longest with a mask.
struct TwoLayouts {
  explicit TwoLayouts(const std::vector<int64_t>& lengths) {
    const int64_t longest = *std::max_element(lengths.begin(), lengths.end()), count = std::ssize(lengths);
    at::Tensor ids_ML = random_ids({count, longest}), mask_ML = at::zeros({count, longest}, at::kBool);
    for (int64_t i = 0; i < count; ++i) mask_ML[i].narrow(0, 0, lengths[i]).fill_(true);
    padded = {ids_ML.unsqueeze(0), mask_ML.unsqueeze(0)};
    packed = {ids_ML.masked_select(mask_ML), lengths};
  }
  // The real tokens' states of latents with padding, (N, E).
  at::Tensor real(const Latents& latents) const { return latents.states_BSE[0].index({padded.mask_BML.flatten()}); }
  ContextChunks padded;
  PackedChunks packed;
};

TEST_P(Decoding, PackedChunksEqualPaddedOnes) {
  for (const std::vector<int64_t>& lengths :
       {std::vector<int64_t>{1, 5, 64, 30, 64, 5, 2}, {9}, {7, 7, 7}, {64, 30, 30, 1}}) {
    const TwoLayouts chunks(lengths);
    const Latents padded = encode(model_, chunks.padded), packed = encode_packed(model_, chunks.packed);
    EXPECT_FALSE(packed.mask_BS.defined());
    ASSERT_EQ(packed.states_BSE.sizes(), at::IntArrayRef({1, chunks.packed.ids_N.numel(), padded.states_BSE.size(2)}));
    EXPECT_LT(norm_error(packed.states_BSE[0], chunks.real(padded)), 1e-12) << lengths.size() << " chunks";
    for (const int64_t at_once : {1, 2, 100}) {
      EXPECT_LT(norm_error(encode_packed(model_, chunks.packed, {at_once}).states_BSE, packed.states_BSE), 1e-12);
    }
    const at::Tensor ids = ids_.narrow(0, 0, 1);
    EXPECT_LT(norm_error(decode(model_, {ids, &packed}), decode(model_, {ids, &padded})), 1e-12);
  }
}

TEST_P(Decoding, PackedChunksGiveTheSameGradients) {
  const TwoLayouts chunks({3, 40, 11, 40});
  const at::AutoGradMode gradients(true);
  set_trainable(model_, true);
  std::vector<at::Tensor> weights;
  for (const Parameter& parameter : trainable_parameters(model_)) {
    if (parameter.part == Parameter::Part::encoder) weights.push_back(*parameter.value);
  }
  const at::Tensor padded = chunks.real(encode(model_, chunks.padded)), probe = at::randn_like(padded);
  const auto gradient = [&](const at::Tensor& states_NE) {
    return torch::autograd::grad({(states_NE * probe).sum()}, weights);
  };
  const auto expected = gradient(padded);
  for (const int64_t at_once : {0, 3}) {
    const auto found = gradient(encode_packed(model_, chunks.packed, {at_once}).states_BSE[0]);
    for (size_t i = 0; i < weights.size(); ++i) EXPECT_LT(norm_error(found[i], expected[i]), 1e-10) << i;
  }
  set_trainable(model_, false);
}

TEST_P(Decoding, PackedChunksThatDoNotFitAreRefused) {
  EXPECT_THROW(encode_packed(model_, {random_ids({65}), {65}}), Error);
  EXPECT_THROW(encode_packed(model_, {random_ids({8}), {8, 0}}), Error);
  EXPECT_THROW(encode_packed(model_, {random_ids({8}), {5, 4}}), Error);
  EXPECT_THROW(encode_packed(model_, {random_ids({2, 4}), {4, 4}}), Error);
  EXPECT_EQ(encode_packed(model_, {}).tokens(), 0);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, Decoding, testing::Values("cepe-mha", "cepe-gqa-last2"));

// More tokens than are encoded at once, in the published encoder's window.
TEST(PackedEncoding, InFloat32ByTheMillionth) {
  const at::NoGradGuard no_grad;
  at::manual_seed(5);
  const Cepe model = random_model(small_config("smollm2-135m+2x2", 6, 2, 64));
  const TwoLayouts chunks({1, 5, 256, 100, 256, 17, 100, 256, 64, 256, 300, 256, 256, 2, 256, 256});
  ASSERT_GT(chunks.packed.ids_N.numel(), 2048);
  const at::Tensor padded = chunks.real(encode(model, chunks.padded));
  EXPECT_LT(norm_error(encode_packed(model, chunks.packed).states_BSE[0], padded), 1e-6);
}

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

// What transformers' greedy generation makes of 24 tokens with a window of 32 before the rotary scaling: the answer
// crosses it, and the frequencies of `dynamic` change with every token.
TEST(BeyondTheOriginalWindow, TheContinuationIsTheRecordedOne) {
  const at::NoGradGuard no_grad;
  for (const std::string name : {"families/llama-dynamic", "families/qwen2-yarn"}) {
    const Cepe model = open_fixture(name).model;
    EXPECT_GE(decoder_window(model.config.decoder), 48) << name;
    const SafetensorsFile recorded(std::filesystem::path(CEPE_TEST_DATA) / name / "continued.safetensors");
    const TensorView& view = *recorded.find("tokens");
    const auto* told = reinterpret_cast<const int64_t*>(view.bytes.data());
    const int64_t all = view.elements(), given = 24;
    ASSERT_EQ(all, 48);
    KeyValueCache cache = make_cache(model.decoder.stack, 1, all);
    at::Tensor ids = at::tensor(at::ArrayRef<int64_t>(told, given), at::kLong).unsqueeze(0);
    for (int64_t i = given; i < all; ++i) {
      const at::Tensor states = decode(model, {.ids_BT = ids, .cache = &cache, .last = 1});
      ids = logits(model, states).argmax(-1);
      ASSERT_EQ(ids.item<int64_t>(), told[i]) << name << ", token " << i;
    }
  }
}

TEST(SlidingWindow, NothingIsDecodedBeyondIt) {
  const at::NoGradGuard no_grad;
  Cepe model = open_fixture("families/mistral").model;
  model.config.decoder.sliding_window = 16;
  model.decoder.stack.config = model.config.decoder;
  const at::Tensor ids = at::randint(0, 96, {1, 17}, at::kLong), within = ids.narrow(1, 0, 16);
  EXPECT_EQ(decode(model, {within}).size(1), 16);
  EXPECT_EQ(decode_below(model, within).size(1), 16);
  EXPECT_THROW(decode(model, {ids}), Error);
  EXPECT_THROW(decode_below(model, ids), Error);
  KeyValueCache cache = make_cache(model.decoder.stack, 1, 17);
  decode(model, {.ids_BT = within, .cache = &cache});
  EXPECT_THROW(decode(model, {.ids_BT = ids.narrow(1, 16, 1), .cache = &cache}), Error);
  EXPECT_THROW(DecodeStep(model, cache, {}), Error);
}

}  // namespace
}  // namespace cepe
