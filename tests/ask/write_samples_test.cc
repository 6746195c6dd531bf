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
using ask_test::corpus_jsonl;
using ask_test::smollm2;
using ask_test::write;

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
  EXPECT_NE(sha256_file(one.files[2]), sha256_file(write_to(other, directory / "other", 1).files[2]));
  // A sample does not depend on how many are made: the second shard's first one is sample 50 of any run.
  other = config;
  other.shard_samples = 90;
  const AskWritten whole = write_to(other, directory / "whole", 2);
  const TokenShard all(whole.files[2]), second(one.files[3]);
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
        if (piece.context) {
          EXPECT_LE(piece.length, config.chunk_length);
        }
      }
      EXPECT_GE(chunks, 1);
      EXPECT_LE(chunks, 12);
      EXPECT_LE(decoder, config.decoder_tokens);
    }
  }
  EXPECT_EQ(samples, 90 + 3 * 10);
  int64_t counted = 0;
  for (const auto& [kind, counts] : written.training) counted += counts.samples;
  EXPECT_EQ(counted, 90);
  // Each kind is a domain, and held-out forms are one of validation alone.
  const std::vector<std::string> domains = TokenShard(directory / "out/valid/00.tokens").domains();
  EXPECT_EQ(domains.size(), ask_kinds().size() + 1);
  EXPECT_TRUE(written.validation.contains("held"));
  EXPECT_FALSE(written.training.contains("held"));
}

// Texts in a temporary file are the same texts, and leave nothing.
TEST(WriteSamples, TextsInAFileGiveTheSameBytes) {
  const TemporaryDirectory directory, scratch;
  AskConfig config = small(directory);
  config.validation = 0;
  const AskWritten held = write_to(config, directory / "held", 2);
  config.scratch = scratch.path().string();
  const AskWritten mapped = write_to(config, directory / "mapped", 2);
  ASSERT_EQ(held.files.size(), mapped.files.size());
  for (size_t i = 0; i < held.files.size(); ++i) EXPECT_EQ(sha256_file(held.files[i]), sha256_file(mapped.files[i]));
  EXPECT_EQ(scratch.entries(), 0u);
  config.scratch = (scratch / "none").string();
  EXPECT_EQ(error_of([&] { AskMaker(config, smollm2(), nullptr); }),
            config.scratch + ": cannot make a temporary file there: No such file or directory");
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
    ASSERT_EQ(item.at("gold").size(), 1u);
    std::string gold = item.at("documents").at(item.at("gold")[0].get<size_t>()).at("text");
    for (std::string* one : {&gold, &answer}) {
      for (char& c : *one) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
    EXPECT_NE(gold.find(answer), std::string::npos) << line;
  }
  EXPECT_EQ(ids.size(), 12u);
}

TEST(WriteSamples, WhatIsMissingIsSaid) {
  const TemporaryDirectory directory;
  AskConfig config = small(directory);
  config.chat = 0.5;
  EXPECT_EQ(error_of([&] { AskMaker(config, smollm2(), nullptr); }),
            "samples.chat: 0.5 of the samples are chats, but the model has no chat template: set samples.chat to 0");
  // Said before the sources are read.
  config.texts = {"nowhere.jsonl"};
  EXPECT_TRUE(error_of([&] { AskMaker(config, smollm2(), nullptr); }).starts_with("samples.chat"));
  config = small(directory);
  config.domains = {{"books", 1}};
  EXPECT_EQ(error_of([&] { AskMaker(config, smollm2(), nullptr); }),
            "sources.domains: no text is of the domain \"books\"");
  config = small(directory);
  config.questions.clear();
  config.kinds = {{"questions", 1}};
  EXPECT_EQ(error_of([&] { write_to(config, directory / "out", 1); }),
            "kinds.questions: sources.questions has no questions for training: give more or set kinds.questions to 0");
  config.kinds = {{"natural", 1}};
  config.encyclopaedic.clear();
  EXPECT_EQ(error_of([&] { write_to(config, directory / "out", 1); }),
            "kinds.natural: sources.encyclopaedic and sources.questions have no text for training: give more or set "
            "kinds.natural to 0");
  // One paragraph is for training, none is left for validation.
  config = small(directory);
  config.questions = {write(directory, "one.json",
                            R"([{"context": "Ada lives here.", "question": "Who lives here?", "answer": "Ada"}])")};
  EXPECT_EQ(error_of([&] { write_to(config, directory / "out", 1); }),
            "kinds.questions: sources.questions has no questions for validation (samples.validation): give more or set "
            "kinds.questions to 0");
  config = small(directory);
  config.texts = {write(directory, "one.txt", "One text by itself. It is all there is.")};
  config.encyclopaedic.clear();
  EXPECT_EQ(error_of([&] { write_to(config, directory / "out", 1); }),
            "samples.validation, samples.held: no text is kept for them: expected a domain of two documents or more");
  EXPECT_FALSE(std::filesystem::exists(directory / "out"));
}

// The shipped configuration with nothing but texts.
TEST(WriteSamples, TextsAloneAreEnough) {
  const TemporaryDirectory directory;
  Config file = Config::from_file("configs/ask/smollm2.toml");
  file.override_with("sources.texts=" + write(directory, "texts.jsonl", corpus_jsonl()));
  for (const char* key : {"samples.count=30", "samples.validation=2", "samples.held=3", "samples.chat=0"})
    file.override_with(key);
  const AskConfig config = read_ask_config(file, "configs/ask");
  const AskWritten written = write_to(config, directory / "out", 2);
  EXPECT_EQ(written.validation.size(), 7u);  // six kinds, and held-out forms
  for (const auto& [kind, counts] : written.validation) EXPECT_EQ(counts.samples, 2) << kind;
  EXPECT_FALSE(written.training.contains("natural"));
  EXPECT_FALSE(written.training.contains("questions"));
  EXPECT_EQ(TokenShard(directory / "out/train/00.tokens").documents().size(), 30u);
}

// Questions without an answer or a passage may not train either.
TEST(WriteSamples, RefusedFilesAreReadWhole) {
  const TemporaryDirectory directory;
  const auto left_out = [&](const std::string& name, const std::string& text, const std::string& settings = "") {
    AskConfig config = config_in(directory);
    config.refuse = {write(directory, name, text) + settings};
    const AskMaker maker(config, smollm2(), nullptr);
    return maker.counts().refused_questions;
  };
  EXPECT_EQ(left_out("none.jsonl", R"({"question": "Who is in none of the files at all?", "answer": "x"})"), 0);
  // No answer and no passage, in the forms that have none, plain lines and .ndjson.
  EXPECT_EQ(left_out("nq.jsonl", R"({"question": "Who keeps the lighthouse of rock 3?", "answer": ["x"]})"), 1);
  EXPECT_EQ(
      left_out("f.ndjson", R"({"id": "1", "question": "In which shade was barn 7 painted?", "golden_answers": ["x"]})"),
      1);
  EXPECT_EQ(
      left_out("squad2.json", R"({"data": [{"title": "T", "paragraphs": [{"context": "Nothing is said.", "qas": [)"
                              R"({"id": "1", "question": "How many lamps has the lighthouse of rock 5?", )"
                              R"("is_impossible": true, "answers": []}]}]}]})"),
      6);  // the same run of eight words asks of all six rocks
  // What a model answered has its question in the id.
  EXPECT_EQ(
      left_out("a.jsonl", R"({"id": {"question": "In which shade was barn 8 painted?", )"
                          R"("passages": [{"text": "Nothing is said."}]}, "text": "x", "stop_reason": "end_token"})"),
      1);
  const std::string path = (directory / "t.txt").string();
  EXPECT_EQ(error_of([&] { left_out("t.txt", "A text.", ";share=2"); }),
            "refuse.files: " + path + ";share=2: share= is for sources.questions: a file is refused as a whole");
  EXPECT_EQ(error_of([&] { left_out("t.txt", "A text.", ";lines=odd"); }),
            "refuse.files: " + path + ";lines=odd: lines= is for questions, found texts");
}

}  // namespace
}  // namespace cepe
