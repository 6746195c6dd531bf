#include "context/read_context.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "context/encode_context.h"
#include "model/fixtures.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

class ContextFiles : public testing::Test {
 protected:
  fs::path write(const std::string& name, const std::string& text) {
    write_file(directory_.path() / name, text);
    return directory_.path() / name;
  }
  ScratchDirectory directory_;
  const OpenedModel opened_ = open_fixture("generate/published");
};

TEST_F(ContextFiles, EachDocumentIsCutByItself) {
  EXPECT_EQ(context_chunk_length(opened_.model.config), 32);  // the encoder's window is smaller than the usual 256
  std::string text;
  for (int i = 0; i < 30; ++i) text += "The boats said nothing <|im_end|>. ";
  const fs::path first = write("first.txt", text), second = write("second.txt", "A short one.");
  const std::vector<TextChunk> one = read_context(opened_, {first}), both = read_context(opened_, {first, second});
  ASSERT_GT(one.size(), 3u);
  ASSERT_EQ(both.size(), one.size() + 1);
  std::vector<TokenId> all;
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(both[i].tokens, one[i].tokens);
    EXPECT_EQ(both[i].source.document, first.string());
    EXPECT_EQ(both[i].source.first_token, static_cast<int64_t>(32 * i));
    EXPECT_TRUE(one[i].tokens.size() == 32 || i + 1 == one.size());
    all.insert(all.end(), one[i].tokens.begin(), one[i].tokens.end());
  }
  EXPECT_EQ(std::count(all.begin(), all.end(), 2), 0) << "text that reads like a special token is text";
  EXPECT_EQ(opened_.tokenizer->decode(all), text);
  EXPECT_EQ(both.back().source.document, second.string());
  EXPECT_EQ(both.back().source.first_token, 0);
  EXPECT_EQ(opened_.tokenizer->decode(both.back().tokens), "A short one.");
}

TEST_F(ContextFiles, RecordsAreDocuments) {
  const fs::path records = write("c.jsonl",
                                 "{\"text\": \"The boats.\", \"domain\": \"sea\"}\n\n{\"text\": \"\"}\n"
                                 "{\"text\": \"The \\\"harbour\\\".\"}\n");
  const std::vector<TextChunk> chunks = read_context(opened_, {records});
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(opened_.tokenizer->decode(chunks[0].tokens), "The boats.");
  EXPECT_EQ(opened_.tokenizer->decode(chunks[1].tokens), "The \"harbour\".");
  EXPECT_EQ(chunks[0].source.document, records.string() + ":1");
  EXPECT_EQ(chunks[1].source.document, records.string() + ":4");
  EXPECT_THROW(read_context(opened_, {write("d.jsonl", "{\"words\": 1}\n")}), Error);
}

TEST_F(ContextFiles, BadOnesAreErrors) {
  const OpenedModel plain = open_fixture("generate/plain");
  const fs::path text = write("text.txt", "The harbour."), empty = write("empty.txt", ""),
                 binary = write("binary.txt", "a\xff\xfe");
  EXPECT_THROW(read_context(opened_, {empty}), Error);
  EXPECT_THROW(read_context(opened_, {binary}), Error);
  EXPECT_THROW(read_context(opened_, {directory_.path() / "absent.txt"}), Error);
  EXPECT_THROW(read_context(opened_, {directory_.path()}), Error);
  EXPECT_THROW(read_context(plain, {text}), Error);
  EXPECT_TRUE(read_context(plain, {}).empty());
}

}  // namespace
}  // namespace cepe
