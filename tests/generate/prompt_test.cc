#include "generate/prompt.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "base/file.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = fs::path(CEPE_TEST_DATA) / "generate";

nlohmann::json greedy_records() {
  std::ifstream file(kGolden / "greedy.json");
  return nlohmann::json::parse(file);
}

TEST(Prompt, TokensEqualTheReference) {
  const OpenedModel opened = open_model(kGolden / "plain");
  for (const auto& record : greedy_records()) {
    PromptInput input{.text = record["prompt"], .chat_template = {.none = record["raw"].get<bool>()}};
    if (record.contains("system")) input.system = record["system"].get<std::string>();
    const Prompt prompt = build_prompt(opened, input);
    EXPECT_EQ(prompt.tokens, record["prompt_tokens"].get<std::vector<TokenId>>());
    EXPECT_EQ(prompt.templated, !input.chat_template.none);
  }
  EXPECT_EQ(end_tokens(opened), std::vector<TokenId>{2});
}

TEST(Prompt, RefusesWhatCannotBeAPrompt) {
  OpenedModel opened = open_model(kGolden / "plain");
  EXPECT_THROW(build_prompt(opened, {.text = ""}), Error);
  EXPECT_THROW(build_prompt(opened, {.text = "a\xff"}), Error);
  EXPECT_THROW(build_prompt(opened, {.text = "Hello", .system = "Be brief.", .chat_template = {.none = true}}), Error);
  opened.chat_template.clear();
  EXPECT_THROW(build_prompt(opened, {.text = "Hello", .system = "Be brief."}), Error);
  EXPECT_FALSE(build_prompt(opened, {.text = "Hello"}).templated);
  opened.tokenizer.reset();
  EXPECT_THROW(build_prompt(opened, {.text = "Hello"}), Error);
}

class ContextFiles : public testing::Test {
 protected:
  fs::path write(const std::string& name, const std::string& text) {
    write_file(directory_ / name, text);
    return directory_ / name;
  }
  void SetUp() override { fs::create_directories(directory_); }
  void TearDown() override { fs::remove_all(directory_); }
  fs::path directory_ = fs::path(testing::TempDir()) / "cepe_prompt_test";
};

TEST_F(ContextFiles, EachDocumentIsCutByItself) {
  const OpenedModel opened = open_model(kGolden / "published");
  std::string text;
  for (int i = 0; i < 30; ++i) text += "The boats said nothing <|im_end|>. ";
  const fs::path first = write("first.txt", text), second = write("second.txt", "A short one.");
  const Chunks one = read_context(opened, {first}), other = read_context(opened, {second}),
               both = read_context(opened, {first, second});
  EXPECT_EQ(one.chunk_length, 32);  // the encoder's window is smaller than the usual 256
  EXPECT_GT(one.count(), 3);
  EXPECT_EQ(other.count(), 1);
  EXPECT_EQ(both.count(), one.count() + 1);
  EXPECT_EQ(both.tokens(), one.tokens() + other.tokens());
  for (size_t i = 0; i < one.ids.size(); ++i)
    ASSERT_NE(one.ids[i], 2) << "text that reads like a special token is text";
  std::vector<TokenId> real;
  for (int64_t m = 0; m < one.count(); ++m) {
    const auto begin = one.ids.begin() + m * 32;
    real.insert(real.end(), begin, begin + one.lengths[static_cast<size_t>(m)]);
  }
  EXPECT_EQ(opened.tokenizer->decode(real), text);
}

TEST_F(ContextFiles, RecordsAreDocuments) {
  const OpenedModel opened = open_model(kGolden / "published");
  const Chunks apart = read_context(opened, {write("a.txt", "The boats."), write("b.txt", "The \"harbour\".")});
  const Chunks records =
      read_context(opened, {write("c.jsonl",
                                  "{\"text\": \"The boats.\", \"domain\": \"sea\"}\n\n{\"text\": \"\"}\n"
                                  "{\"text\": \"The \\\"harbour\\\".\"}\n")});
  EXPECT_EQ(records.count(), 2);
  EXPECT_EQ(records.ids, apart.ids);
  EXPECT_EQ(records.lengths, apart.lengths);
  EXPECT_THROW(read_context(opened, {write("d.jsonl", "{\"words\": 1}\n")}), Error);
}

TEST_F(ContextFiles, BadOnesAreErrors) {
  const OpenedModel published = open_model(kGolden / "published"), plain = open_model(kGolden / "plain");
  const fs::path text = write("text.txt", "The harbour."), empty = write("empty.txt", ""),
                 binary = write("binary.txt", "a\xff\xfe");
  EXPECT_THROW(read_context(published, {empty}), Error);
  EXPECT_THROW(read_context(published, {binary}), Error);
  EXPECT_THROW(read_context(published, {directory_ / "absent.txt"}), Error);
  EXPECT_THROW(read_context(published, {directory_}), Error);
  EXPECT_THROW(read_context(plain, {text}), Error);
  EXPECT_EQ(read_context(plain, {}).count(), 0);
}

TEST(EncodeContext, PaddingLeavesNoTrace) {
  const OpenedModel opened = open_model(kGolden / "published");
  Chunks chunks{.chunk_length = 32};
  std::vector<TokenId> first, second;
  for (int i = 0; i < 41; ++i) first.push_back(3 + (i * 7) % 250);
  for (int i = 0; i < 5; ++i) second.push_back(200 + i);
  append_chunks(first, chunks);
  append_chunks(second, chunks);
  const Latents latents = encode_context(opened.model, chunks);
  EXPECT_FALSE(latents.mask_BS.defined());
  ASSERT_EQ(latents.tokens(), 46);

  // Each chunk alone, without padding.
  std::vector<at::Tensor> alone;
  const auto encode_alone = [&](const std::vector<TokenId>& tokens, size_t from, size_t to) {
    const std::vector<int64_t> ids(tokens.begin() + static_cast<long>(from), tokens.begin() + static_cast<long>(to));
    const ContextChunks one{.ids_BML = at::tensor(ids, at::kLong).view({1, 1, -1})};
    alone.push_back(encode(opened.model, one).states_BSE);
  };
  encode_alone(first, 0, 32);
  encode_alone(first, 32, 41);
  encode_alone(second, 0, 5);
  const at::Tensor expected = at::cat(alone, 1);
  EXPECT_LT((latents.states_BSE - expected).norm().item<double>(), 1e-5 * expected.norm().item<double>());
}

TEST(EncodeContext, InEightBitsItIsTheSameRounded) {
  const OpenedModel opened = open_model(kGolden / "published");
  Chunks chunks{.chunk_length = 32};
  std::vector<TokenId> tokens;
  for (int i = 0; i < 75; ++i) tokens.push_back(3 + (i * 7) % 250);
  append_chunks(tokens, chunks);
  const Latents expected = quantize(encode_context(opened.model, chunks)),
                found = encode_context(opened.model, chunks, {.int8 = true});
  EXPECT_TRUE(at::equal(found.states_BSE, expected.states_BSE));
  EXPECT_TRUE(at::equal(found.scales_BS, expected.scales_BS));
  EXPECT_TRUE(int8_latents_from_name("int8", "latents"));
  EXPECT_FALSE(int8_latents_from_name("stored", "latents"));
  EXPECT_THROW(int8_latents_from_name("int4", "latents"), Error);
}

TEST(EncodeContext, ALongContextIsReadInGroups) {
  const OpenedModel opened = open_model(kGolden / "published");
  Chunks chunks{.chunk_length = 4};
  std::vector<TokenId> document;
  for (int i = 0; i < 399; ++i) document.push_back(3 + (i * 17) % 290);
  append_chunks(document, chunks);
  append_chunks(document, chunks);
  int64_t reported = 0, calls = 0;
  const Latents latents = encode_context(opened.model, chunks, {.progress = [&](int64_t count) {
                                           reported += count;
                                           ++calls;
                                         }});
  EXPECT_EQ(reported, 200);
  EXPECT_GT(calls, 1);
  ASSERT_EQ(latents.tokens(), 798);

  // All chunks in one call; the last of each document has 3 tokens.
  const std::vector<int64_t> ids(chunks.ids.begin(), chunks.ids.end());
  at::Tensor mask = at::ones({1, 200, 4}, at::kBool);
  for (const int64_t last : {99, 199}) mask[0][last][3].fill_(false);
  const Latents whole =
      encode(opened.model, {.ids_BML = at::tensor(ids, at::kLong).view({1, 200, 4}), .mask_BML = mask});
  const at::Tensor expected = at::cat({whole.states_BSE.narrow(1, 0, 399), whole.states_BSE.narrow(1, 400, 399)}, 1);
  EXPECT_LT((latents.states_BSE - expected).norm().item<double>(), 1e-5 * expected.norm().item<double>());
}

}  // namespace
}  // namespace cepe
