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
    PromptInput input{.text = record["prompt"], .chat_template = {.none = record["raw"].get<bool>()}};
    if (record.contains("system")) input.system = record["system"].get<std::string>();
    const Prompt prompt = build_prompt(opened, input);
    EXPECT_EQ(prompt.tokens, record["prompt_tokens"].get<std::vector<TokenId>>());
    EXPECT_EQ(prompt.templated, !input.chat_template.none);
  }
  EXPECT_EQ(end_tokens(opened), std::vector<TokenId>{2});
}

// "Question: ...", "Answer:", as stage ask trains; the chunks of a context that are read again stand before the
// question.
TEST(Prompt, MayBeAQuestionOfOneLine) {
  const OpenedModel opened = open_model(kGolden / "plain");
  const PromptBuilder builder(opened, {.question = true});
  const auto tokens = [&](const std::string& text) {
    return opened.tokenizer->encode(text, {.add_special_tokens = true});
  };
  EXPECT_TRUE(builder.has_template());
  EXPECT_TRUE(builder.one_line_answers());
  const Prompt alone = builder.prompt("Who is it?");
  EXPECT_EQ(alone.tokens, tokens("Question: Who is it?\nAnswer:"));
  EXPECT_TRUE(alone.templated && alone.one_line);
  EXPECT_EQ(builder.prompt("Who is it?", "Be brief.", "A text.").tokens,
            tokens("Be brief.\n\nA text.\n\nQuestion: Who is it?\nAnswer:"));
  EXPECT_EQ(builder.chat({{"user", "Who?"}, {"assistant", "Will"}, {"user", "Why?"}}, "A text."),
            tokens("Question: Who?\nAnswer: Will\n\nA text.\n\nQuestion: Why?\nAnswer:"));
  EXPECT_FALSE(PromptBuilder(opened).one_line_answers());
}

// Before a chat template's last message, and before a text that goes on.
TEST(Prompt, ATextStandsBeforeTheMessage) {
  const OpenedModel opened = open_model(kGolden / "plain");
  const PromptBuilder chat(opened), raw(opened, {.none = true});
  EXPECT_EQ(chat.prompt("Who?", {}, "A text.").tokens, chat.prompt("A text.\n\nWho?").tokens);
  EXPECT_EQ(raw.prompt("Who?", {}, "A text.").tokens, raw.prompt("A text.\n\nWho?").tokens);
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

}  // namespace
}  // namespace cepe
