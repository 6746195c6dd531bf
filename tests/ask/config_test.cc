#include "ask/ask_config.h"

#include <gtest/gtest.h>

#include "ask/ask_fixture.h"
#include "base/error_of.h"

namespace cepe {
namespace {

AskConfig read(const TemporaryDirectory& directory, const std::string& text) {
  Config config = Config::from_file(ask_test::write(directory, "ask.toml", text));
  return read_ask_config(config, directory.path());
}

TEST(AskConfig, ReadsAndRefuses) {
  const TemporaryDirectory directory;
  const std::string texts = "[sources]\ntexts = [\"a.jsonl\"]\n";
  const AskConfig config =
      read(directory, texts + "domains = [\"books=2.5\"]\n[kinds]\nfacts = 3\n[samples]\nseed = 7\n");
  EXPECT_EQ(config.domains.at("books"), 2.5);
  EXPECT_EQ(config.kinds.at("facts"), 3);
  EXPECT_EQ(config.kinds.at("pairs"), 1);
  EXPECT_EQ(config.seed, 7);
  EXPECT_EQ(config.forms, directory / "forms.txt");

  const auto refused = [&](const std::string& more) { return error_of([&] { read(directory, texts + more); }); };
  EXPECT_NE(refused("[samples]\ncuont = 3\n").find("samples.cuont"), std::string::npos);
  EXPECT_NE(refused("[kinds]\nfact = 3\n").find("kinds.fact"), std::string::npos);
  EXPECT_EQ(refused("[kinds]\nfacts = -1\n"), "kinds.facts: expected a share of at least 0, found -1");
  EXPECT_EQ(refused("[samples]\nchat = 1.5\n"), "samples.chat: expected a share of 0 to 1, found 1.5");
  EXPECT_EQ(refused("[samples]\nchunks = [4, 4]\nchunk_weights = [1, 1]\n"),
            "samples.chunks: expected ascending numbers of at least 1, found 4 in place 1");
  EXPECT_EQ(refused("[samples]\nchunk_weights = [1]\n"), "samples.chunks: 5 classes, but samples.chunk_weights has 1");
  EXPECT_EQ(refused("domains = [\"books\"]\n"), "sources.domains: expected NAME=SHARE, found \"books\"");
  EXPECT_EQ(error_of([&] { read(directory, "[samples]\nseed = 1\n"); }), "sources.texts: no texts given");
}

TEST(AskConfig, TheShippedOneIsWhole) {
  Config config = Config::from_file("configs/ask/smollm2.toml");
  config.override_with("sources.texts=a.jsonl");
  const AskConfig read = read_ask_config(config, "configs/ask");
  EXPECT_TRUE(std::filesystem::exists(read.forms));
  EXPECT_TRUE(std::filesystem::exists(read.words));
}

}  // namespace
}  // namespace cepe
