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
  EXPECT_EQ(config.kinds.at("pairs"), 2);
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
  EXPECT_EQ(refused("[kinds]\nretrieved = 1\n[samples]\nquery_tokens = 256\ndecoder_tokens = 256\n"),
            "samples.query_tokens: expected fewer than samples.decoder_tokens, which is 256, found 256");
  EXPECT_EQ(refused("[samples]\nindexed = 0\n"), "samples.indexed: expected 1 to 2147483648, found 0");
  EXPECT_EQ(refused("domains = [\"books\"]\n"), "sources.domains: expected NAME=SHARE, found \"books\"");
  EXPECT_EQ(error_of([&] { read(directory, "[samples]\nseed = 1\n"); }), "sources.texts: no texts given");
}

TEST(AskConfig, KindsWithoutASourceAreLeftOut) {
  const TemporaryDirectory directory;
  const std::string texts = "[sources]\ntexts = [\"a.jsonl\"]\n";
  const AskConfig bare = read(directory, texts);
  EXPECT_EQ(bare.kinds.at("natural"), 0);
  EXPECT_EQ(bare.kinds.at("questions"), 0);
  EXPECT_EQ(bare.notes,
            (std::vector<std::string>{
                "kinds.natural is 0: it needs sources.encyclopaedic or sources.questions, which is not given",
                "kinds.questions is 0: it needs sources.questions, which is not given"}));
  const AskConfig articles = read(directory, texts + "encyclopaedic = [\"a\"]\n");
  EXPECT_EQ(articles.kinds.at("natural"), 2.5);
  EXPECT_EQ(articles.notes.size(), 1u);
  const AskConfig all = read(directory, texts + "questions = [\"q.json\"]\n[kinds]\nnatural = 0\n");
  EXPECT_EQ(all.kinds.at("natural"), 0);
  EXPECT_EQ(all.kinds.at("questions"), 5);
  EXPECT_TRUE(all.notes.empty());
  EXPECT_EQ(error_of([&] { read(directory, texts + "[kinds]\nquestions = 3\n"); }),
            "kinds.questions: 3 needs sources.questions, which is not given");
  EXPECT_EQ(error_of([&] { read(directory, texts + "[kinds]\nnatural = 1\n"); }),
            "kinds.natural: 1 needs sources.encyclopaedic or sources.questions, which is not given");
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
