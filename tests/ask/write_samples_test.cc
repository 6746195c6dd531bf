#include "ask/write_samples.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "ask/ask_fixture.h"
#include "base/error_of.h"
#include "base/file.h"
#include "text/text_file.h"

namespace cepe {
namespace {

using ask_test::config_in;
using ask_test::smollm2;

AskConfig small(const TemporaryDirectory& directory) {
  AskConfig config = config_in(directory);
  config.count = 90;
  config.shard_samples = 50;
  config.validation = 3;
  config.held = 12;
  config.chunks = {1, 4, 12};
  config.chunk_weights = {1, 1, 1};
  return config;
}

AskWritten write_to(const AskConfig& config, const std::filesystem::path& out, int64_t threads) {
  const AskMaker maker(config, smollm2(), nullptr);
  return write_samples(maker, config, {smollm2().vocabulary_size(), 0}, {.out = out, .threads = threads});
}

TEST(WriteSamples, TheSameBytesForAnyNumberOfThreads) {
  const TemporaryDirectory directory;
  const AskConfig config = small(directory);
  const AskWritten one = write_to(config, directory / "one", 1), three = write_to(config, directory / "three", 3);
  ASSERT_EQ(one.files.size(), 4u);
  for (size_t i = 0; i < one.files.size(); ++i) {
    EXPECT_EQ(one.files[i].filename(), three.files[i].filename());
    EXPECT_EQ(sha256_file(one.files[i]), sha256_file(three.files[i]));
  }
  AskConfig other = config;
  other.seed = 2;
  EXPECT_NE(sha256_file(one.files[0]), sha256_file(write_to(other, directory / "other", 1).files[0]));
  // A sample does not depend on how many are made: the second shard's first one is sample 50 of any run.
  other = config;
  other.shard_samples = 90;
  const AskWritten whole = write_to(other, directory / "whole", 2);
  const TokenShard all(whole.files[0]), second(one.files[1]);
  EXPECT_EQ(all.documents().size(), 90u);
  EXPECT_EQ(all.documents()[50].length, second.documents()[0].length);
  EXPECT_EQ(all.pieces(50), second.pieces(0));
}

TEST(WriteSamples, SamplesKeepTheRules) {
  const TemporaryDirectory directory;
  const AskConfig config = small(directory);
  const AskWritten written = write_to(config, directory / "out", 2);
  int64_t samples = 0;
  for (const char* name : {"train/00.tokens", "train/01.tokens", "valid/00.tokens"}) {
    const TokenShard shard(directory / "out" / name);
    EXPECT_EQ(shard.kind(), ShardKind::samples);
    for (size_t d = 0; d < shard.documents().size(); ++d, ++samples) {
      int64_t chunks = 0, decoder = 0;
      for (const SamplePiece& piece : shard.pieces(d)) {
        chunks += piece.context ? 1 : 0;
        decoder += piece.context ? 0 : piece.length;
        if (piece.context) EXPECT_LE(piece.length, config.chunk_length);
      }
      EXPECT_GE(chunks, 1);
      EXPECT_LE(chunks, 12);
      EXPECT_LE(decoder, config.decoder_tokens);
    }
  }
  EXPECT_EQ(samples, 90 + 3 * 9);
  int64_t counted = 0;
  for (const auto& [kind, counts] : written.training) counted += counts.samples;
  EXPECT_EQ(counted, 90);
  // Each kind is a domain, and held-out forms are one of validation alone.
  const std::vector<std::string> domains = TokenShard(directory / "out/valid/00.tokens").domains();
  EXPECT_EQ(domains.size(), ask_kinds().size() + 1);
  EXPECT_TRUE(written.validation.contains("held"));
  EXPECT_FALSE(written.training.contains("held"));
}

// Training takes directories: a shard that an earlier, longer run left would be trained on.
TEST(WriteSamples, ShardsOfAnotherRunAreRefused) {
  const TemporaryDirectory directory;
  const AskConfig config = small(directory);
  std::filesystem::create_directories(directory / "out/train");
  write_file(directory / "out/train/02.tokens", "old");
  EXPECT_EQ(error_of([&] { write_to(config, directory / "out", 1); }),
            (directory / "out/train/02.tokens").string() +
                ": a token shard that is not of this run, which writes 2: choose another directory");
  EXPECT_FALSE(std::filesystem::exists(directory / "out/train/00.tokens"));
}

TEST(WriteSamples, HeldQuestionsAreJsonLines) {
  const TemporaryDirectory directory;
  write_to(small(directory), directory / "out", 2);
  TextFile file(directory / "out/held.jsonl");
  std::set<std::string> ids;
  for (std::string line; file.next_line(line);) {
    const nlohmann::json item = nlohmann::json::parse(line);
    ids.insert(item.at("id"));
    std::string text;
    for (const nlohmann::json& document : item.at("documents")) text += document.at("text").get<std::string>() + "\n";
    std::string answer = item.at("answers").at(0);
    if (text.find(answer) == std::string::npos) answer[0] = static_cast<char>(std::toupper(answer[0]));
    EXPECT_NE(text.find(answer), std::string::npos) << line;
    for (const nlohmann::json& gold : item.at("gold")) EXPECT_LT(gold.get<size_t>(), item.at("documents").size());
    EXPECT_FALSE(item.at("gold").empty());
  }
  EXPECT_EQ(ids.size(), 12u);
}

TEST(WriteSamples, WhatIsMissingIsSaid) {
  const TemporaryDirectory directory;
  AskConfig config = small(directory);
  config.chat = 0.5;
  EXPECT_EQ(error_of([&] { AskMaker(config, smollm2(), nullptr); }),
            "samples.chat: 0.5 of the samples are chats, but the model has no chat template");
  config = small(directory);
  config.domains = {{"books", 1}};
  EXPECT_EQ(error_of([&] { AskMaker(config, smollm2(), nullptr); }),
            "sources.domains: no text is of the domain \"books\"");
  config = small(directory);
  config.questions.clear();
  config.kinds = {{"questions", 1}};
  for (const AskKind& kind : ask_kinds()) config.kinds.try_emplace(kind.name, 0);
  EXPECT_NE(error_of([&] { write_to(config, directory / "out", 1); }).find("nothing could be asked of the sources"),
            std::string::npos);
}

}  // namespace
}  // namespace cepe
