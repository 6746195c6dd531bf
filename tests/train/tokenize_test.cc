#include "train/tokenize.h"

#include <gtest/gtest.h>
#include <zstd.h>

#include <fstream>

#include "base/error.h"
#include "base/file.h"
#include "base/temporary_directory.h"
#include "train/shards.h"

namespace cepe {
namespace {

void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string compressed(const std::string& text, int window_log) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log);
  std::string out(ZSTD_compressBound(text.size()), '\0');
  // Streamed without the size being known, so that the frame asks for the whole window.
  ZSTD_inBuffer input{text.data(), text.size(), 0};
  ZSTD_outBuffer output{out.data(), out.size(), 0};
  while (ZSTD_compressStream2(context, &output, &input, ZSTD_e_end) != 0) {
  }
  ZSTD_freeCCtx(context);
  out.resize(output.pos);
  return out;
}

std::vector<std::string> lines_of(const std::filesystem::path& path) {
  CorpusLines lines(path);
  std::vector<std::string> all;
  for (std::string line; lines.next(line);) all.push_back(line);
  return all;
}

std::unique_ptr<Tokenizer> tokenizer() { return load_tokenizer_json(CEPE_TEST_DATA "/generate/plain/tokenizer.json"); }

TEST(CorpusLines, PlainAndCompressedAreTheSame) {
  const TemporaryDirectory directory;
  std::vector<std::string> expected = {"one", "", "three with a carriage return", std::string(5'000'000, 'x'),
                                       "last, without an end"};
  const std::string text = "one\n\nthree with a carriage return\r\n" + expected[3] + "\nlast, without an end";
  write(directory / "a.jsonl", text);
  EXPECT_EQ(lines_of(directory / "a.jsonl"), expected);
  for (int window_log : {20, 28}) {  // 28: beyond what zstd accepts unasked
    write(directory / "a.jsonl.zst", compressed(text, window_log));
    EXPECT_EQ(lines_of(directory / "a.jsonl.zst"), expected);
  }
  write(directory / "two.jsonl.zst", compressed("a\nb", 20) + compressed("c\nd\n", 20));  // two frames
  EXPECT_EQ(lines_of(directory / "two.jsonl.zst"), (std::vector<std::string>{"a", "bc", "d"}));
}

TEST(CorpusLines, BrokenStreamsAreRefused) {
  const TemporaryDirectory directory;
  const std::string whole = compressed(std::string(100000, 'a') + "b\n", 20);
  write(directory / "cut.txt.zst", whole.substr(0, whole.size() - 3));
  EXPECT_NE(error_of<Error>([&] { lines_of(directory / "cut.txt.zst"); }).find("cut short"), std::string::npos);
  write(directory / "bad.txt.zst", "this is no zstd stream at all");
  EXPECT_NE(error_of<Error>([&] { lines_of(directory / "bad.txt.zst"); }).find("broken zstd stream"),
            std::string::npos);
  EXPECT_NE(error_of<Error>([&] { lines_of(directory / "none.txt"); }).find("cannot open"), std::string::npos);
}

TEST(Tokenize, JsonLinesBecomeAShard) {
  const TemporaryDirectory directory;
  std::string text;
  std::vector<std::string> texts;
  for (int64_t i = 0; i < 3000; ++i) {
    texts.push_back("document " + std::to_string(i) + " says \\\"hello\\\" " +
                    std::string(static_cast<size_t>(i % 7), 'a'));
    text += "{\"id\": \"" + std::to_string(i) + "\", \"text\": \"" + texts.back() + "\"" +
            (i % 2 ? ", \"domain\": \"odd\"" : "") + "}\n";
    if (i == 10) text += "{\"text\": \"\"}\n\n";
  }
  write(directory / "a.jsonl", text);
  const auto tok = tokenizer();
  TokenizeOptions options{directory / "out"};
  options.threads = 3;
  const TokenizeSummary summary = tokenize_file(*tok, directory / "a.jsonl", options);
  EXPECT_EQ(summary.documents, 3000);
  EXPECT_EQ(summary.empty, 1);
  EXPECT_EQ(summary.shard, directory / "out/a.tokens");

  const TokenShard shard(summary.shard);
  ASSERT_EQ(shard.documents().size(), 3000u);
  EXPECT_EQ(shard.domains(), (std::vector<std::string>{"text", "odd"}));
  EXPECT_EQ(shard.vocabulary().fingerprint, tokenizer_fingerprint(*tok));
  for (size_t i : {size_t{0}, size_t{11}, size_t{2999}}) {
    const ShardDocument& document = shard.documents()[i];
    std::vector<int64_t> ids(static_cast<size_t>(document.length));
    shard.read(document.offset, document.length, ids.data());
    const std::vector<TokenId> narrow(ids.begin(), ids.end());
    std::string expected = texts[i];
    for (size_t at; (at = expected.find('\\')) != std::string::npos;) expected.erase(at, 1);
    EXPECT_EQ(tok->decode(narrow), expected);
    EXPECT_EQ(document.domain, static_cast<int32_t>(i % 2));
  }
  const std::string hash = sha256_file(summary.shard);
  options.threads = 1;
  tokenize_file(*tok, directory / "a.jsonl", options);
  EXPECT_EQ(sha256_file(summary.shard), hash);
}

TEST(Tokenize, PlainTextIsOneDocument) {
  const TemporaryDirectory directory;
  write(directory / "book.txt.zst", compressed("one line\nand another\n", 20));
  TokenizeOptions options{directory.path()};
  options.default_domain = "books";
  const TokenizeSummary summary = tokenize_file(*tokenizer(), directory / "book.txt.zst", options);
  EXPECT_EQ(summary.documents, 1);
  EXPECT_EQ(summary.text_bytes, 21);
  EXPECT_EQ(TokenShard(summary.shard).domains(), std::vector<std::string>{"books"});
}

TEST(Tokenize, ErrorsNameFileAndLine) {
  const TemporaryDirectory directory;
  const auto refusal = [&](const std::string& text) {
    write(directory / "a.jsonl", text);
    return error_of<Error>([&] { tokenize_file(*tokenizer(), directory / "a.jsonl", {directory / "out"}); });
  };
  const std::string good = "{\"text\": \"fine\"}\n", file = (directory / "a.jsonl").string();
  EXPECT_EQ(refusal(good + "{\"text\": \n").rfind(file + ": line 2: not valid JSON at byte", 0), 0u);
  EXPECT_EQ(refusal(good + good + "[1]\n"), file + ": line 3: expected a JSON object, found array");
  EXPECT_EQ(refusal(good + "\n{\"body\": 1}\n"), file + ": line 3: the record has no field \"text\"");
  EXPECT_EQ(refusal("{\"text\": 5}\n"), file + ": line 1: the field \"text\" is of type number, expected a string");
  EXPECT_EQ(refusal("{\"text\": \"a\", \"domain\": 5}\n"),
            file + ": line 1: the field \"domain\" is of type number, expected a string");
  EXPECT_NE(refusal(good + "{\"text\": \"\xFF\"}\n").find(": line 2: "), std::string::npos);
  EXPECT_NE(refusal("{\"text\": \"\"}\n").find("no text"), std::string::npos);
  EXPECT_NE(refusal("").find("no text"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(directory / "out/a.tokens"));  // nothing half done is left
  EXPECT_THROW(tokenize_file(*tokenizer(), directory / "a.csv", {directory / "out"}), Error);
}

}  // namespace
}  // namespace cepe
