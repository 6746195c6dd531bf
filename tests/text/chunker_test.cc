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

TEST(Chunker, PadsTheLastChunkOfEachDocument) {
  Chunks chunks{.chunk_length = 4};
  append_chunks(counting(6), chunks);
  append_chunks(counting(4, 50), chunks);
  append_chunks({}, chunks);
  append_chunks(counting(1, 90), chunks);
  EXPECT_EQ(chunks.ids, (std::vector<TokenId>{1, 2, 3, 4, 5, 6, 0, 0, 50, 51, 52, 53, 90, 0, 0, 0}));
  EXPECT_EQ(chunks.lengths, (std::vector<int64_t>{4, 2, 4, 1}));
  EXPECT_EQ(chunks.count(), 4);
  EXPECT_EQ(chunks.tokens(), 11);
}

TEST(Chunker, EveryLengthKeepsEveryToken) {
  for (int length = 0; length < 40; ++length) {
    for (int chunk_length = 1; chunk_length < 9; ++chunk_length) {
      Chunks chunks{.chunk_length = chunk_length};
      append_chunks(counting(length), chunks);
      std::vector<TokenId> real;
      for (size_t m = 0; m < chunks.lengths.size(); ++m) {
        for (int64_t l = 0; l < chunks.lengths[m]; ++l)
          real.push_back(chunks.ids[m * static_cast<size_t>(chunk_length) + static_cast<size_t>(l)]);
      }
      ASSERT_EQ(real, counting(length));
      ASSERT_EQ(chunks.count(), (length + chunk_length - 1) / chunk_length);
      ASSERT_EQ(chunks.ids.size(), static_cast<size_t>(chunks.count() * chunk_length));
    }
  }
}

TEST(Chunker, RefusesAChunkWithoutTokens) {
  Chunks chunks;
  EXPECT_THROW(append_chunks(counting(3), chunks), Error);
}

}  // namespace
}  // namespace cepe
