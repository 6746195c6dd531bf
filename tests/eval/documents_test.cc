#include "eval/documents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zstd.h>

#include <fstream>

#include "base/error.h"

namespace cepe {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// One token a byte: what documents need of a tokenizer, and nothing else.
class ByteTokenizer : public Tokenizer {
 public:
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const override {
    EXPECT_FALSE(options.add_special_tokens);
    EXPECT_FALSE(options.parse_special_tokens);
    return {text.begin(), text.end()};
  }
  std::string decode(std::span<const TokenId>, bool) const override { return {}; }
  std::unique_ptr<StreamingDecoder> streaming_decoder(bool) const override { return nullptr; }
  int64_t vocabulary_size() const override { return 256; }
  std::optional<TokenId> token_id(std::string_view) const override { return std::nullopt; }
  std::string token_text(TokenId) const override { return {}; }
  std::optional<TokenId> bos() const override { return std::nullopt; }
  std::optional<TokenId> eos() const override { return std::nullopt; }
  std::string describe() const override { return "bytes"; }
};

class Documents : public testing::Test {
 protected:
  Documents() : directory_(std::filesystem::path(testing::TempDir()) / "cepe-documents") {
    std::filesystem::create_directories(directory_);
  }
  ~Documents() override { std::filesystem::remove_all(directory_); }

  std::filesystem::path write(const std::string& name, const std::string& content) {
    std::ofstream(directory_ / name, std::ios::binary) << content;
    return directory_ / name;
  }
  static std::vector<TextDocument> read(const std::vector<std::filesystem::path>& files) {
    std::vector<TextDocument> documents;
    read_documents(files, [&](TextDocument document) { documents.push_back(std::move(document)); });
    return documents;
  }
  static std::string error_of(const std::filesystem::path& file) {
    try {
      read({file});
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  std::filesystem::path directory_;
};

// A frame that announces a window of 2^window_log bytes: written as a stream, so that the size cannot shrink it.
std::string compress(const std::string& text, int window_log) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log);
  std::string out(ZSTD_compressBound(text.size()) + 1024, '\0');
  ZSTD_inBuffer input{text.data(), text.size(), 0};
  ZSTD_outBuffer output{out.data(), out.size(), 0};
  ZSTD_compressStream2(context, &output, &input, ZSTD_e_continue);
  while (ZSTD_compressStream2(context, &output, &input, ZSTD_e_end) != 0) {
  }
  ZSTD_freeCCtx(context);
  out.resize(output.pos);
  return out;
}

TEST_F(Documents, PlainFilesAreOneDomain) {
  const auto documents = read({write("a.txt", "first\ntext"), write("b.md", "second")});
  ASSERT_EQ(documents.size(), 2u);
  EXPECT_EQ(documents[0].text, "first\ntext");
  EXPECT_EQ(documents[1].text, "second");
  EXPECT_EQ(documents[0].domain, "text");
  EXPECT_EQ(documents[1].domain, "text");
}

TEST_F(Documents, RecordsKeepTheirDomain) {
  const auto documents = read({write("a.jsonl",
                                     "{\"id\": 1, \"text\": \"one \\u00e9\", \"domain\": \"books\"}\r\n\n"
                                     "{\"text\": \"\"}\n{\"text\": \"two\"}")});
  ASSERT_EQ(documents.size(), 2u);
  EXPECT_EQ(documents[0].text, "one \xc3\xa9");
  EXPECT_EQ(documents[0].domain, "books");
  EXPECT_THAT(documents[0].name, testing::EndsWith("a.jsonl:1"));
  EXPECT_EQ(documents[1].domain, "text");
  EXPECT_THAT(documents[1].name, testing::EndsWith("a.jsonl:4"));
}

TEST_F(Documents, CompressedRecordsOfLongWindowsAndSeveralFrames) {
  const std::string long_text(700000, 'x');  // spans several blocks of every buffer on the way
  const std::string first = "{\"text\": \"" + long_text + "\"}\n{\"text\": \"sec";
  const std::string second = "ond\"}\n";
  const auto documents = read({write("a.jsonl.zst", compress(first, 28) + compress(second, 10))});
  ASSERT_EQ(documents.size(), 2u);
  EXPECT_EQ(documents[0].text, long_text);
  EXPECT_EQ(documents[1].text, "second");
  EXPECT_EQ(read({write("a.txt.zst", compress("plain", 20))}).at(0).text, "plain");
}

TEST_F(Documents, DamageIsNamed) {
  std::string random;
  for (uint32_t i = 0, x = 1; i < 400000; ++i)
    random += static_cast<char>('a' + ((x = x * 1664525 + 1013904223) >> 28));
  const std::string whole = compress("{\"text\": \"" + random + "\"}\n", 20);
  EXPECT_THAT(error_of(write("cut.jsonl.zst", whole.substr(0, whole.size() / 2))),
              AllOf(HasSubstr("cut.jsonl.zst"), HasSubstr("truncated")));
  EXPECT_THAT(error_of(write("no.jsonl.zst", "{\"text\": \"not compressed\"}\n")),
              HasSubstr("not a valid zstd stream"));
  EXPECT_THAT(error_of(directory_ / "absent.txt"), HasSubstr("No such file"));
  EXPECT_THAT(error_of(directory_), HasSubstr("directory"));
  EXPECT_THAT(error_of(write("empty.txt", "")), HasSubstr("the text is empty"));
  EXPECT_THAT(error_of(write("empty.jsonl", "\n\n{\"text\": \"\"}\n")), HasSubstr("no record with text"));
  EXPECT_THAT(error_of(write("bytes.txt", "good \xff bad")), AllOf(HasSubstr("UTF-8"), HasSubstr("byte 5")));
}

TEST_F(Documents, MalformedRecordsNameTheLine) {
  const std::string good = "{\"text\": \"x\"}\n";
  EXPECT_THAT(error_of(write("a.jsonl", good + "{\"text\": \"x\"")),
              AllOf(HasSubstr("a.jsonl:2"), HasSubstr("not a JSON record")));
  EXPECT_THAT(error_of(write("a.jsonl", good + good + "{\"text\": \"\xff\"}")),
              AllOf(HasSubstr("a.jsonl:3"), HasSubstr("UTF-8")));
  EXPECT_THAT(error_of(write("a.jsonl", "[1]")), AllOf(HasSubstr("a.jsonl:1"), HasSubstr("found a JSON array")));
  EXPECT_THAT(error_of(write("a.jsonl", "{\"body\": \"x\"}")), HasSubstr("has no \"text\""));
  EXPECT_THAT(error_of(write("a.jsonl", "{\"text\": 3}")), HasSubstr("found a JSON number"));
  EXPECT_THAT(error_of(write("a.jsonl", "{\"text\": \"x\", \"domain\": []}")), HasSubstr("\"domain\" to be a string"));
}

TEST_F(Documents, CopiesAreLeftOut) {
  const auto result = read_token_documents({write("a.txt", "same"), write("b.txt", "other"), write("c.txt", "same"),
                                            write("d.jsonl", "{\"text\": \"same\", \"domain\": \"books\"}")},
                                           ByteTokenizer());
  ASSERT_EQ(result.documents.size(), 3u);
  EXPECT_THAT(result.documents[0].tokens, ElementsAre('s', 'a', 'm', 'e'));
  EXPECT_EQ(result.documents[2].domain, "books");
  EXPECT_THAT(result.notes, ElementsAre(AllOf(HasSubstr("c.txt is the same text as"), HasSubstr("a.txt"))));
}

}  // namespace
}  // namespace cepe
