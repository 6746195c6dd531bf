#include "text/text_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "base/temporary_directory.h"
#include "text/zstd_stream.h"

namespace cepe {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;

class TextFiles : public testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, const std::string& content) {
    std::ofstream(directory_ / name, std::ios::binary) << content;
    return directory_ / name;
  }
  static std::vector<std::string> lines_of(const std::filesystem::path& path) {
    TextFile file(path);
    std::vector<std::string> all;
    for (std::string line; file.next_line(line);) all.push_back(line);
    return all;
  }
  static std::vector<TextDocument> read(const std::filesystem::path& path) {
    std::vector<TextDocument> documents;
    read_text_file(path, "default", [&](TextDocument document) { documents.push_back(std::move(document)); });
    return documents;
  }
  static std::string refusal(const std::filesystem::path& path) {
    return error_of<Error>([&] { read(path); });
  }
  TemporaryDirectory directory_;
};

TEST_F(TextFiles, NamesTellTheKind) {
  EXPECT_EQ(plain_file_name("corpus/books.jsonl.zst"), "books.jsonl");
  EXPECT_EQ(plain_file_name("books.zst.txt"), "books.zst.txt");
  EXPECT_TRUE(is_json_lines("a.jsonl"));
  EXPECT_TRUE(is_json_lines("a.jsonl.zst"));
  EXPECT_FALSE(is_json_lines("a.json"));
  EXPECT_FALSE(is_json_lines("a.jsonl.txt"));
}

TEST_F(TextFiles, LinesArePlainAndCompressedTheSame) {
  const std::vector<std::string> expected = {"one", "three with a carriage return", std::string(5'000'000, 'x'),
                                             "last, without an end"};
  const std::string text = "one\n\nthree with a carriage return\r\n" + expected[2] + "\n \t\r\nlast, without an end";
  EXPECT_EQ(lines_of(write("a.jsonl", text)), expected);
  for (int window_log : {20, 28}) {  // 28: beyond what zstd accepts unasked
    EXPECT_EQ(lines_of(write("a.jsonl.zst", zstd_stream(text, window_log))), expected);
  }
  EXPECT_EQ(lines_of(write("two.jsonl.zst", zstd_stream("a\nb", 20) + zstd_stream("c\nd\n", 20))),
            (std::vector<std::string>{"a", "bc", "d"}));
}

// Whatever the lengths, a line's end may be the last byte of a block, or the first of the next.
TEST_F(TextFiles, LinesMeetBlocksAnywhere) {
  std::vector<std::string> expected;
  std::string text;
  for (size_t i = 0; i < 40; ++i) {
    expected.push_back(std::string((1 << 16) - 2 + i % 5, static_cast<char>('a' + i % 26)));
    text += expected.back() + "\n";
  }
  EXPECT_EQ(lines_of(write("a.jsonl", text)), expected);
  EXPECT_EQ(lines_of(write("a.jsonl.zst", zstd_stream(text, 20))), expected);
}

// The decoder is asked for blocks of 256 KiB: a frame that fills them holds nothing back.
TEST_F(TextFiles, FramesMayEndWithTheBlock) {
  constexpr size_t kBlock = 1 << 18;
  for (const size_t size : {kBlock - 1, kBlock, kBlock + 1, 2 * kBlock, 4 * kBlock}) {
    const std::string text(size, 'x');
    EXPECT_EQ(lines_of(write("a.jsonl.zst", zstd_stream(text, 20))), std::vector{text}) << size;
    std::string whole(ZSTD_compressBound(size), '\0');
    whole.resize(ZSTD_compress(whole.data(), whole.size(), text.data(), size, 3));
    EXPECT_EQ(lines_of(write("b.jsonl.zst", whole)), std::vector{text}) << size;
    EXPECT_EQ(lines_of(write("c.jsonl.zst", whole + zstd_stream("y", 20))), std::vector{text + "y"}) << size;
    for (const size_t cut : {size_t{1}, whole.size() / 2}) {
      EXPECT_THAT(refusal(write("cut.jsonl.zst", whole.substr(0, whole.size() - cut))), HasSubstr("truncated")) << size;
    }
  }
}

TEST_F(TextFiles, ThePlaceIsTheLineInTheFile) {
  const auto path = write("a.jsonl", "\n\none\n\ntwo");
  TextFile file(path);
  std::string line;
  ASSERT_TRUE(file.next_line(line));
  EXPECT_EQ(file.where(), path.string() + ":3");
  ASSERT_TRUE(file.next_line(line));
  EXPECT_EQ(file.where(), path.string() + ":5");
  EXPECT_FALSE(file.next_line(line));
}

TEST_F(TextFiles, PlainTextIsOneDocument) {
  const std::string text = "first\n\ntext\r\n";
  for (const auto& path : {write("a.md", text), write("a.txt.zst", zstd_stream(text, 20))}) {
    const auto documents = read(path);
    ASSERT_EQ(documents.size(), 1u);
    EXPECT_EQ(documents[0].text, text);
    EXPECT_EQ(documents[0].domain, "default");
    EXPECT_EQ(documents[0].name, path.string());
  }
}

TEST_F(TextFiles, AByteOrderMarkIsNoText) {
  const std::string mark = "\xEF\xBB\xBF", record = "{\"text\": \"a\"}\n";
  for (const auto& path : {write("a.txt", mark + "a"), write("a.txt.zst", zstd_stream(mark + "a", 20)),
                           write("a.jsonl", mark + record), write("a.jsonl.zst", zstd_stream(mark + record, 20))}) {
    const auto documents = read(path);
    ASSERT_EQ(documents.size(), 1u);
    EXPECT_EQ(documents[0].text, "a") << path;
  }
  EXPECT_EQ(read(write("b.txt", mark + mark + "b"))[0].text, mark + "b");  // the second is a character of the text
  EXPECT_EQ(read(write("c.txt", "c" + mark))[0].text, "c" + mark);
  EXPECT_EQ(lines_of(write("d.jsonl", mark)), std::vector<std::string>{});
  EXPECT_EQ(without_byte_order_mark(mark + "x"), "x");
}

// Read as plain text, these would be something else than meant.
TEST_F(TextFiles, NamesOfOtherFormsAreRefused) {
  for (const char* name :
       {"a.json", "a.JSON", "a.JSONL", "a.Jsonl", "a.ndjson", "a.json.zst", "a.NDJSON.zst", "a.jsonl.ZST", "a.txt.Zst",
        "a.json.gz", "a.jsonl.Gz", "a.txt.xz", "a.zip", "a.jsonl.zstd", "a.parquet", "a.pdf"}) {
    const auto path = write(name, "{\"text\": \"a\"}\n");
    try {
      read(path);
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::AnyOf(testing::HasSubstr(".jsonl"), testing::HasSubstr(".zst"))) << name;
      EXPECT_THAT(error.what(), testing::StartsWith(path.string()));
    }
  }
  for (const char* name : {"json", "a.json.txt", "a.md", "noext", "a.TXT", "a.gz.txt"})
    EXPECT_EQ(read(write(name, "a")).size(), 1u);
}

TEST_F(TextFiles, RecordsKeepTheirDomain) {
  const auto documents = read(write("a.jsonl",
                                    "{\"id\": 1, \"text\": \"one \\u00e9\", \"domain\": \"books\"}\r\n\n"
                                    "{\"text\": \"\"}\n{\"text\": \"two\"}\n{\"text\": \"three\", \"domain\": null}\n"
                                    "{\"text\": \"four\", \"domain\": \"\"}"));
  ASSERT_EQ(documents.size(), 4u);
  EXPECT_EQ(documents[0].text, "one \xc3\xa9");
  EXPECT_EQ(documents[0].domain, "books");
  EXPECT_THAT(documents[0].name, EndsWith("a.jsonl:1"));
  for (size_t i : {1, 2, 3}) EXPECT_EQ(documents[i].domain, "default");
  EXPECT_THAT(documents[1].name, EndsWith("a.jsonl:4"));
  EXPECT_EQ(parse_text_record("{\"text\": \"\"}", "here", "d").text, "");
}

TEST_F(TextFiles, RecordsMayNameTheirSource) {
  const auto documents =
      read(write("a.jsonl",
                 "{\"text\": \"one\", \"source\": \"boost\"}\n{\"text\": \"two\"}\n"
                 "{\"text\": \"three\", \"source\": 3}\n{\"text\": \"four\", \"source\": {\"of\": 1}}"));
  ASSERT_EQ(documents.size(), 4u);
  EXPECT_EQ(documents[0].source, "boost");
  for (size_t i : {1, 2, 3}) EXPECT_EQ(documents[i].source, "") << "no name of a source";
}

TEST_F(TextFiles, DamageIsNamed) {
  std::string random;
  for (uint32_t i = 0, x = 1; i < 400000; ++i)
    random += static_cast<char>('a' + ((x = x * 1664525 + 1013904223) >> 28));
  const std::string whole = zstd_stream("{\"text\": \"" + random + "\"}\n", 20);
  for (const size_t size : {whole.size() / 2, whole.size() - 3}) {
    EXPECT_THAT(refusal(write("cut.jsonl.zst", whole.substr(0, size))),
                AllOf(HasSubstr("cut.jsonl.zst"), HasSubstr("truncated")));
  }
  EXPECT_THAT(refusal(write("no.txt.zst", "this is no zstd stream at all")), HasSubstr("not a valid zstd stream"));
  EXPECT_THAT(refusal(directory_ / "absent.txt"), HasSubstr("No such file"));
  EXPECT_THAT(refusal(directory_.path()), HasSubstr("found a directory"));
  EXPECT_THAT(refusal(write("empty.txt", "")), HasSubstr("the text is empty"));
  EXPECT_THAT(refusal(write("empty.txt.zst", "")), HasSubstr("the text is empty"));
  EXPECT_THAT(refusal(write("empty.jsonl", "\n\n{\"text\": \"\"}\n")), HasSubstr("no record with text"));
  EXPECT_THAT(refusal(write("bytes.txt", "good \xff bad")), AllOf(HasSubstr("UTF-8"), HasSubstr("byte 5")));
}

TEST_F(TextFiles, MalformedRecordsNameTheLine) {
  const std::string good = "{\"text\": \"x\"}\n";
  EXPECT_THAT(refusal(write("a.jsonl", good + "{\"text\": \"x\"")),
              AllOf(HasSubstr("a.jsonl:2"), HasSubstr("not a JSON record")));
  EXPECT_THAT(refusal(write("a.jsonl", good + good + "{\"text\": \"\xff\"}")),
              AllOf(HasSubstr("a.jsonl:3"), HasSubstr("UTF-8")));
  EXPECT_THAT(refusal(write("a.jsonl", "[1]")), AllOf(HasSubstr("a.jsonl:1"), HasSubstr("found a JSON array")));
  EXPECT_THAT(refusal(write("a.jsonl", "{\"body\": \"x\"}")), EndsWith("a.jsonl:1: the record has no \"text\""));
  EXPECT_THAT(refusal(write("a.jsonl", "{\"text\": 3}")),
              EndsWith("a.jsonl:1: expected \"text\" to be a string, found a JSON number"));
  EXPECT_THAT(refusal(write("a.jsonl", "{\"text\": \"x\", \"domain\": []}")),
              EndsWith("a.jsonl:1: expected \"domain\" to be a string, found a JSON array"));
}

}  // namespace
}  // namespace cepe
