// Shards of samples (version 2).
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <random>

#include "base/error.h"
#include "base/temporary_directory.h"
#include "data/corpora.h"

namespace cepe {
namespace {

using Pieces = std::vector<SamplePiece>;

constexpr SamplePiece chunk(int64_t length) { return {length, true, 0}; }
constexpr SamplePiece read_only(int64_t length) { return {length, false, 0}; }
constexpr SamplePiece scored(int64_t length, float weight = 1) { return {length, false, weight}; }

std::vector<TokenId> counted(int64_t count, TokenId first = 0) {
  std::vector<TokenId> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(first + static_cast<TokenId>(i));
  return tokens;
}

// Two samples: one of two chunks and three segments, one without context.
void write_samples(const std::filesystem::path& path, int64_t vocabulary = 100) {
  ShardWriter writer(path, {vocabulary, 7}, ShardKind::samples);
  writer.add_sample(counted(13), Pieces{chunk(4), chunk(2), read_only(3), scored(2, 2.5f), scored(2, 0.25f)}, "needle");
  writer.add_sample(counted(4, 50), Pieces{read_only(1), scored(3)}, "plain");
  writer.commit();
}

int64_t total(const TokenShard& shard, size_t sample) {
  int64_t tokens = 0;
  for (const SamplePiece& piece : shard.pieces(sample)) tokens += piece.length;
  return tokens;
}

// Reads everything; what comes back keeps the rules or the constructor has thrown.
void read_all(const std::filesystem::path& path) {
  const TokenShard shard(path);
  std::vector<int64_t> ids(static_cast<size_t>(shard.tokens()));
  shard.read(0, shard.tokens(), ids.data());
  for (int64_t id : ids) EXPECT_TRUE(id >= 0 && id < shard.vocabulary().size);
  if (shard.kind() == ShardKind::documents) return;
  for (size_t i = 0; i < shard.documents().size(); ++i) {
    EXPECT_EQ(total(shard, i), shard.documents()[i].length);
    bool decoder = false;
    double weights = 0;
    for (const SamplePiece& piece : shard.pieces(i)) {
      EXPECT_FALSE(piece.context && (decoder || piece.weight != 0));
      decoder = decoder || !piece.context;
      weights += piece.weight;
    }
    EXPECT_TRUE(decoder && weights > 0 && std::isfinite(weights));
  }
}

TEST(Samples, RoundTripInTwoAndFourBytes) {
  for (int64_t vocabulary : {int64_t{100}, int64_t{65537}}) {
    const TemporaryDirectory directory;
    write_samples(directory / "a.tokens", vocabulary);
    const TokenShard shard(directory / "a.tokens");
    EXPECT_EQ(shard.kind(), ShardKind::samples);
    EXPECT_EQ(shard.vocabulary().fingerprint, 7u);
    ASSERT_EQ(shard.documents().size(), 2u);
    EXPECT_EQ(shard.documents()[1].offset, 13);
    EXPECT_EQ(shard.domains(), (std::vector<std::string>{"needle", "plain"}));
    EXPECT_EQ(shard.documents()[1].domain, 1);
    EXPECT_EQ(shard.pieces(0), (Pieces{chunk(4), chunk(2), read_only(3), scored(2, 2.5f), scored(2, 0.25f)}));
    EXPECT_EQ(shard.pieces(1), (Pieces{read_only(1), scored(3)}));
    std::vector<int64_t> ids(4);
    shard.read(13, 4, ids.data());
    EXPECT_EQ(ids, (std::vector<int64_t>{50, 51, 52, 53}));
    EXPECT_THROW(shard.pieces(2), Error);
  }
}

TEST(Samples, BytesAreThoseOfThePage) {
  const TemporaryDirectory directory;
  write_samples(directory / "a.tokens");
  const std::string bytes = read_file(directory / "a.tokens");
  const auto u32 = [&](size_t at) {
    uint32_t value;
    std::memcpy(&value, bytes.data() + at, 4);
    return value;
  };
  const auto u64 = [&](size_t at) {
    uint64_t value;
    std::memcpy(&value, bytes.data() + at, 8);
    return value;
  };
  // 64 of header, 17 ids of 2 bytes padded to 40, two samples of 40, seven pieces of 8, names of 10 + 9 padded to 24.
  ASSERT_EQ(bytes.size(), 64u + 40 + 80 + 56 + 24 + 64);
  EXPECT_EQ(u32(8), 2u);
  EXPECT_EQ(u64(104 + 40 + 24), 5u);  // first piece of the second sample
  EXPECT_EQ(u64(104 + 40 + 32), 2u);
  EXPECT_EQ(u32(184), 0x80000004u);  // a chunk of 4
  EXPECT_EQ(u32(184 + 3 * 8), 2u);
  EXPECT_EQ(u32(184 + 3 * 8 + 4), std::bit_cast<uint32_t>(2.5f));
  EXPECT_EQ(u64(bytes.size() - 64 + 24), 7u);
}

TEST(Samples, WriterRefusesAndGoesOn) {
  const TemporaryDirectory directory;
  ShardWriter writer(directory / "a.tokens", {100, 0}, ShardKind::samples);
  const auto refuses = [&](int64_t tokens, const Pieces& pieces) {
    return error_of<Error>([&] { writer.add_sample(counted(tokens), pieces, "x"); });
  };
  const float infinite = std::numeric_limits<float>::infinity(), none = std::numeric_limits<float>::quiet_NaN();
  EXPECT_NE(refuses(4, {chunk(2), scored(1)}).find("leave 1 tokens over"), std::string::npos);
  EXPECT_NE(refuses(4, {chunk(2), scored(3)}).find("has 3 tokens where 2 are left"), std::string::npos);
  EXPECT_NE(refuses(4, {scored(4), chunk(0)}).find("has 0 tokens"), std::string::npos);
  EXPECT_NE(refuses(4, {scored(2), chunk(2)}).find("context after the decoder"), std::string::npos);
  EXPECT_NE(refuses(4, {{2, true, 1}, scored(2)}).find("is context and has the weight"), std::string::npos);
  EXPECT_NE(refuses(4, {scored(4, -1)}).find("weight -1"), std::string::npos);
  EXPECT_NE(refuses(4, {scored(4, infinite)}).find("weight inf"), std::string::npos);
  EXPECT_NE(refuses(4, {scored(4, none)}).find("weight nan"), std::string::npos);
  EXPECT_NE(refuses(4, {chunk(2), read_only(2)}).find("no token after"), std::string::npos);
  EXPECT_NE(refuses(4, {chunk(4)}).find("no token after"), std::string::npos);
  EXPECT_NE(refuses(4, {chunk(3), scored(1)}).find("no token after"), std::string::npos);
  EXPECT_NE(refuses(4, {}).find("leave 4 tokens over"), std::string::npos);
  EXPECT_THROW(writer.add_sample(std::vector<TokenId>{1, 100}, Pieces{scored(2)}, "x"), Error);
  EXPECT_THROW(writer.add_sample(counted(2), Pieces{scored(2)}, ""), Error);
  EXPECT_THROW(writer.add(counted(2), "x"), Error);
  writer.add_sample(counted(2, 9), Pieces{scored(2)}, "x");
  writer.commit();

  const TokenShard shard(directory / "a.tokens");
  ASSERT_EQ(shard.documents().size(), 1u);
  std::vector<int64_t> ids(2);
  shard.read(0, 2, ids.data());
  EXPECT_EQ(ids, (std::vector<int64_t>{9, 10}));

  ShardWriter documents(directory / "b.tokens", {100, 0});
  EXPECT_THROW(documents.add_sample(counted(2), Pieces{scored(2)}, "x"), Error);
  documents.add(counted(2), "x");
  documents.commit();
  EXPECT_THROW(TokenShard(directory / "b.tokens").pieces(0), Error);
}

TEST(Samples, EveryTruncationIsRefused) {
  const TemporaryDirectory directory;
  write_samples(directory / "a.tokens");
  const std::string bytes = read_file(directory / "a.tokens");
  for (size_t size = 0; size < bytes.size(); ++size) {
    std::ofstream(directory / "cut.tokens", std::ios::binary) << bytes.substr(0, size);
    EXPECT_THROW(TokenShard(directory / "cut.tokens"), Error) << size;
  }
  write_file(directory / "long.tokens", bytes + std::string(8, '\0'));
  EXPECT_THROW(TokenShard(directory / "long.tokens"), Error);
}

TEST(Samples, DamagedBytesNeverCrash) {
  const TemporaryDirectory directory;
  write_samples(directory / "a.tokens");
  const std::string bytes = read_file(directory / "a.tokens");
  std::mt19937 random(1);
  int64_t refused = 0;
  for (int64_t i = 0; i < 4000; ++i) {
    std::string damaged = bytes;
    const size_t changes = 1 + random() % 3;
    for (size_t c = 0; c < changes; ++c)
      damaged[random() % damaged.size()] = static_cast<char>(random() % 4 == 0 ? 0xFF : random());
    std::ofstream(directory / "bad.tokens", std::ios::binary) << damaged;
    try {
      read_all(directory / "bad.tokens");
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 2000);
}

TEST(Samples, SaysWhatIsWrong) {
  const TemporaryDirectory directory;
  write_samples(directory / "a.tokens");
  const std::string bytes = read_file(directory / "a.tokens");
  const auto with = [&](size_t at, uint32_t value) {
    std::string changed = bytes;
    std::memcpy(changed.data() + at, &value, 4);
    write_file(directory / "bad.tokens", changed);
    return error_of<Error>([&] { TokenShard shard(directory / "bad.tokens"); });
  };
  const auto says = [](const std::string& error, const std::string& part) {
    EXPECT_NE(error.find("bad.tokens"), std::string::npos) << error;
    EXPECT_NE(error.find(part), std::string::npos) << error;
  };
  constexpr size_t samples = 104, pieces = 184;
  says(with(samples + 24, 1), "sample 0 starts at piece 1, expected 0");
  says(with(samples + 32, 9), "sample 0 has 9 pieces of 7");
  says(with(samples + 32, 0), "sample 0 has 0 pieces");
  says(with(samples + 32, 4), "sample 0: the pieces leave 2 tokens over");
  says(with(pieces, 4), "piece 1 is context after");  // the first chunk became a segment
  says(with(pieces, 0x80000005u), "sample 0: piece 4 has 2 tokens where 1 are left");
  says(with(pieces, 0x80000000u), "piece 0 has 0 tokens");
  says(with(pieces + 4, std::bit_cast<uint32_t>(1.0f)), "piece 0 is context and has the weight 1");
  says(with(pieces + 6 * 8 + 4, 0), "sample 1: no token after");
  says(with(pieces + 6 * 8 + 4, std::bit_cast<uint32_t>(-2.0f)), "piece 1 has the weight -2");
  says(with(pieces + 6 * 8 + 4, 0x7FC00000u), "weight nan");
  says(with(bytes.size() - 64 + 24, 6), "domain 1 takes");  // a piece too few: the names begin elsewhere
  says(with(8, 1), "7 pieces of samples in a shard of documents");
}

}  // namespace
}  // namespace cepe
