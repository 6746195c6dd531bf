// Contexts that are cut, joined and rounded against those that are encoded so, in float64.
#include "context/context.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error_of.h"
#include "context/chunks.h"

namespace cepe {
namespace {

using testing::HasSubstr;

const std::vector<int64_t> kLengths = {8, 3, 16, 1, 5, 16};

// That its chunks are those, in their order and places.
void expect_chunks(const Context& context, const std::vector<TextChunk>& chunks) {
  ASSERT_EQ(context.chunks.size(), chunks.size());
  int64_t offset = 0;
  for (size_t i = 0; i < chunks.size(); ++i) {
    EXPECT_EQ(context.chunks[i].offset, offset);
    EXPECT_EQ(context.chunks[i].length, static_cast<int64_t>(chunks[i].tokens.size()));
    EXPECT_EQ(context.chunks[i].tokens, chunks[i].tokens);
    EXPECT_EQ(context.chunks[i].source.document, chunks[i].source.document);
    EXPECT_EQ(context.chunks[i].source.first_token, chunks[i].source.first_token);
    offset += context.chunks[i].length;
  }
  EXPECT_EQ(context.tokens(), offset);
}

class ContextOfAModel : public testing::Test {
 protected:
  const Cepe model_ = small_model("cepe-mha", at::kDouble);
  const std::vector<TextChunk> text_ = random_text(kLengths);
  const Context context_ = encode_context(model_, text_);
};

TEST_F(ContextOfAModel, SelectedChunksEqualTheirEncodingInThatOrder) {
  for (const std::vector<int64_t>& order :
       std::vector<std::vector<int64_t>>{{5, 0, 3}, {1, 2, 3}, {4}, {5, 4, 3, 2, 1, 0}, {2, 2, 3, 0, 1}}) {
    const Context found = select(context_, order);
    expect_chunks(found, in_order(text_, order));
    EXPECT_LT(norm_error(found.latents.states_BSE, encoded_alone(model_, in_order(text_, order))), 1e-12);
  }
  EXPECT_EQ(select(context_, {}).tokens(), 0);
}

TEST_F(ContextOfAModel, NeighboursAreAView) {
  const std::vector<int64_t> middle = {1, 2, 3}, apart = {1, 3};
  EXPECT_EQ(select(context_, middle).latents.states_BSE.const_data_ptr<double>(),
            context_.latents.states_BSE.const_data_ptr<double>() + 8 * context_.latents.states_BSE.size(2));
  EXPECT_FALSE(select(context_, apart).latents.states_BSE.is_alias_of(context_.latents.states_BSE));
}

TEST_F(ContextOfAModel, KeptKeysAndValuesGoWithTheirStatesAlone) {
  Context kept = context_;
  kept.latents.cache = cache_context(model_.decoder.stack, kept.latents);
  const std::vector<int64_t> all = {0, 1, 2, 3, 4, 5}, some = {0, 1, 2, 3, 4}, turned = {5, 1, 2, 3, 4, 0};
  EXPECT_EQ(select(kept, all).latents.cache, kept.latents.cache);
  EXPECT_EQ(select(kept, some).latents.cache, nullptr);
  EXPECT_EQ(select(kept, turned).latents.cache, nullptr);
  EXPECT_EQ(quantise(kept).latents.cache, nullptr);
  EXPECT_EQ(join(std::vector<Context>{kept, {}}).latents.cache, kept.latents.cache);
  EXPECT_EQ(join(std::vector<Context>{kept, kept}).latents.cache, nullptr);
}

TEST_F(ContextOfAModel, JoinedContextsEqualTheEncodingOfAll) {
  const std::vector<TextChunk> other = random_text({4, 16}, 2);
  const std::vector<Context> parts = {encode_context(model_, other), {}, context_, encode_context(model_, other)};
  std::vector<TextChunk> all = other;
  all.insert(all.end(), text_.begin(), text_.end());
  all.insert(all.end(), other.begin(), other.end());
  const Context found = join(parts);
  expect_chunks(found, all);
  EXPECT_LT(norm_error(found.latents.states_BSE, encoded_alone(model_, all)), 1e-12);
  EXPECT_EQ(join({}).tokens(), 0);
}

// Rounding works token by token, so it may come before or after.
TEST_F(ContextOfAModel, ChunksAloneAreCutJoinedAndEncodedLater) {
  const Context alone = unencoded(text_);
  EXPECT_FALSE(alone.encoded());
  EXPECT_TRUE(context_.encoded());
  EXPECT_EQ(alone.tokens(), 0);
  EXPECT_EQ(encoder_tokens(alone), context_.tokens());
  const std::vector<int64_t> order = {5, 0, 3};
  const Context made = encode_selected(model_, alone, order);
  expect_chunks(made, in_order(text_, order));
  EXPECT_LT(norm_error(made.latents.states_BSE, encoded_alone(model_, in_order(text_, order))), 1e-12);
  // Cut, and joined to what was cut off.
  const std::vector<int64_t> head = {0, 1}, tail = {2, 3, 4, 5};
  const Context joined = join(std::vector<Context>{select(alone, head), Context(), select(alone, tail)});
  EXPECT_FALSE(joined.encoded());
  ASSERT_EQ(joined.chunks.size(), text_.size());
  for (size_t i = 0; i < text_.size(); ++i) {
    EXPECT_EQ(joined.chunks[i].tokens, text_[i].tokens);
    EXPECT_EQ(joined.chunks[i].offset, context_.chunks[i].offset);
  }
  EXPECT_THAT(error_of([&] { join(std::vector<Context>{alone, context_}); }), HasSubstr("chunks without states"));
}

TEST_F(ContextOfAModel, RoundsToEightBitsBeforeOrAfter) {
  const std::vector<int64_t> order = {5, 0, 1};
  const Context rounded = quantise(context_);
  EXPECT_EQ(rounded.latents.states_BSE.scalar_type(), at::kByte);
  const Latents before = select(rounded, order).latents, after = quantise(select(context_, order)).latents;
  EXPECT_TRUE(at::equal(before.states_BSE, after.states_BSE));
  EXPECT_TRUE(at::equal(before.scales_BS, after.scales_BS));
  const Context twice = join(std::vector<Context>{rounded, rounded});
  EXPECT_TRUE(
      at::equal(twice.latents.scales_BS.narrow(1, context_.tokens(), context_.tokens()), rounded.latents.scales_BS));
  // Half a step is 1/254 of a token's greatest number.
  const double error =
      norm_error(dense_states(rounded.latents, 0, rounded.tokens(), at::kDouble), context_.latents.states_BSE);
  EXPECT_GT(error, 0);
  EXPECT_LT(error, 1e-2);
}

TEST_F(ContextOfAModel, BoundsAreTheChunks) {
  const ChunkBounds bounds = chunk_bounds(context_);
  EXPECT_EQ(bounds.count(), 6);
  EXPECT_EQ(bounds.tokens(), 49);
  EXPECT_TRUE(at::equal(bounds.ends_M, at::tensor(std::vector<int64_t>{8, 11, 27, 28, 33, 49}, at::kLong)));
  EXPECT_THROW(chunk_bounds({}), Error);
}

TEST_F(ContextOfAModel, RefusesWhatDoesNotFit) {
  const auto joined = [&](Context other) {
    return error_of([&] { join(std::vector<Context>{context_, std::move(other)}); });
  };
  EXPECT_THAT(joined(quantise(context_)), HasSubstr("found 32 numbers a token in Double on cpu and 32 numbers a token "
                                                    "in Byte on cpu"));
  Context narrow = context_, masked = context_;
  narrow.latents.states_BSE = narrow.latents.states_BSE.narrow(2, 0, 16);
  masked.latents.mask_BS = at::ones({1, 49}, at::kBool);
  EXPECT_THAT(joined(narrow), HasSubstr("16 numbers a token"));
  EXPECT_THAT(joined(masked), HasSubstr("mask"));
  for (const int64_t chunk : {-1, 6}) {
    const std::vector<int64_t> chunks = {0, chunk};
    EXPECT_THAT(error_of([&] { select(context_, chunks); }), HasSubstr("there are 6"));
  }
  for (const TokenRange range : {TokenRange{40, 10}, TokenRange{-1, 3}, TokenRange{3, 0}}) {
    EXPECT_THAT(error_of([&] { select_tokens(context_.latents, {&range, 1}); }), HasSubstr("of 49 are asked for"));
  }
}

// Contexts of a batch are cut alike.
TEST(SelectTokens, OfABatch) {
  const Latents latents{.states_BSE = at::arange(2 * 6 * 3).view({2, 6, 3}),
                        .mask_BS = at::arange(12).view({2, 6}).gt(2)};
  const std::vector<TokenRange> ranges = {{4, 2}, {0, 1}, {1, 1}};
  const Latents found = select_tokens(latents, ranges);
  const at::Tensor order = at::tensor(std::vector<int64_t>{4, 5, 0, 1}, at::kLong);
  EXPECT_TRUE(at::equal(found.states_BSE, latents.states_BSE.index_select(1, order)));
  EXPECT_TRUE(at::equal(found.mask_BS, latents.mask_BS.index_select(1, order)));
}

}  // namespace
}  // namespace cepe
