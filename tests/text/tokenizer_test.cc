// Tokenizers where the goldens do not reach: bad input, files beside the tokenizer, hostile files.
#include "text/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "base/error.h"
#include "base/file.h"
#include "text/tokenizer/added_tokens.h"
#include "text/tokenizer/regex.h"
#include "text/tokenizer/sentencepiece_model.h"
#include "text/tokenizer_golden.h"
#include "text/utf8.h"

namespace cepe {
namespace {

using golden::ScratchDirectory;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

template <typename Function>
std::string error_of(Function function) {
  try {
    function();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

const json& case_named(const std::string& name) {
  for (const json& entry : golden::cases()["cases"]) {
    if (entry["name"] == name) return entry;
  }
  fail("no case {}", name);
}

// A tokenizer.json of a few tokens: the letters a..e, "ab", the space, and a special token.
json small_json() {
  json tokenizer = case_named("gpt2")["tokenizer"];
  tokenizer["model"]["vocab"] = {{"a", 0}, {"b", 1},  {"c", 2},      {"d", 3},
                                 {"e", 4}, {"ab", 5}, {"\u0120", 6}, {"\u0120ab", 7}};
  tokenizer["model"]["merges"] = {"a b", "\u0120 ab"};
  tokenizer["added_tokens"][0]["id"] = 8;
  return tokenizer;
}

std::unique_ptr<Tokenizer> load(const json& tokenizer, const ScratchDirectory& scratch) {
  return load_tokenizer_json(scratch.file("tokenizer.json", tokenizer.dump()));
}

GgufVocabulary smollm2() { return golden::gguf_vocabulary(case_named("smollm2")); }

TEST(Utf8, FindsTheFirstIllFormedByte) {
  EXPECT_EQ(find_invalid_utf8("plain text, and longer than one word"), std::string_view::npos);
  EXPECT_EQ(find_invalid_utf8("\u00e9\u4e2d\U0001f600"), std::string_view::npos);
  EXPECT_EQ(find_invalid_utf8("abc\xFFxyz"), 3u);
  EXPECT_EQ(find_invalid_utf8("ab\xC0\xAF"), 2u);            // overlong
  EXPECT_EQ(find_invalid_utf8("12345678\xED\xA0\x80"), 8u);  // a surrogate
  EXPECT_EQ(find_invalid_utf8("\xF4\x90\x80\x80"), 0u);      // above U+10FFFF
  EXPECT_EQ(find_invalid_utf8("abcd\xE4\xB8"), 4u);          // cut off
}

TEST(Utf8, ReplacesMaximalSubparts) {
  // The example of the Unicode standard, table 3-8.
  const std::string bytes = "\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64";
  std::string out;
  Utf8Assembler assembler;
  for (const char c : bytes) assembler.push(std::string_view(&c, 1), out);
  assembler.finish(out);
  EXPECT_EQ(out, "a\uFFFD\uFFFD\uFFFDb\uFFFDc\uFFFD\uFFFDd");
}

TEST(Tokenizer, RefusesInvalidUtf8WithItsOffset) {
  const auto tokenizer = make_gguf_tokenizer(smollm2());
  EXPECT_THAT(error_of([&] { tokenizer->encode("good\x80 bad"); }), HasSubstr("byte 0x80 at offset 4"));
}

TEST(Tokenizer, RefusesIdsOutsideTheVocabulary) {
  const auto tokenizer = make_gguf_tokenizer(smollm2());
  EXPECT_EQ(tokenizer->vocabulary_size(), 49152);
  const TokenId beyond = 49152, negative = -1;
  EXPECT_THAT(error_of([&] { tokenizer->decode({&beyond, 1}); }), HasSubstr("49152"));
  EXPECT_THAT(error_of([&] { tokenizer->decode({&negative, 1}); }), HasSubstr("-1"));
  EXPECT_THAT(error_of([&] { tokenizer->token_text(beyond); }), HasSubstr("49152"));
  EXPECT_THAT(error_of([&] { tokenizer->streaming_decoder()->push(beyond); }), HasSubstr("49152"));
}

TEST(Tokenizer, NamesItsTokens) {
  GgufVocabulary vocabulary = smollm2();
  vocabulary.bos = 1;
  vocabulary.eos = 2;
  vocabulary.add_bos = true;
  vocabulary.add_eos = true;
  const auto tokenizer = make_gguf_tokenizer(std::move(vocabulary));
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->token_text(2), "<|im_end|>");
  EXPECT_EQ(tokenizer->token_id("<|im_start|>"), 1);
  EXPECT_EQ(tokenizer->token_id("no such token"), std::nullopt);
  EXPECT_EQ(tokenizer->describe(), "byte-level BPE, 49152 tokens (GGUF, smollm)");
  EXPECT_THAT(tokenizer->encode("", {.add_special_tokens = true}), ElementsAre(1, 2));
  const std::vector<TokenId> marked = {1, *tokenizer->token_id("Hello"), 2};
  EXPECT_EQ(tokenizer->decode(marked), "Hello");
  EXPECT_EQ(tokenizer->decode(marked, false), "<|im_start|>Hello<|im_end|>");
}

TEST(Tokenizer, StreamsACharacterOnlyWhenItIsWhole) {
  const auto tokenizer = make_gguf_tokenizer(smollm2());
  const std::string text = "\U0001f469\u200d\U0001f680 \u6f22\u5b57";
  const auto ids = tokenizer->encode(text);
  const auto decoder = tokenizer->streaming_decoder();
  std::vector<std::string> parts;
  for (const TokenId id : ids) parts.push_back(decoder->push(id));
  EXPECT_GT(std::count(parts.begin(), parts.end(), ""), 3) << "the text is meant to need several tokens a character";
  EXPECT_EQ(decoder->finish(), "");

  const auto cut = tokenizer->streaming_decoder();
  EXPECT_EQ(cut->push(ids[0]), "");
  EXPECT_EQ(cut->finish(), "\uFFFD");
}

TEST(TokenizerJson, TakesBeginAndEndFromTheFilesBeside) {
  const ScratchDirectory scratch;
  json tokenizer = small_json();
  EXPECT_EQ(load(tokenizer, scratch)->eos(), std::nullopt);
  scratch.file("special_tokens_map.json", R"({"eos_token": {"content": "<|endoftext|>"}})");
  EXPECT_EQ(load(tokenizer, scratch)->eos(), 8);
  scratch.file("tokenizer_config.json", R"({"bos_token": "ab", "eos_token": "e"})");
  EXPECT_EQ(load(tokenizer, scratch)->bos(), 5);
  EXPECT_EQ(load(tokenizer, scratch)->eos(), 4);
  scratch.file("tokenizer_config.json", R"({"bos_token": "<nowhere>"})");
  EXPECT_THAT(error_of([&] { load(tokenizer, scratch); }), HasSubstr("<nowhere>"));
}

TEST(TokenizerJson, NamesWhatItDoesNotSupport) {
  struct Change {
    const char* pointer;
    json value;
    const char* named;
  };
  const std::vector<Change> changes = {
      {"/model/type", "Unigram", "model \"Unigram\""},
      {"/model/dropout", 0.1, "dropout"},
      {"/model/end_of_word_suffix", "</w>", "end_of_word_suffix"},
      {"/normalizer", {{"type", "BertNormalizer"}}, "normalizer \"BertNormalizer\""},
      {"/pre_tokenizer", {{"type", "Punctuation"}}, "pre-tokenizer \"Punctuation\""},
      {"/decoder", {{"type", "WordPiece"}}, "\"WordPiece\""},
      {"/decoder", nullptr, "\"decoder\" is missing"},
      {"/post_processor", {{"type", "BertProcessing"}}, "post-processor \"BertProcessing\""},
      {"/model/merges", {"a z"}, "\"z\""},
      {"/model/merges", {"a"}, "merge 0"},
      {"/model/merges", {"a c"}, "\"ac\""},
      {"/model/vocab/a", 1, "the same id 1"},
      {"/model/vocab/a", -1, "\"a\""},
      {"/model/vocab/a", 2000000000, "2000000000"},
      {"/added_tokens/0/id", 3, "<|endoftext|>"},
      {"/model/unk_token", "nope", "\"nope\""},
  };
  const ScratchDirectory scratch;
  for (const auto& [pointer, value, named] : changes) {
    json tokenizer = small_json();
    tokenizer[json::json_pointer(pointer)] = value;
    const std::string error = error_of([&] { load(tokenizer, scratch); });
    EXPECT_THAT(error, HasSubstr(named)) << pointer;
    EXPECT_THAT(error, HasSubstr("tokenizer.json")) << pointer;
  }
}

// The file with one value somewhere in it replaced, or some of its bytes.
std::string mutated(const json& original, std::mt19937& random) {
  static const std::vector<json> kValues = {
      nullptr, true,     0,    -1,    7,           4294967296,    1e30,           "",
      "a",     "\u0120", "[[", "(?<", "x{999999}", json::array(), json::object(), json::array({1, "b"})};
  if (random() % 2 == 0) {
    std::string text = original.dump();
    for (int k = 0; k < 3; ++k) text[random() % text.size()] = static_cast<char>(random());
    return text;
  }
  const json flat = original.flatten();
  auto item = flat.begin();
  std::advance(item, random() % flat.size());
  json changed = original;
  json::json_pointer at(item.key());
  for (auto up = random() % 3; up > 0 && !at.empty(); --up) at.pop_back();
  changed[at] = kValues[random() % kValues.size()];
  return changed.dump();
}

TEST(TokenizerJson, SurvivesHostileFiles) {
  const ScratchDirectory scratch;
  std::mt19937 random(7);
  std::vector<json> originals = {small_json()};
  for (const char* name : {"llama3", "qwen2", "llama2", "added-tokens"}) {
    json tokenizer = case_named(name)["tokenizer"];
    tokenizer["model"]["vocab"] = small_json()["model"]["vocab"];
    tokenizer["model"]["merges"] = small_json()["model"]["merges"];
    for (size_t k = 0; k < tokenizer["added_tokens"].size(); ++k) tokenizer["added_tokens"][k]["id"] = 8 + k;
    tokenizer["model"]["unk_token"] = nullptr;
    tokenizer["post_processor"] = nullptr;
    ASSERT_NO_THROW(load(tokenizer, scratch)) << name;
    originals.push_back(tokenizer);
  }
  int loaded = 0, refused = 0;
  for (int k = 0; k < 3000; ++k) {
    const auto path = scratch.file("tokenizer.json", mutated(originals[k % originals.size()], random));
    try {
      const auto tokenizer = load_tokenizer_json(path);
      tokenizer->decode(tokenizer->encode(" abcde ab\u00e9 <|endoftext|>1 [LEFT]"));
      ++loaded;
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(loaded, 100);
  EXPECT_GT(refused, 500);
}

TEST(TokenizerJson, RefusesDeepNesting) {
  const ScratchDirectory scratch;
  json tokenizer = small_json();
  for (int k = 0; k < 100; ++k) {
    tokenizer["normalizer"] = {{"type", "Sequence"}, {"normalizers", json::array({tokenizer["normalizer"]})}};
  }
  EXPECT_THAT(error_of([&] { load(tokenizer, scratch); }), HasSubstr("nested"));
  const auto path = scratch.file("tokenizer.json", std::string(200'000, '['));
  EXPECT_THAT(error_of([&] { load_tokenizer_json(path); }), HasSubstr("not valid JSON"));
}

TEST(Regex, RefusesWhatMeansAnotherThingInPcre2) {
  for (const char* pattern : {R"(\w+)", R"(\h)", R"(\K)", R"(a\b)", "[a[b]]", "[a&&b]", "(?m:a)", "a(?i)b", "a{2}+",
                              R"(\p{Greek})", R"(\p{Punct})", R"(\xE9)", "(*FAIL)", "[]a]", R"((?i:\p{Lu}))", "[a"}) {
    const bool supported = std::string_view(pattern) == R"(\p{Greek})";
    EXPECT_EQ(error_of([&] { Regex::from_oniguruma(pattern, "a test"); }) == "no error", supported) << pattern;
  }
}

// What is quoted in a message may be nested a million deep.
TEST(TokenizerJson, DeepValuesAreErrors) {
  const ScratchDirectory scratch;
  std::string text = small_json().dump();
  const std::string merge = "\"a b\"", deep = std::string(1'000'000, '[') + std::string(1'000'000, ']');
  ASSERT_NE(text.find(merge), std::string::npos);
  text.replace(text.find(merge), merge.size(), deep);
  const auto path = scratch.file("tokenizer.json", text);
  EXPECT_THAT(error_of([&] { load_tokenizer_json(path); }), HasSubstr("merge 0 is nested deeply"));
}

TEST(Regex, EndsMatchingThatNeverEnds) {
  const auto regex = Regex::from_oniguruma("(?:a+)+$", "a test");
  RegexScratch scratch;
  Regex::Match match;
  EXPECT_THAT(error_of([&] { regex.search(std::string(60, 'a') + "b", 0, scratch, match); }), HasSubstr("limit"));
}

TEST(GgufTokenizer, RefusesBadVocabularies) {
  const auto error_with = [](auto change) {
    GgufVocabulary vocabulary = smollm2();
    change(vocabulary);
    return error_of([&] { make_gguf_tokenizer(std::move(vocabulary)); });
  };
  EXPECT_THAT(error_with([](auto& v) { v.pre = "unheard-of"; }), HasSubstr("\"unheard-of\""));
  EXPECT_THAT(error_with([](auto& v) { v.model = "bert"; }), HasSubstr("\"bert\""));
  EXPECT_THAT(error_with([](auto& v) { v.tokens.clear(); }), HasSubstr("no tokens"));
  EXPECT_THAT(error_with([](auto& v) { v.tokens[5] = "\xFF"; }), HasSubstr("token 5"));
  EXPECT_THAT(error_with([](auto& v) { v.tokens[300] = v.tokens[301]; }), HasSubstr("twice"));
  EXPECT_THAT(error_with([](auto& v) { v.token_types.pop_back(); }), HasSubstr("token types"));
  EXPECT_THAT(error_with([](auto& v) { v.merges[7] = "one"; }), HasSubstr("merge 7"));
  EXPECT_THAT(error_with([](auto& v) { v.bos = 49152; }), HasSubstr("begin token"));
}

// The llama vocabulary of a GGUF file, from the pieces of the recorded SentencePiece model.
GgufVocabulary llama_vocabulary() {
  GgufVocabulary vocabulary;
  vocabulary.model = "llama";
  for (const auto& piece :
       parse_sentencepiece_model(read_file(golden::directory() / "bpe.model"), "bpe.model").pieces) {
    vocabulary.tokens.push_back(piece.text);
    vocabulary.scores.push_back(piece.score);
    vocabulary.token_types.push_back(piece.type);
  }
  vocabulary.bos = 1;
  vocabulary.eos = 2;
  return vocabulary;
}

TEST(GgufTokenizer, LlamaVocabularyEqualsSentencePiece) {
  const auto tokenizer = make_gguf_tokenizer(llama_vocabulary());
  const size_t index = golden::cases()["cases"].size();
  for (size_t k = 0; k < golden::texts().size(); ++k) {
    const auto ids = tokenizer->encode(golden::texts()[k], {.parse_special_tokens = false});
    EXPECT_EQ(golden::hash_of(ids), golden::recorded(index, k, 0)) << "text " << k;
    EXPECT_EQ(golden::hash_of(tokenizer->decode(ids)), golden::recorded(index, k, 1)) << "text " << k;
  }
  EXPECT_EQ(tokenizer->encode("a", {.add_special_tokens = true}).front(), 1);
}

TEST(GgufTokenizer, WrittenForHuggingFaceKeepsEndsAndTemplate) {
  GgufVocabulary vocabulary = smollm2();
  vocabulary.bos = 1;
  vocabulary.eos = 2;
  vocabulary.add_bos = true;
  vocabulary.add_eos = true;
  const std::string chat = "{{ messages }}\n";
  const HfTokenizerFiles files =
      hf_tokenizer_files(vocabulary, {.chat_template = chat, .pad = 0, .model_max_length = 8192});
  const json config = json::parse(files.tokenizer_config_json);
  EXPECT_EQ(config["pad_token"], "<|endoftext|>");
  EXPECT_EQ(config["chat_template"], chat);
  EXPECT_EQ(config["model_max_length"], 8192);
  const ScratchDirectory scratch;
  scratch.file("tokenizer_config.json", files.tokenizer_config_json);
  const auto tokenizer = load_tokenizer_json(scratch.file("tokenizer.json", files.tokenizer_json));
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->eos(), 2);
  EXPECT_THAT(tokenizer->encode("", {.add_special_tokens = true}), ElementsAre(1, 2));
  EXPECT_EQ(tokenizer->vocabulary_size(), 49152);
}

TEST(GgufTokenizer, WritesNoFilesOfWhatTheyCannotHold) {
  EXPECT_THAT(error_of([] { hf_tokenizer_files(llama_vocabulary(), {}); }), HasSubstr("only byte-level BPE"));
  GgufVocabulary vocabulary = smollm2();
  EXPECT_THAT(error_of([&] { hf_tokenizer_files(vocabulary, {.pad = 49152}); }), HasSubstr("pad_token"));
  vocabulary.tokens[300] = vocabulary.tokens[301];
  EXPECT_THAT(error_of([&] { hf_tokenizer_files(vocabulary, {}); }), HasSubstr("twice"));
}

TEST(GgufTokenizer, LlamaVocabularyWithUserPiecesGoesThroughTheLibrary) {
  GgufVocabulary vocabulary = llama_vocabulary();
  vocabulary.tokens.push_back("<turn>");
  vocabulary.scores.push_back(0);
  vocabulary.token_types.push_back(4);
  const auto plain = make_gguf_tokenizer(llama_vocabulary());
  const auto tokenizer = make_gguf_tokenizer(std::move(vocabulary));
  EXPECT_THAT(tokenizer->describe(), HasSubstr("SentencePiece, 4001 tokens"));
  const std::string text = "the library and our merges agree, \u6f22\u5b57 too";
  EXPECT_EQ(tokenizer->encode(text), plain->encode(text));
  EXPECT_EQ(tokenizer->encode("<turn>").back(), 4000);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
}

TEST(SentencePiece, ParsesSpecialTokensAndThoseBeside) {
  const ScratchDirectory scratch;
  const auto path = scratch.file("tokenizer.model", read_file(golden::directory() / "bpe.model"));
  scratch.file("added_tokens.json", R"({"<|im_start|>": 4000, "<s>": 1})");
  scratch.file("tokenizer_config.json",
               R"({"add_bos_token": false, "add_eos_token": true, "eos_token": "<|im_start|>"})");
  const auto tokenizer = load_sentencepiece(path);
  EXPECT_EQ(tokenizer->vocabulary_size(), 4001);
  const auto a = tokenizer->encode("a");
  ASSERT_EQ(a.size(), 1u);
  EXPECT_THAT(tokenizer->encode("<|im_start|>a</s>", {.add_special_tokens = true}), ElementsAre(4000, a[0], 2, 4000));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("a<|im_start|>b")), "a b");
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("a<|im_start|>b"), false), "a<|im_start|> b");
  scratch.file("added_tokens.json", R"({"<|im_start|>": 17})");
  EXPECT_THAT(error_of([&] { load_sentencepiece(path); }), HasSubstr("<|im_start|>"));
}

// Each recorded tokenizer_config.json beside the model (tests/golden/tokenizer/record_transformers.py).
TEST(SentencePiece, IsReadAsTransformersReadsIt) {
  const json recorded = json::parse(read_file(golden::directory() / "transformers.json"));
  ASSERT_GE(recorded["cases"].size(), 12u);
  for (const json& entry : recorded["cases"]) {
    SCOPED_TRACE(entry["config"].dump());
    const ScratchDirectory scratch;
    const auto path = scratch.file("tokenizer.model", read_file(golden::directory() / "bpe.model"));
    if (!entry["config"].is_null()) scratch.file("tokenizer_config.json", entry["config"].dump());
    const auto tokenizer = load_sentencepiece(path);
    const EncodeOptions options{.add_special_tokens = !entry["config"].is_null()};
    for (size_t i = 0; i < recorded["texts"].size(); ++i) {
      const std::string text = recorded["texts"][i];
      const auto ids = entry["ids"][i].get<std::vector<TokenId>>();
      EXPECT_EQ(tokenizer->encode(text, options), ids) << text;
      EXPECT_EQ(tokenizer->decode(ids), entry["decoded"][i].get<std::string>()) << text;
    }
  }
}

// What goes through the library has the same prefixes: a piece of the user's own keeps the merges from being enough.
TEST(SentencePiece, ThePrefixIsTheSameThroughTheLibrary) {
  const ScratchDirectory scratch;
  GgufVocabulary vocabulary = llama_vocabulary();
  vocabulary.bos = 1;
  const std::string plain = sentencepiece_model(vocabulary);
  vocabulary.tokens.push_back("<turn>");
  vocabulary.scores.push_back(0);
  vocabulary.token_types.push_back(4);
  const std::string with_piece = sentencepiece_model(vocabulary);
  for (const char* config : {R"({"legacy": false})", R"({"tokenizer_class": "LlamaTokenizer", "legacy": true})",
                             R"({"tokenizer_class": "LlamaTokenizer", "add_prefix_space": false})"}) {
    scratch.file("tokenizer_config.json", config);
    const auto merges = load_sentencepiece(scratch.file("tokenizer.model", plain));
    const auto library = load_sentencepiece(scratch.file("tokenizer.model", with_piece));
    EXPECT_THAT(library->describe(), HasSubstr("SentencePiece, 4001 tokens"));
    for (const char* text : {"hello world", " hello", "hello</s>world", "hello</s> world"}) {
      EXPECT_EQ(library->encode(text), merges->encode(text)) << config << text;
    }
  }
}

TEST(AddedTokens, TakeTheSpaceBesideThemAsInTheReference) {
  for (const json& entry : json::parse(read_file(golden::directory() / "added_token_spaces.json"))) {
    SCOPED_TRACE(entry["added"].dump());
    std::vector<AddedToken> tokens;
    for (const json& token : entry["added"]) {
      tokens.push_back({.id = static_cast<TokenId>(tokens.size()),
                        .content = token["content"],
                        .lstrip = token.value("lstrip", false),
                        .rstrip = token.value("rstrip", false)});
    }
    const std::string text = entry["text"];
    std::vector<TextPart> parts;
    AddedTokenMatcher(tokens).split(text, true, parts);
    std::vector<std::string> found;
    for (const auto& [part, token] : parts) {
      if (token >= 0) found.emplace_back(part);
      for (size_t i = 0; token < 0 && i < part.size(); ++i) found.emplace_back(1, part[i]);
    }
    EXPECT_EQ(found, entry["tokens"].get<std::vector<std::string>>());
  }
}

// A token that takes white space on both sides looks at a run of it once, however many line breaks the run has.
TEST(AddedTokens, LongRunsOfSpaceTakeLinearTime) {
  const std::string run(2'000'000, '\n');
  for (const bool left : {true, false}) {
    const AddedTokenMatcher matcher({{.id = 0, .content = "\n", .lstrip = left, .rstrip = true}});
    std::vector<TextPart> parts;
    const auto start = std::chrono::steady_clock::now();
    matcher.split(run, true, parts);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
    EXPECT_EQ(parts.size(), left ? 1u : run.size());
  }
}

TEST(TokenIds, AreNumbersOf31Bits) {
  EXPECT_EQ(token_id_from(0x7FFFFFFF, "x"), 0x7FFFFFFF);
  for (const int64_t id : {int64_t{-1}, int64_t{1} << 31, (int64_t{1} << 32) + 1}) {
    EXPECT_THAT(error_of([&] { token_id_from(id, "file: bos"); }), HasSubstr("file: bos: " + std::to_string(id)));
  }
}

TEST(GgufTokenizer, MessagesNameTheFile) {
  const auto message = [](const auto& change) {
    GgufVocabulary vocabulary = smollm2();
    vocabulary.where = "m.gguf";
    change(vocabulary);
    return error_of([&] { make_gguf_tokenizer(std::move(vocabulary)); });
  };
  EXPECT_THAT(message([](GgufVocabulary& v) { v.tokens.clear(); }), HasSubstr("m.gguf: the vocabulary has no tokens"));
  EXPECT_THAT(message([](GgufVocabulary& v) { v.bos = 49152; }), HasSubstr("m.gguf: the begin token has the id 49152"));
  EXPECT_THAT(message([](GgufVocabulary& v) { v.model = "bert"; }), HasSubstr("m.gguf: the vocabulary is of the kind"));
  EXPECT_THAT(message([](GgufVocabulary& v) { v.pre = "odd"; }), HasSubstr("m.gguf: the pre-tokenizer \"odd\""));
  EXPECT_THAT(message([](GgufVocabulary& v) { v.merges[3] = "x"; }), HasSubstr("m.gguf: merge 3 of the vocabulary"));
  EXPECT_THAT(message([](GgufVocabulary& v) { v.tokens[5] = "\xFF"; }), HasSubstr("m.gguf: token 5 of the vocabulary"));
  EXPECT_THAT(message([](GgufVocabulary& v) { v.model = "llama"; }),
              HasSubstr("m.gguf: the vocabulary has 49152 tokens"));
}

TEST(SentencePiece, SurvivesHostileFiles) {
  const ScratchDirectory scratch;
  const std::string original = read_file(golden::directory() / "unigram.model");
  std::mt19937 random(11);
  int refused = 0;
  for (int k = 0; k < 300; ++k) {
    std::string bytes = original;
    if (k % 3 == 0) bytes.resize(random() % bytes.size());
    for (int j = 0; j < 4 && !bytes.empty(); ++j) bytes[random() % bytes.size()] = static_cast<char>(random());
    const auto path = scratch.file("tokenizer.model", bytes);
    try {
      const auto tokenizer = load_sentencepiece(path);
      tokenizer->decode(tokenizer->encode("some text, \u6f22\u5b57"));
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 50);
}

}  // namespace
}  // namespace cepe
