// Files into passages.
#include "retrieval/passage_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "base/error_of.h"
#include "base/file.h"
#include "base/temporary_directory.h"

namespace cepe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class PassageFiles : public testing::Test {
 protected:
  std::vector<IndexedPassage> read(const std::string& name, const std::string& content, int64_t words = 100) {
    write_file(directory_ / name, content);
    std::vector<IndexedPassage> passages;
    read_passages(directory_ / name, words, [&](IndexedPassage passage) { passages.push_back(std::move(passage)); });
    return passages;
  }
  std::vector<std::string> texts(const std::string& content, int64_t words) {
    std::vector<std::string> found;
    for (const IndexedPassage& passage : read("a.txt", content, words)) found.push_back(passage.text);
    return found;
  }
  std::string refused(const std::string& line) {
    return error_of([&] { read("bad.jsonl", "{\"text\": \"good\"}\n\n" + line + "\n"); });
  }
  TemporaryDirectory directory_;
};

TEST_F(PassageFiles, RecordsHaveTheNamesOfSeveralCorpora) {
  const auto passages = read("corpus.jsonl", R"({"id": "a", "title": "T", "text": "one"}
{"_id": 7, "contents": "two", "title": null}

{"docid": "c", "text": "  "}
{"passage": "three", "vector": [1, 2]}
)");
  ASSERT_EQ(passages.size(), 3u);
  EXPECT_EQ(passages[0].id + passages[0].title + passages[0].text, "aTone");
  EXPECT_EQ(passages[1].id + passages[1].title + passages[1].text, "7two");
  EXPECT_EQ(passages[2].id, passage_key("", "three"));
  EXPECT_EQ(passages[2].id, sha256_bytes("\nthree").substr(0, 16));
  EXPECT_THAT(passages[2].where, HasSubstr("corpus.jsonl:5"));
}

TEST_F(PassageFiles, MalformedRecordsAreNamed) {
  EXPECT_THAT(refused("{\"text\": "), HasSubstr("bad.jsonl:3: not valid JSON in UTF-8"));
  EXPECT_THAT(refused("[1]"), HasSubstr("bad.jsonl:3: expected a JSON object with a passage, found a JSON array"));
  EXPECT_THAT(refused("{\"title\": \"x\"}"), HasSubstr("bad.jsonl:3: expected a passage's \"text\""));
  EXPECT_THAT(refused("{\"text\": 5}"),
              HasSubstr("bad.jsonl:3: expected \"text\" to be a JSON string, found a JSON number"));
  EXPECT_THAT(refused("{\"text\": \"x\", \"id\": [1]}"),
              HasSubstr("expected \"id\" to be a JSON string or a whole number"));
  EXPECT_THAT(refused("{\"text\": \"\xFF\"}"), HasSubstr("bad.jsonl:3"));
  EXPECT_THAT(error_of([&] { read("a.txt", "good\nb\xFF\n"); }), HasSubstr("a.txt:2: not valid UTF-8 at byte 1"));
}

TEST_F(PassageFiles, TextIsCutWhereSentencesEnd) {
  EXPECT_THAT(texts("One two three. Four five six seven. Eight nine", 6),
              ElementsAre("One two three.", "Four five six seven.", "Eight nine"));
  EXPECT_THAT(texts("a b c d e f g", 3), ElementsAre("a b c", "d e f", "g"));  // no sentence ends
  EXPECT_THAT(texts("One.\n\n  Two \"three.\"\nFour five", 3), ElementsAre("One.\n  Two \"three.\"", "Four five"));
  EXPECT_THAT(texts("A. b c d e f", 6), ElementsAre("A. b c d e f"));  // too early an end
  EXPECT_THAT(texts("one", 1), ElementsAre("one"));
  EXPECT_THAT(texts(" \n \n", 5), ElementsAre());
  EXPECT_EQ(read("a.txt", "one two")[0].title, "a.txt");
}

TEST_F(PassageFiles, RecordsAreCutWhereThatIsAskedFor) {
  write_file(directory_ / "books.jsonl",
             R"({"id": "a", "title": "T", "text": "One two three. Four\nfive six seven. Eight"}
{"text": "nine"}
)");
  std::vector<std::string> found;
  read_passages(
      directory_ / "books.jsonl", 6,
      [&](const IndexedPassage& passage) {
        EXPECT_EQ(passage.id, passage_key(passage.title, passage.text));
        found.push_back(passage.title + ": " + passage.text);
      },
      true);
  EXPECT_THAT(found, ElementsAre("T: One two three.", "T: Four\nfive six seven. Eight", "books.jsonl: nine"));
}

// No word is lost or doubled, and no passage is too long.
TEST_F(PassageFiles, EveryWordOfATextIsInOnePassage) {
  std::string content;
  std::vector<std::string> words;
  unsigned state = 5;
  for (int i = 0; i < 3000; ++i) {
    state = state * 1664525u + 1013904223u;
    words.push_back(fmt::format("w{}", i) + (state >> 28 == 0 ? "." : state >> 28 == 1 ? "!\"" : ""));
    content += words.back() + (state >> 24 & 15 ? " " : "\n");
  }
  for (const int64_t limit : {1, 2, 7, 100}) {
    std::vector<std::string> found;
    for (const std::string& text : texts(content, limit)) {
      std::istringstream stream(text);
      const size_t before = found.size();
      for (std::string word; stream >> word;) found.push_back(word);
      EXPECT_LE(found.size() - before, static_cast<size_t>(limit));
    }
    EXPECT_EQ(found, words);
  }
}

}  // namespace
}  // namespace cepe
