#include "generate/prompt.h"

#include <algorithm>

#include "base/error.h"

namespace cepe {
namespace {

std::string special_text(const Tokenizer& tokenizer, std::optional<TokenId> token) {
  return token ? tokenizer.token_text(*token) : std::string();
}

}  // namespace

PromptBuilder::PromptBuilder(const OpenedModel& opened, const TemplateChoice& choice)
    : tokenizer_(opened.tokenizer), special_tokens_(opened.special_tokens) {
  require(tokenizer_ != nullptr, "{}: no tokenizer was found beside the weights, and text needs one",
          opened.path.string());
  if (choice.none) {
    no_template_ = "a raw prompt is put into none";
  } else if (choice.text) {
    template_.emplace(*choice.text, choice.file);
  } else if (!opened.chat_template.empty()) {
    template_.emplace(opened.chat_template, opened.chat_template_file);
  } else {
    no_template_ = opened.path.string() + " has none";
  }
}

std::vector<TokenId> PromptBuilder::chat(const std::vector<ChatMessage>& messages) const {
  require(template_.has_value(), "a conversation needs a chat template, and {}", no_template_);
  const std::string text = template_->render({.messages = messages,
                                              .bos_token = special_text(*tokenizer_, tokenizer_->bos()),
                                              .eos_token = special_text(*tokenizer_, tokenizer_->eos()),
                                              .special_tokens = special_tokens_});
  std::vector<TokenId> tokens = tokenizer_->encode(text, {.add_special_tokens = false});
  require(!tokens.empty(), "the chat template makes an empty prompt of the conversation");
  return tokens;
}

std::vector<TokenId> PromptBuilder::continuation(std::string_view text) const {
  require(!text.empty(), "the prompt is empty");
  std::vector<TokenId> tokens = tokenizer_->encode(text, {.add_special_tokens = true});
  require(!tokens.empty(), "the prompt has no tokens");
  return tokens;
}

Prompt PromptBuilder::prompt(const std::string& text, const std::optional<std::string>& system) const {
  require(!text.empty(), "the prompt is empty");
  require(has_template() || !system, "a system message needs a chat template, and {}", no_template_);
  if (!has_template()) return {continuation(text), false};
  std::vector<ChatMessage> messages;
  if (system) messages.push_back({"system", *system});
  messages.push_back({"user", text});
  return {chat(messages), true};
}

Prompt build_prompt(const OpenedModel& opened, const PromptInput& input) {
  return PromptBuilder(opened, input.chat_template).prompt(input.text, input.system);
}

std::vector<TokenId> end_tokens(const OpenedModel& opened) {
  std::vector<TokenId> tokens;
  // An id outside the vocabulary ends nothing: no such token is ever drawn.
  for (const int64_t token : opened.model.config.decoder.end_tokens) {
    const bool known = token >= 0 && token < opened.model.config.decoder.vocab_size;
    if (known) tokens.push_back(static_cast<TokenId>(token));
  }
  if (opened.tokenizer && opened.tokenizer->eos()) tokens.push_back(*opened.tokenizer->eos());
  std::sort(tokens.begin(), tokens.end());
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  return tokens;
}

}  // namespace cepe
