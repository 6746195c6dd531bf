#include "data/shards.h"

#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include "base/error.h"
#include "base/temporary_directory.h"
#include "data/corpora.h"

namespace cepe {
namespace {

// Reads everything of a shard; what it gives is inside the vocabulary or the constructor has thrown.
int64_t read_all(const std::filesystem::path& path) {
  const TokenShard shard(path);
  std::vector<int64_t> ids(static_cast<size_t>(shard.tokens()));
  shard.read(0, shard.tokens(), ids.data());
  for (int64_t id : ids) EXPECT_TRUE(id >= 0 && id < shard.vocabulary().size);
  return shard.tokens();
}

TEST(Shards, RoundTripInTwoAndFourBytes) {
  const TemporaryDirectory directory;
  for (int64_t vocabulary : {int64_t{50}, int64_t{65536}, int64_t{65537}, int64_t{150000}}) {
    const auto path = directory / "a.tokens";
    ShardWriter writer(path, {vocabulary, 77});
    const std::vector<TokenId> first = {0, 1, static_cast<TokenId>(vocabulary - 1)}, second = {5},
                               third = {4, 3, 2, 1, 0};
    writer.add(first, "books");
    writer.add(second, "code");
    writer.add(third, "books");
    EXPECT_FALSE(std::filesystem::exists(path));  // not before commit
    writer.commit();

    const TokenShard shard(path);
    EXPECT_EQ(shard.vocabulary().size, vocabulary);
    EXPECT_EQ(shard.vocabulary().fingerprint, 77u);
    ASSERT_EQ(shard.documents().size(), 3u);
    EXPECT_EQ(shard.documents()[2].offset, 4);
    EXPECT_EQ(shard.documents()[2].length, 5);
    EXPECT_EQ(shard.domains(), (std::vector<std::string>{"books", "code"}));
    EXPECT_EQ(shard.documents()[1].domain, 1);
    EXPECT_EQ(shard.documents()[2].domain, 0);
    std::vector<int64_t> ids(9);
    shard.read(0, 9, ids.data());
    EXPECT_EQ(ids, (std::vector<int64_t>{0, 1, vocabulary - 1, 5, 4, 3, 2, 1, 0}));
    EXPECT_THROW(shard.read(1, 9, ids.data()), Error);
    EXPECT_THROW(shard.read(-1, 1, ids.data()), Error);
    std::filesystem::remove(path);
  }
}

TEST(Shards, WriterRefuses) {
  const TemporaryDirectory directory;
  ShardWriter writer(directory / "a.tokens", {10, 0});
  EXPECT_THROW(writer.add(std::vector<TokenId>{}, "text"), Error);
  EXPECT_THROW(writer.add(std::vector<TokenId>{10}, "text"), Error);
  EXPECT_THROW(writer.add(std::vector<TokenId>{-1}, "text"), Error);
  EXPECT_THROW(writer.add(std::vector<TokenId>{1}, ""), Error);
}

TEST(Shards, LargeShardIsWrittenInPieces) {
  const TemporaryDirectory directory;
  const CorpusPlan plan{60000, {3'000'000, 11, 2'000'000}, {"a", "b"}};
  write_corpus(directory / "a.tokens", plan);
  const TokenShard shard(directory / "a.tokens");
  EXPECT_EQ(shard.tokens(), 5'000'011);
  std::vector<int64_t> ids(5);
  shard.read(3'000'009, 5, ids.data());
  EXPECT_EQ(ids, (std::vector<int64_t>{7 + 9, 7 + 10, 14, 15, 16}));
}

TEST(Shards, EveryTruncationIsRefused) {
  const TemporaryDirectory directory;
  write_corpus(directory / "a.tokens", {100, {5, 9, 2}, {"x", "y"}});
  const std::string bytes = read_file(directory / "a.tokens");
  for (size_t size = 0; size < bytes.size(); ++size) {
    std::ofstream(directory / "cut.tokens", std::ios::binary) << bytes.substr(0, size);
    EXPECT_THROW(TokenShard(directory / "cut.tokens"), Error) << size;
  }
  write_file(directory / "long.tokens", bytes + std::string(8, '\0'));
  EXPECT_THROW(TokenShard(directory / "long.tokens"), Error);
}

TEST(Shards, DamagedBytesNeverCrash) {
  const TemporaryDirectory directory;
  write_corpus(directory / "a.tokens", {100, {5, 9, 2, 1}, {"x", "y"}});
  const std::string bytes = read_file(directory / "a.tokens");
  std::mt19937 random(1);
  int64_t refused = 0;
  for (int64_t i = 0; i < 3000; ++i) {
    std::string damaged = bytes;
    const size_t changes = 1 + random() % 3;
    for (size_t c = 0; c < changes; ++c)
      damaged[random() % damaged.size()] = static_cast<char>(random() % 4 == 0 ? 0xFF : random());
    std::ofstream(directory / "bad.tokens", std::ios::binary) << damaged;
    try {
      EXPECT_EQ(read_all(directory / "bad.tokens"), 17);
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 1000);
}

TEST(Shards, SaysWhatIsWrong) {
  const TemporaryDirectory directory;
  write_corpus(directory / "a.tokens", {100, {5, 3}, {"x"}});
  const std::string bytes = read_file(directory / "a.tokens");
  const auto with = [&](size_t at, char value) {
    std::string changed = bytes;
    changed[at] = value;
    write_file(directory / "bad.tokens", changed);
    return error_of<Error>([&] { TokenShard shard(directory / "bad.tokens"); });
  };
  EXPECT_NE(with(0, 'X').find("not a token shard"), std::string::npos);
  EXPECT_NE(with(8, 3).find("version 3, expected 1 or 2"), std::string::npos);
  EXPECT_NE(with(64, 100).find("token id 100 is outside the vocabulary of 100"), std::string::npos);
  EXPECT_NE(with(64 + 16, 1).find("document 0 starts at token 1"), std::string::npos);
  EXPECT_NE(with(64 + 16 + 16, 1).find("domain 1 of 1"), std::string::npos);
  EXPECT_NE(with(bytes.size() - 64, 7).find("has"), std::string::npos);
}

}  // namespace
}  // namespace cepe
