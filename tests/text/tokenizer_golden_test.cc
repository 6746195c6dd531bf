// Every tokenizer against what Hugging Face tokenizers and sentencepiece made of the same texts.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/pretokenizer.h"
#include "text/tokenizer/tokenizer.h"
#include "text/tokenizer_golden.h"
#include "text/utf8.h"

namespace cepe {
namespace {

using golden::hash_of;
using golden::recorded;
using golden::texts;
using nlohmann::json;

std::string begin_of(const std::string& text) {
  return json(text.substr(0, 60)).dump(-1, ' ', true, json::error_handler_t::replace);
}

// The second hash of a text: what it decodes to, and its tokens with the template and special tokens as text.
uint64_t hash_of_the_rest(const Tokenizer& tokenizer, const std::string& text, std::span<const TokenId> ids) {
  golden::Hash hash;
  hash.add(hash_of(tokenizer.decode(ids, true)));
  hash.add(hash_of(tokenizer.decode(ids, false)));
  hash.add(hash_of(tokenizer.encode(text, {.add_special_tokens = true, .parse_special_tokens = false})));
  return hash.value();
}

class JsonCase : public testing::TestWithParam<size_t> {
 protected:
  const json& entry() const { return golden::cases()["cases"][GetParam()]; }
};

TEST_P(JsonCase, EqualsTheReference) {
  const golden::ScratchDirectory scratch;
  const auto tokenizer = load_tokenizer_json(scratch.file("tokenizer.json", golden::tokenizer_json(entry()).dump()));
  for (size_t k = 0; k < texts().size(); ++k) {
    const auto ids = tokenizer->encode(texts()[k]);
    EXPECT_EQ(hash_of(ids), recorded(GetParam(), k, 0)) << "tokens of text " << k << ", " << begin_of(texts()[k]);
    EXPECT_EQ(hash_of_the_rest(*tokenizer, texts()[k], ids), recorded(GetParam(), k, 1))
        << "decoding or plain encoding of text " << k << ", " << begin_of(texts()[k]);
  }
}

class GgufCase : public JsonCase {};

TEST_P(GgufCase, EqualsTheReference) {
  const auto tokenizer = make_gguf_tokenizer(golden::gguf_vocabulary(entry()));
  for (size_t k = 0; k < texts().size(); ++k) {
    EXPECT_EQ(hash_of(tokenizer->encode(texts()[k])), recorded(GetParam(), k, 0))
        << "tokens of text " << k << ", " << begin_of(texts()[k]);
  }
}

// The reference's hashes were recorded from a tokenizer.json of these very components.
TEST_P(GgufCase, WrittenForHuggingFaceIsTheTokenizerThatWasRecorded) {
  const GgufVocabulary vocabulary = golden::gguf_vocabulary(entry());
  const std::string content = hf_tokenizer_files(vocabulary, {}).tokenizer_json;
  const json written = json::parse(content), expected = golden::tokenizer_json(entry());
  for (const char* key : {"normalizer", "pre_tokenizer", "decoder", "added_tokens"})
    EXPECT_EQ(written[key], expected[key]) << key;
  const json& model = written["model"];
  for (const auto& [key, value] : expected["model"].items()) {
    if (key == "vocab" || key == "merges") continue;
    EXPECT_EQ(key == "ignore_merges" ? json(model.value("ignore_merges", false)) : model[key], value) << key;
  }
  EXPECT_EQ(model["merges"].get<std::vector<std::string>>(), vocabulary.merges);
  for (const auto& [token, id] : expected["model"]["vocab"].items())
    ASSERT_EQ(model["vocab"].value(token, -1), id) << token;

  const golden::ScratchDirectory scratch;
  const auto tokenizer = load_tokenizer_json(scratch.file("tokenizer.json", content));
  for (size_t k = 0; k < texts().size(); ++k)
    ASSERT_EQ(hash_of(tokenizer->encode(texts()[k])), recorded(GetParam(), k, 0)) << begin_of(texts()[k]);
}

TEST_P(JsonCase, StreamingGivesWholeCharactersThatJoinToTheDecodedText) {
  const golden::ScratchDirectory scratch;
  const auto tokenizer = load_tokenizer_json(scratch.file("tokenizer.json", golden::tokenizer_json(entry()).dump()));
  for (const std::string& text : texts()) {
    if (text.size() > 20'000) continue;  // the short ones hold the odd characters
    const auto ids = tokenizer->encode(text);
    const auto decoder = tokenizer->streaming_decoder(false);
    std::string joined;
    for (const TokenId id : ids) {
      const std::string part = decoder->push(id);
      ASSERT_EQ(find_invalid_utf8(part), std::string_view::npos) << begin_of(text);
      joined += part;
    }
    const std::string rest = decoder->finish();
    ASSERT_EQ(find_invalid_utf8(rest), std::string_view::npos) << begin_of(text);
    ASSERT_EQ(joined + rest, tokenizer->decode(ids, false)) << begin_of(text);
  }
}

std::string case_name(const testing::TestParamInfo<size_t>& info) {
  std::string name = golden::cases()["cases"][info.param]["name"];
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
}

std::vector<size_t> gguf_cases() {  // those whose pre-tokenizer a GGUF file can name
  std::vector<size_t> indices;
  for (size_t k = 0; k < golden::cases()["cases"].size(); ++k) {
    if (!golden::cases()["cases"][k]["gguf"].is_null()) indices.push_back(k);
  }
  return indices;
}

INSTANTIATE_TEST_SUITE_P(Golden, JsonCase, testing::Range<size_t>(0, golden::cases()["cases"].size()), case_name);
INSTANTIATE_TEST_SUITE_P(Golden, GgufCase, testing::ValuesIn(gguf_cases()), case_name);

class SentencePieceCase : public testing::TestWithParam<const char*> {};

// The text; or for the unigram model its short lines without runs of a character: where two ways to cut have (nearly)
// the same score, as with runs and in long texts, versions of sentencepiece differ in their choice.
bool has_runs(const std::string& line) {
  for (size_t k = 1; k < line.size(); ++k) {
    if (line[k] == line[k - 1] && (line[k] == ' ' || (k >= 2 && line[k] == line[k - 2]))) return true;
  }
  return false;
}

std::vector<std::string> stretches(const std::string& text, bool whole) {
  if (whole) return {text};
  std::vector<std::string> lines;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    if (line.size() <= 1000 && !has_runs(line)) lines.push_back(line);
    begin = end + 1;
  }
  return lines;
}

TEST_P(SentencePieceCase, EqualsTheReference) {
  const bool whole = std::string_view(GetParam()) == "bpe";
  const size_t index = golden::cases()["cases"].size() + (whole ? 0 : 1);
  const auto tokenizer = load_sentencepiece(golden::directory() / (std::string(GetParam()) + ".model"));
  for (size_t k = 0; k < texts().size(); ++k) {
    std::vector<TokenId> all;
    std::string decoded;
    for (const std::string& text : stretches(texts()[k], whole)) {
      const auto ids = tokenizer->encode(text, {.parse_special_tokens = false});
      const auto decoder = tokenizer->streaming_decoder();
      std::string joined;
      for (const TokenId id : ids) {
        const std::string part = decoder->push(id);
        ASSERT_EQ(find_invalid_utf8(part), std::string_view::npos) << begin_of(text);
        joined += part;
      }
      ASSERT_EQ(joined + decoder->finish(), tokenizer->decode(ids)) << begin_of(text);
      decoded += tokenizer->decode(ids);
      all.insert(all.end(), ids.begin(), ids.end());
    }
    EXPECT_EQ(hash_of(all), recorded(index, k, 0)) << "tokens of text " << k << ", " << begin_of(texts()[k]);
    EXPECT_EQ(hash_of(decoded), recorded(index, k, 1)) << "decoding of text " << k << ", " << begin_of(texts()[k]);
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, SentencePieceCase, testing::Values("bpe", "unigram"),
                         [](const auto& info) { return std::string(info.param); });

constexpr char32_t kBlock = 4096, kBlocks = 0x110;  // of code points

template <typename Function>
void for_each_code_point(char32_t block, Function function) {
  for (char32_t c = block * kBlock; c < (block + 1) * kBlock; ++c) {
    if (c == 0 || (c >= 0xD800 && c < 0xE000)) continue;
    std::string x;
    append_utf8(c, x);
    function(x);
  }
}

// Each code point beside letters, digits, spaces and itself, in every published pattern.
TEST(CodePointGolden, AreCutAsInTheReference) {
  const auto expected = golden::read_hashes("code_points.bin");
  struct Lengths : WordSink {
    golden::Hash hash;
    void word(std::string_view word) override { hash.add(word.size()); }
  };
  std::vector<PreTokenizer> cutters;
  // In the order in which record.py wrote them.
  for (const char* name : {"gpt2", "llama3", "qwen2", "tekken", "deepseek"}) {
    const std::string pattern = golden::cases()["patterns"][name];
    cutters.emplace_back().add_split(Regex::from_oniguruma(pattern, name), SplitBehavior::isolated, false);
  }
  cutters.emplace_back().add_digits(true);
  ASSERT_EQ(expected.size(), (cutters.size() + 4) * kBlocks);
  RegexScratch scratch;
  for (char32_t block = 0; block < kBlocks; ++block) {
    std::vector<Lengths> lengths(cutters.size());
    for_each_code_point(block, [&](const std::string& x) {
      const std::string text = x + "a" + x + "1" + x + x + " " + x + "!" + x + "\n" + x;
      for (size_t k = 0; k < cutters.size(); ++k) cutters[k].split(text, true, scratch, lengths[k]);
    });
    for (size_t k = 0; k < cutters.size(); ++k) {
      EXPECT_EQ(lengths[k].hash.value(), expected[k * kBlocks + block])
          << "pattern " << k << " from code point " << static_cast<uint32_t>(block * kBlock);
    }
  }
}

TEST(CodePointGolden, AreNormalizedAsInTheReference) {
  const auto expected = golden::read_hashes("code_points.bin");
  using Form = Normalizer::Form;
  size_t at = 6 * kBlocks;
  for (const Form form : {Form::nfc, Form::nfd, Form::nfkc, Form::nfkd}) {
    Normalizer normalizer;
    normalizer.add_unicode_form(form);
    for (char32_t block = 0; block < kBlocks; ++block) {
      std::string all, storage;
      for_each_code_point(
          block, [&](const std::string& x) { all += normalizer.apply("a" + x + "\u0301\u0327" + x, storage); });
      EXPECT_EQ(hash_of(all), expected.at(at++)) << "from code point " << static_cast<uint32_t>(block * kBlock);
    }
  }
}

TEST(TokenizerThreads, EncodeTheSameAtTheSameTime) {
  const json& entry = golden::cases()["cases"][0];
  const auto tokenizer = make_gguf_tokenizer(golden::gguf_vocabulary(entry));
  std::atomic<size_t> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (size_t k = 0; k < texts().size(); ++k) wrong += hash_of(tokenizer->encode(texts()[k])) != recorded(0, k, 0);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0u);
}

}  // namespace
}  // namespace cepe
