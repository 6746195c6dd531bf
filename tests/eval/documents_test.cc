#include "eval/documents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
  std::filesystem::path directory_;
};

TEST_F(Documents, PlainFilesAreOneDomainAndRecordsKeepTheirs) {
  const auto result = read_token_documents(
      {write("a.txt", "ab"), write("b.md", "c"),
       write("c.jsonl",
             "{\"text\": \"d\"}\n{\"text\": \"\"}\n{\"text\": \"e\", \"domain\": \"books\", \"source\": \"s\"}")},
      ByteTokenizer());
  ASSERT_EQ(result.documents.size(), 4u);
  EXPECT_THAT(result.documents[0].tokens, ElementsAre('a', 'b'));
  EXPECT_THAT(result.documents[1].tokens, ElementsAre('c'));
  for (size_t i : {0, 1, 2}) EXPECT_EQ(result.documents[i].domain, "text");
  EXPECT_EQ(result.documents[3].domain, "books");
  EXPECT_EQ(result.documents[3].source, "s");
  for (size_t i : {0, 1, 2}) EXPECT_EQ(result.documents[i].source, "");
  EXPECT_THAT(result.documents[3].name, testing::EndsWith("c.jsonl:3"));
  EXPECT_THROW(read_token_documents({write("empty.txt", "")}, ByteTokenizer()), Error);
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
