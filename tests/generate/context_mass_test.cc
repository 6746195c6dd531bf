// Which chunks were read most: cross-attention has no positions, so the order of the chunks changes nothing but their
// numbers.
#include "generate/context_mass.h"

#include <gtest/gtest.h>

#include "context/encode_context.h"
#include "model/additions.h"

namespace cepe {
namespace {

TEST(ContextMass, FollowsTheChunksThroughAnotherOrder) {
  const OpenedModel opened = open_model(std::filesystem::path(CEPE_TEST_DATA) / "generate" / "published");
  std::vector<TextChunk> chunks;
  for (const char* text : {"The harbour lay quiet under a grey sky.", "Two boats said nothing.", "Who goes there?"}) {
    append_chunks(opened.tokenizer->encode(text), text, 32, chunks);
  }
  const Context context = encode_context(opened.model, chunks);
  const int64_t count = static_cast<int64_t>(chunks.size());
  std::vector<int64_t> order;
  for (int64_t i = 0; i < count; ++i) order.push_back((i + 2) % count);
  const Context other = select(context, order);
  const std::vector<TokenId> prompt = {5, 6, 7}, written = {8, 9};
  const std::vector<ChunkMass> found = most_read_chunks(opened, {prompt, written, context}, 10),
                               again = most_read_chunks(opened, {prompt, written, other}, 10);
  ASSERT_EQ(found.size(), chunks.size());
  ASSERT_EQ(again.size(), chunks.size());
  double sum = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    const ChunkMass& mass = found[i];
    const TextChunk& chunk = chunks[static_cast<size_t>(mass.chunk)];
    EXPECT_EQ(mass.source, chunk.source.document);
    EXPECT_EQ(mass.first_token, chunk.source.first_token);
    EXPECT_EQ(mass.tokens, static_cast<int64_t>(chunk.tokens.size()));
    EXPECT_EQ(mass.source.substr(0, mass.text.size()), mass.text) << "the first words of the document";
    EXPECT_FALSE(mass.text.empty());
    EXPECT_EQ(order[static_cast<size_t>(again[i].chunk)], mass.chunk);
    EXPECT_NEAR(again[i].mass, mass.mass, 1e-5);
    EXPECT_GE(found[i == 0 ? 0 : i - 1].mass, mass.mass);
    sum += mass.mass;
  }
  EXPECT_NEAR(sum, 1, 1e-6);
  EXPECT_EQ(most_read_chunks(opened, {prompt, written, context}, 1).size(), 1u);
  EXPECT_TRUE(most_read_chunks(opened, {prompt, written, {}}, 10).empty());
}

// A chunk of pooled states is as long as what was read.
TEST(ContextMass, CountsTokensOfPooledChunks) {
  OpenedModel opened = open_model(std::filesystem::path(CEPE_TEST_DATA) / "generate" / "published");
  set_cross_variants(opened.model, {.pooling = 3}, "test");
  std::vector<TextChunk> chunks;
  append_chunks(opened.tokenizer->encode("The harbour lay quiet under a grey sky."), "a", 16, chunks);
  const Context context = encode_context(opened.model, chunks);
  const std::vector<TokenId> prompt = {5, 6, 7}, written = {8, 9};
  const std::vector<ChunkMass> found = most_read_chunks(opened, {prompt, written, context}, 10);
  ASSERT_EQ(found.size(), chunks.size());
  for (const ChunkMass& mass : found) {
    EXPECT_EQ(mass.tokens, std::ssize(chunks[static_cast<size_t>(mass.chunk)].tokens));
  }
  EXPECT_LT(context.chunks[0].length, std::ssize(chunks[0].tokens));
}

}  // namespace
}  // namespace cepe
