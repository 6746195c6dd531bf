#include "data/tokenize.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "base/file.h"
#include "base/temporary_directory.h"
#include "data/shards.h"
#include "text/zstd_stream.h"

namespace cepe {
namespace {

void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::unique_ptr<Tokenizer> tokenizer() { return load_tokenizer_json(CEPE_TEST_DATA "/generate/plain/tokenizer.json"); }

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
  write(directory / "book.txt.zst", zstd_stream("one line\nand another\n", 20));
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
  EXPECT_EQ(refusal(good + "{\"text\": \n").rfind(file + ":2: not a JSON record: ", 0), 0u);
  EXPECT_EQ(refusal(good + "\n{\"body\": 1}\n"), file + ":3: the record has no \"text\"");
  EXPECT_EQ(refusal(good + "{\"text\": \"a\", \"domain\": \"" + std::string(256, 'd') + "\"}\n"),
            file + ":2: expected a \"domain\" of at most 255 bytes, found 256");
  EXPECT_EQ(refusal(good + "{\"text\": \"\xFF\"}\n").rfind(file + ":2: ", 0), 0u);
  EXPECT_NE(refusal("{\"text\": \"\"}\n").find("no text"), std::string::npos);
  EXPECT_NE(refusal("").find("no text"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(directory / "out/a.tokens"));  // nothing half done is left
  EXPECT_THROW(tokenize_file(*tokenizer(), directory / "a.csv", {directory / "out"}), Error);
}

}  // namespace
}  // namespace cepe
