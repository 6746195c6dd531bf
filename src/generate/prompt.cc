#include "generate/prompt.h"

#include <algorithm>

#include "base/error.h"
#include "text/chat_template.h"

namespace cepe {
namespace {

const Tokenizer& tokenizer_of(const OpenedModel& opened) {
  require(opened.tokenizer != nullptr, "{}: no tokenizer was found beside the weights, and text needs one",
          opened.path.string());
  return *opened.tokenizer;
}

std::string special_text(const Tokenizer& tokenizer, std::optional<TokenId> token) {
  return token ? tokenizer.token_text(*token) : std::string();
}

// The template that a prompt is put into; empty where there is none.
const std::string& template_for(const OpenedModel& opened, const PromptInput& input) {
  return input.chat_template ? *input.chat_template : opened.chat_template;
}

std::string rendered(const OpenedModel& opened, const PromptInput& input) {
  const Tokenizer& tokenizer = *opened.tokenizer;
  ChatTemplateInput chat;
  if (input.system) chat.messages.push_back({"system", *input.system});
  chat.messages.push_back({"user", input.text});
  chat.bos_token = special_text(tokenizer, tokenizer.bos());
  chat.eos_token = special_text(tokenizer, tokenizer.eos());
  chat.special_tokens = opened.special_tokens;
  const std::string& file = input.chat_template ? input.chat_template_file : opened.chat_template_file;
  return ChatTemplate(template_for(opened, input), file).render(chat);
}

}  // namespace

Prompt build_prompt(const OpenedModel& opened, const PromptInput& input) {
  const Tokenizer& tokenizer = tokenizer_of(opened);
  require(!input.text.empty(), "the prompt is empty");
  Prompt prompt;
  prompt.templated = !input.raw && !template_for(opened, input).empty();
  require(prompt.templated || !input.system, "a system message needs a chat template, and {}",
          input.raw ? std::string("a raw prompt is put into none") : opened.path.string() + " has none");
  if (prompt.templated) {
    prompt.tokens = tokenizer.encode(rendered(opened, input), {.add_special_tokens = false});
  } else {
    prompt.tokens = tokenizer.encode(input.text, {.add_special_tokens = true});
  }
  require(!prompt.tokens.empty(), "the prompt has no tokens");
  return prompt;
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
