// WordPiece ids beside those of the Hugging Face tokenizers package (tests/golden/bert/record.py).
#include "text/wordpiece.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "base/error_of.h"
#include "base/file.h"
#include "base/temporary_directory.h"
#include "text/utf8.h"

namespace cepe {
namespace {

using nlohmann::json;
using testing::HasSubstr;

const std::string kGolden = CEPE_TEST_DATA "/bert/";

void expect_ids(const WordPiece& wordpiece, const json& cases, const char* name) {
  ASSERT_GE(cases["texts"].size(), 15u);
  for (size_t i = 0; i < cases["texts"].size(); ++i) {
    EXPECT_EQ(wordpiece.encode(cases["texts"][i].get<std::string>()), cases[name][i].get<std::vector<TokenId>>())
        << cases["texts"][i];
  }
}

TEST(WordPiece, GivesTheReferencesIds) {
  const json cases = json::parse(read_file(kGolden + "cases.json"));
  expect_ids(WordPiece(kGolden + "tiny/vocab.txt", {}), cases, "ids");
  expect_ids(WordPiece(kGolden + "tiny/vocab.txt", {false, false, false}), cases, "cased_ids");
}

TEST(WordPiece, BadVocabulariesAreOneSentence) {
  const TemporaryDirectory directory;
  const auto refused = [&](const std::string& content) {
    write_file(directory.path() / "vocab.txt", content);
    return error_of([&] { WordPiece(directory.path() / "vocab.txt", {}); });
  };
  EXPECT_THAT(refused("[UNK]\n[CLS]\na\n"), HasSubstr("vocab.txt: the piece [SEP] is missing"));
  EXPECT_THAT(refused("[UNK]\n[CLS]\n[SEP]\na\nb\na\n"), HasSubstr("vocab.txt:6: the piece \"a\" stands there twice"));
  EXPECT_THAT(refused("[UNK]\n[CLS]\n[SEP]\n\xFF\n"), HasSubstr("vocab.txt:4: not valid UTF-8"));
  EXPECT_EQ(refused("[UNK]\r\n[CLS]\r\n[SEP]\r\na"), "");
  const WordPiece wordpiece(directory.path() / "vocab.txt", {});
  EXPECT_THAT(error_of([&] { wordpiece.encode("a\xC3"); }), HasSubstr("UTF-8"));
}

// Whatever the text: ids of the vocabulary, and none where nothing but space and control characters stand.
TEST(WordPiece, AnyTextGivesIdsOfTheVocabulary) {
  const WordPiece wordpiece(kGolden + "tiny/vocab.txt", {});
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    std::string text;
    for (int i = 0; i < 50; ++i) {
      char32_t c = random() % (round % 2 == 0 ? 0x3000 : 0x110000);
      if (c >= 0xD800 && c < 0xE000) c = 'x';
      append_utf8(c, text);
    }
    for (const TokenId id : wordpiece.encode(text)) {
      ASSERT_GE(id, 0);
      ASSERT_LT(id, wordpiece.vocabulary_size());
    }
  }
}

}  // namespace
}  // namespace cepe
