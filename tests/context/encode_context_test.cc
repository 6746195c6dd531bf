// Contexts against each chunk encoded by itself, and which chunks are encoded at all.
#include "context/encode_context.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unordered_map>

#include "base/error_of.h"
#include "context/chunks.h"
#include "model/additions.h"

namespace cepe {
namespace {

using testing::HasSubstr;

// The states of chunks by key, and how often each was asked for.
struct KeptStates {
  std::unordered_map<ChunkKey, Latents> states;
  std::unordered_map<ChunkKey, int> asked;

  void put(const ModelFingerprint& encoder, const Context& context) {
    for (const ContextChunk& chunk : context.chunks) {
      const TokenRange range{chunk.offset, chunk.length};
      states[chunk_key(encoder, chunk.tokens)] = select_tokens(context.latents, {&range, 1});
    }
  }
  KnownChunks known(const ModelFingerprint& encoder) {
    return {encoder, [this](const ChunkKey& key, std::span<const TokenId>) {
              ++asked[key];
              const auto found = states.find(key);
              return found == states.end() ? Latents{} : found->second;
            }};
  }
};

std::vector<TextChunk> joined(std::vector<TextChunk> first, const std::vector<TextChunk>& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

TEST(EncodeContext, EqualsEachChunkAlone) {
  const Cepe model = small_model("cepe-gqa-last2", at::kDouble);
  const std::vector<TextChunk> text = random_text({16, 16, 9, 16, 5});
  const Context context = encode_context(model, text);
  EXPECT_FALSE(context.latents.mask_BS.defined());
  EXPECT_FALSE(context.latents.states_BSE.requires_grad());
  EXPECT_LT(norm_error(context.latents.states_BSE, encoded_alone(model, text)), 1e-12);
  for (size_t i = 0; i < text.size(); ++i) EXPECT_EQ(context.chunks[i].tokens, text[i].tokens);
  EXPECT_EQ(encode_context(model, {}).tokens(), 0);
}

// Chunks whose states are means of three, cut and joined like others; states that were not pooled are others.
TEST(EncodeContext, OfPooledStates) {
  Cepe model = small_model("cepe-gqa-last2", at::kDouble);
  const ModelFingerprint whole = encoder_fingerprint(model, /*int8=*/false);
  set_cross_variants(model, {.pooling = 3}, "test");
  const ModelFingerprint pooled = encoder_fingerprint(model, /*int8=*/false);
  EXPECT_NE(whole.bytes, pooled.bytes);
  const std::vector<TextChunk> text = random_text({16, 16, 9, 1, 5});
  const Context context = encode_context(model, text);
  EXPECT_LT(norm_error(context.latents.states_BSE, encoded_alone(model, text)), 1e-12);
  std::vector<int64_t> lengths;
  for (const ContextChunk& chunk : context.chunks) lengths.push_back(chunk.length);
  EXPECT_EQ(lengths, (std::vector<int64_t>{6, 6, 3, 1, 2}));
  const std::vector<int64_t> some = {4, 2};
  const Context selected = select(context, some);
  EXPECT_EQ(selected.tokens(), 5);
  EXPECT_TRUE(at::equal(selected.latents.states_BSE.narrow(1, 0, 2), context.latents.states_BSE.narrow(1, 16, 2)));
  KeptStates kept;
  kept.put(pooled, selected);
  const Context again = encode_missing(model, text, kept.known(pooled));
  EXPECT_LT(norm_error(again.latents.states_BSE, context.latents.states_BSE), 1e-12);
}

TEST(EncodeContext, InEightBitsItIsTheSameRounded) {
  const Cepe model = small_model("cepe-mha");
  const std::vector<TextChunk> text = random_text({16, 16, 9, 16, 5});
  const Latents expected = quantise(encode_context(model, text)).latents,
                found = encode_context(model, text, {.int8 = true}).latents;
  EXPECT_TRUE(at::equal(found.states_BSE, expected.states_BSE));
  EXPECT_TRUE(at::equal(found.scales_BS, expected.scales_BS));
}

TEST(EncodeContext, ALongOneIsReadInGroups) {
  const Cepe model = small_model("cepe-mha");
  const std::vector<TextChunk> text = random_text(std::vector<int64_t>(700, 31));
  int64_t reported = 0, calls = 0;
  const Context context = encode_context(model, text, {.progress = [&](int64_t count) {
                                           reported += count;
                                           ++calls;
                                         }});
  EXPECT_EQ(reported, 700);
  EXPECT_EQ(calls, 3) << "groups of 8,192 tokens: 264, 264 and 172 chunks";
  std::vector<int64_t> ids;
  for (const TextChunk& chunk : text) ids.insert(ids.end(), chunk.tokens.begin(), chunk.tokens.end());
  const at::NoGradGuard no_gradients;
  const at::Tensor whole = encode(model, {at::tensor(ids, at::kLong).view({1, 700, 31}), {}}).states_BSE;
  EXPECT_LT(norm_error(context.latents.states_BSE, whole), 1e-5);
}

// Every chunk of every other place is known, with states that no encoder makes: what is not known is encoded, what is
// known is not.
TEST(EncodeMissing, EncodesWhatIsMissingAndNothingElse) {
  const Cepe model = small_model("cepe-mha", at::kDouble);
  const std::vector<TextChunk> text = random_text({16, 7, 16, 16, 3, 16, 12});
  const ModelFingerprint encoder = encoder_fingerprint(model);
  const at::Tensor expected = encoded_alone(model, text);
  for (const int odd : {0, 1}) {
    KeptStates kept;
    std::vector<int64_t> progress;
    for (size_t i = odd; i < text.size(); i += 2) {
      kept.states[chunk_key(encoder, text[i].tokens)].states_BSE =
          at::full({1, static_cast<int64_t>(text[i].tokens.size()), 32}, 7.0, at::kDouble);
    }
    const Context found = encode_missing(model, text, kept.known(encoder),
                                         {.progress = [&](int64_t count) { progress.push_back(count); }});
    EXPECT_EQ(progress, odd ? (std::vector<int64_t>{3, 4}) : (std::vector<int64_t>{4, 3}));
    EXPECT_EQ(kept.asked.size(), text.size());
    for (size_t i = 0; i < text.size(); ++i) {
      const at::Tensor states = found.latents.states_BSE.narrow(1, found.chunks[i].offset, found.chunks[i].length);
      if (static_cast<int>(i) % 2 == odd) {
        EXPECT_TRUE(states.eq(7.0).all().item<bool>()) << i;
      } else {
        EXPECT_LT(norm_error(states, expected.narrow(1, found.chunks[i].offset, found.chunks[i].length)), 1e-12) << i;
      }
    }
  }
}

// In another order and beside new chunks the kept states are the same bytes. An encoder of zeros would make other ones.
TEST(EncodeMissing, KnownChunksAloneNeedNoEncoder) {
  Cepe model = small_model("cepe-mha");
  const std::vector<TextChunk> text = random_text({16, 7, 16});
  for (const bool int8 : {false, true}) {
    const ModelFingerprint encoder = encoder_fingerprint(model, int8);
    KeptStates kept;
    const Context first = encode_context(model, text, {.int8 = int8});
    kept.put(encoder, first);
    const std::vector<int64_t> order = {2, 1, 0, 1};
    Cepe empty = model;
    empty.encoder->stack.norm = at::zeros_like(model.encoder->stack.norm);
    const Context found = encode_missing(empty, in_order(text, order), kept.known(encoder), {.int8 = int8});
    const Context expected = select(first, order);
    EXPECT_TRUE(at::equal(found.latents.states_BSE, expected.latents.states_BSE));
    if (int8) {
      EXPECT_TRUE(at::equal(found.latents.scales_BS, expected.latents.scales_BS));
    }
    EXPECT_TRUE(encode_context(empty, text).latents.states_BSE.eq(0).all().item<bool>());
  }
}

TEST(EncodeMissing, EqualChunksAreEncodedOnce) {
  const Cepe model = small_model("cepe-mha", at::kDouble);
  const std::vector<TextChunk> once = random_text({16, 7, 16}), more = random_text({16}, 2);
  const std::vector<TextChunk> text = joined(joined(once, more), joined(once, once));
  KeptStates kept;
  std::vector<int64_t> progress;
  const Context found = encode_missing(model, text, kept.known(encoder_fingerprint(model)),
                                       {.progress = [&](int64_t count) { progress.push_back(count); }});
  EXPECT_EQ(progress, (std::vector<int64_t>{6, 4})) << "six chunks that stand there already, four that are encoded";
  EXPECT_EQ(kept.asked.size(), 4u);
  for (const auto& [key, times] : kept.asked) EXPECT_EQ(times, 1);
  EXPECT_LT(norm_error(found.latents.states_BSE, encoded_alone(model, text)), 1e-12);
  EXPECT_TRUE(at::equal(found.latents.states_BSE.narrow(1, 55, 39), found.latents.states_BSE.narrow(1, 0, 39)));
}

TEST(EncodeMissing, RefusesStatesOfAnotherKind) {
  const Cepe model = small_model("cepe-mha");
  const std::vector<TextChunk> text = random_text({16});
  const auto with = [&](const Latents& states, bool int8 = false) {
    const KnownChunks known{{}, [&](const ChunkKey&, std::span<const TokenId>) { return states; }};
    return error_of([&] { encode_missing(model, text, known, {.int8 = int8}); });
  };
  const Latents right{.states_BSE = at::ones({1, 16, 32})};
  EXPECT_EQ(with(right), "");
  EXPECT_EQ(with(quantize(right), true), "");
  EXPECT_THAT(with(right, true), HasSubstr("should be in Byte and without a mask, found Float"));
  EXPECT_THAT(with(quantize(right)), HasSubstr("should be in Float"));
  EXPECT_THAT(with({.states_BSE = at::ones({1, 15, 32})}), HasSubstr("should be 1 x 16 x 32"));
  EXPECT_THAT(with({.states_BSE = at::ones({1, 16, 64})}), HasSubstr("should be 1 x 16 x 32"));
  EXPECT_THAT(with({.states_BSE = at::ones({1, 16, 32}), .mask_BS = at::ones({1, 16}, at::kBool)}), HasSubstr("mask"));
}

TEST(EncodeContext, RefusesWhatNoEncoderReads) {
  const Cepe model = small_model("cepe-mha"), plain = small_model("generate/plain");
  EXPECT_THAT(error_of([&] { encode_context(plain, random_text({4})); }), HasSubstr("has no encoder"));
  EXPECT_THAT(error_of([&] { encode_context(model, random_text({65})); }), HasSubstr("65 tokens"));
  EXPECT_THAT(error_of([&] { encode_context(model, std::vector<TextChunk>{{{}, {"a.txt", 0}}}); }),
              HasSubstr("a.txt: a chunk without tokens"));
  for (const TokenId token : {-1, 128}) {
    EXPECT_THAT(error_of([&] { encode_context(model, std::vector<TextChunk>{{{5, token}, {"a.txt", 0}}}); }),
                HasSubstr("outside the encoder's vocabulary of 128"));
  }
}

}  // namespace
}  // namespace cepe
