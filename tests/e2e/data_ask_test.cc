// cepe data ask: samples of texts and questions, by a configuration and what stands on the command line.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/file.h"
#include "data/shards.h"
#include "e2e/run_cepe.h"
#include "text/tokenizer/tokenizer.h"

namespace cepe {
namespace {

std::string texts() {
  std::string lines;
  for (int d = 0; d < 6; ++d) {
    std::string text;
    for (int s = 0; s < 300; ++s) {
      text += "On day " + std::to_string(1000 * d + s) + " the ferry left Bergen with " + std::to_string(7 * s + d) +
              " passengers and came back before Sunday. ";
    }
    lines += R"({"text": ")" + text +
             R"(", "domain": "prose"})"
             "\n";
  }
  return lines;
}

class DataAsk : public testing::Test {
 protected:
  std::vector<std::string> command(const std::string& out, std::vector<std::string> more = {}) const {
    std::vector<std::string> all{"data",
                                 "ask",
                                 "configs/ask/smollm2.toml",
                                 "--model",
                                 golden("plain"),
                                 "--out",
                                 (directory_.path() / out).string(),
                                 "--sources.texts=" + texts_,
                                 "--sources.questions=" + questions_,
                                 "--kinds.natural=0",
                                 "--samples.count=40",
                                 "--samples.validation=0",
                                 "--samples.held=4",
                                 "--samples.chunks=1,4,8",
                                 "--samples.chunk_weights=1,1,1"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  TemporaryDirectory directory_;
  std::string texts_ = directory_.write("texts.jsonl", texts());
  std::string questions_ = directory_.write(
      "q.json",
      R"([{"context": "The lamp was lit by Anna Hale.", "question": "Who lit the lamp?", "answer": "Anna Hale"},
                    {"context": "The door was shut.", "question": "What was shut?", "answer": "The door"},
                    {"context": "It rained in June.", "question": "When did it rain?", "answer": "in June"}])");
};

TEST_F(DataAsk, WritesTheSameShardsForAnyNumberOfThreads) {
  const CommandResult one = run_cepe(command("one", {"--threads", "1"}));
  ASSERT_EQ(one.status, 0) << one.err;
  EXPECT_NE(one.out.find("questions"), std::string::npos) << one.out;
  EXPECT_NE(one.out.find("left out for overlap"), std::string::npos) << one.out;
  ASSERT_EQ(run_cepe(command("three", {"--threads=3"})).status, 0);
  for (const char* name : {"train/00.tokens", "held.jsonl"}) {
    EXPECT_EQ(sha256_file(directory_.path() / "one" / name), sha256_file(directory_.path() / "three" / name)) << name;
  }
  // The environment sets keys, too.
  ASSERT_EQ(run_cepe(command("other"), {.shell = "export CEPE_SAMPLES_SEED=5"}).status, 0);
  EXPECT_NE(sha256_file(directory_.path() / "one/train/00.tokens"),
            sha256_file(directory_.path() / "other/train/00.tokens"));
}

TEST_F(DataAsk, BadInputIsOneSentence) {
  expect_refused(command("out", {"--samples.cuont=3"}), "samples.cuont");
  expect_refused(command("out", {"--sources.questions=" + directory_.write("bad.jsonl", "{\"question\": 1}\n")}),
                 "bad.jsonl:1: expected a question in one of the forms that are read, found an object with");
  expect_refused(command("out", {"--sources.texts=/absent.jsonl"}), "/absent.jsonl");
  expect_refused({"data", "ask", "--model", golden("plain"), "--out", "/tmp/o"}, "config is required");
  expect_refused({"data", "ask", "configs/ask/smollm2.toml", "--model", golden("plain") + "/tokenizer.json", "--out",
                  "/tmp/o", "--sources.texts=" + texts_},
                 "the model has no chat template");
}

// What stood there before `ask` goes on as it did.
TEST_F(DataAsk, PlainFilesStillBecomeShards) {
  const std::string out = (directory_.path() / "plain").string();
  for (const std::vector<std::string>& order :
       {std::vector<std::string>{"data", texts_, "--model", golden("plain"), "--out", out},
        std::vector<std::string>{"data", "--model", golden("plain"), "--out", out, texts_}}) {
    const CommandResult result = run_cepe(order);
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_TRUE(std::filesystem::exists(directory_.path() / "plain/texts.tokens"));
  }
  expect_refused({"data", "--model", golden("plain"), "--out", out}, "files is required");
  expect_refused({"data", "--out", out, texts_}, "--model is required");
}

// Answer distillation with the real model: prompts of a question file, its own answers, samples of them.
TEST_F(DataAsk, TheDecodersOwnAnswersBecomeSamples) {
  const std::string model = "SmolLM2-135M-Instruct.Q4_1.gguf", prompts = (directory_.path() / "prompts.jsonl").string(),
                    answers = (directory_.path() / "answers.jsonl").string();
  const CommandResult made =
      run_cepe({"data", "prompts", questions_, "--out", prompts, "--instruction", "Answer in a few words."});
  ASSERT_EQ(made.status, 0) << made.err;
  EXPECT_NE(made.out.find("wrote 3 prompts"), std::string::npos) << made.out;
  const CommandResult written = run_cepe(
      {"generate", "--model", model, "--prompts", prompts, "--out", answers, "--max-tokens", "100", "--device", "cpu"});
  ASSERT_EQ(written.status, 0) << written.err;
  std::vector<std::string> texts;
  std::istringstream lines(read_file(answers));
  for (std::string line; std::getline(lines, line);)
    texts.push_back(nlohmann::json::parse(line).at("text").get<std::string>());
  const auto names_her = [](const std::string& text) { return text.find("Anna Hale") != std::string::npos; };
  EXPECT_TRUE(std::any_of(texts.begin(), texts.end(), names_her)) << read_file(answers);
  std::vector<std::string> ask = {"data",
                                  "ask",
                                  "configs/ask/smollm2.toml",
                                  "--model",
                                  golden("plain"),
                                  "--out",
                                  (directory_.path() / "own").string(),
                                  "--sources.texts=" + texts_,
                                  "--sources.questions=" + answers,
                                  "--kinds.questions=1",
                                  "--samples.count=12",
                                  "--samples.validation=0",
                                  "--samples.held=0",
                                  "--samples.chat=1.0",
                                  "--samples.unanswerable=0",
                                  "--samples.chunks=1",
                                  "--samples.chunk_weights=1"};
  for (const char* kind : {"facts", "needles", "pairs", "variables", "recall", "cloze", "natural"})
    ask.push_back(std::string("--kinds.") + kind + "=0");
  const CommandResult asked = run_cepe(ask);
  ASSERT_EQ(asked.status, 0) << asked.err;
  EXPECT_NE(asked.out.find("questions"), std::string::npos) << asked.out;
  // What is scored are answers of that file, to their last word, behind the instruction that they were written for.
  const TokenShard shard(directory_.path() / "own/train/00.tokens");
  ASSERT_EQ(shard.documents().size(), 12u);
  const auto tokenizer = load_tokenizer_json(golden("plain") + "/tokenizer.json");
  for (size_t i = 0; i < shard.documents().size(); ++i) {
    int64_t from = shard.documents()[i].offset, scored = 0;
    std::string read;  // by the decoder, and not scored
    for (const SamplePiece& piece : shard.pieces(i)) {
      std::vector<int64_t> ids(static_cast<size_t>(piece.length));
      shard.read(from, piece.length, ids.data());
      from += piece.length;
      const std::string text = tokenizer->decode(std::vector<TokenId>(ids.begin(), ids.end()));
      if (!piece.context && piece.weight == 0) read += text;
      if (piece.weight == 0 || piece.length < 3) continue;
      const auto is_answer = [&](const std::string& answer) { return text.find(answer) != std::string::npos; };
      EXPECT_TRUE(std::any_of(texts.begin(), texts.end(), is_answer)) << text;
      ++scored;
    }
    EXPECT_GT(scored, 0);
    EXPECT_NE(read.find("Answer in a few words."), std::string::npos) << read;
  }
  expect_refused({"data", "prompts", questions_, "--out", questions_}, "--out");
  expect_refused({"data", "prompts", "/absent.json", "--out", prompts}, "/absent.json");
}

}  // namespace
}  // namespace cepe
