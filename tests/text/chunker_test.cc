#include "text/chunker.h"

#include <gtest/gtest.h>

#include <numeric>

#include "base/error.h"

namespace cepe {
namespace {

std::vector<TokenId> counting(int count, int first = 1) {
  std::vector<TokenId> out(static_cast<size_t>(count));
  std::iota(out.begin(), out.end(), first);
  return out;
}

TEST(Chunker, DocumentsShareNoChunk) {
  std::vector<TextChunk> chunks;
  append_chunks(counting(6), "a", 4, chunks);
  append_chunks(counting(4, 50), "b", 4, chunks);
  append_chunks({}, "empty", 4, chunks);
  append_chunks(counting(1, 90), "c", 4, chunks);
  ASSERT_EQ(chunks.size(), 4u);
  const std::vector<std::vector<TokenId>> tokens = {{1, 2, 3, 4}, {5, 6}, {50, 51, 52, 53}, {90}};
  const std::vector<std::string> documents = {"a", "a", "b", "c"};
  for (size_t i = 0; i < chunks.size(); ++i) {
    EXPECT_EQ(chunks[i].tokens, tokens[i]);
    EXPECT_EQ(chunks[i].source.document, documents[i]);
    EXPECT_EQ(chunks[i].source.first_token, i == 1 ? 4 : 0);
  }
  EXPECT_EQ(count_tokens(chunks), 11);
}

TEST(Chunker, EveryLengthKeepsEveryToken) {
  for (int length = 0; length < 40; ++length) {
    for (int chunk_length = 1; chunk_length < 9; ++chunk_length) {
      std::vector<TextChunk> chunks;
      append_chunks(counting(length), "a", chunk_length, chunks);
      std::vector<TokenId> all;
      for (const TextChunk& chunk : chunks) {
        ASSERT_EQ(chunk.source.first_token, static_cast<int64_t>(all.size()));
        ASSERT_LE(chunk.tokens.size(), static_cast<size_t>(chunk_length));
        all.insert(all.end(), chunk.tokens.begin(), chunk.tokens.end());
      }
      ASSERT_EQ(all, counting(length));
      ASSERT_EQ(chunks.size(), static_cast<size_t>((length + chunk_length - 1) / chunk_length));
    }
  }
}

TEST(Chunker, RefusesAChunkWithoutTokens) {
  std::vector<TextChunk> chunks;
  EXPECT_THROW(append_chunks(counting(3), "a", 0, chunks), Error);
}

}  // namespace
}  // namespace cepe
