#include "generate/prompt.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"

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
    PromptInput input{.text = record["prompt"], .raw = record["raw"].get<bool>()};
    if (record.contains("system")) input.system = record["system"].get<std::string>();
    const Prompt prompt = build_prompt(opened, input);
    EXPECT_EQ(prompt.tokens, record["prompt_tokens"].get<std::vector<TokenId>>());
    EXPECT_EQ(prompt.templated, !input.raw);
  }
  EXPECT_EQ(end_tokens(opened), std::vector<TokenId>{2});
}

TEST(Prompt, RefusesWhatCannotBeAPrompt) {
  OpenedModel opened = open_model(kGolden / "plain");
  EXPECT_THROW(build_prompt(opened, {.text = ""}), Error);
  EXPECT_THROW(build_prompt(opened, {.text = "a\xff"}), Error);
  EXPECT_THROW(build_prompt(opened, {.text = "Hello", .system = "Be brief.", .raw = true}), Error);
  opened.chat_template.clear();
  EXPECT_THROW(build_prompt(opened, {.text = "Hello", .system = "Be brief."}), Error);
  EXPECT_FALSE(build_prompt(opened, {.text = "Hello"}).templated);
  opened.tokenizer.reset();
  EXPECT_THROW(build_prompt(opened, {.text = "Hello"}), Error);
}

}  // namespace
}  // namespace cepe
