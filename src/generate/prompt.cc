#include "generate/prompt.h"

#include <algorithm>

#include "base/error.h"

namespace cepe {
namespace {

std::string special_text(const Tokenizer& tokenizer, std::optional<TokenId> token) {
  return token ? tokenizer.token_text(*token) : std::string();
}

std::string with_text_before(const std::string& text, const std::string& message) {
  return text.empty() ? message : text + "\n\n" + message;
}

std::string in_question_form(const std::vector<ChatMessage>& messages, const std::string& text_before) {
  std::string text;
  for (const ChatMessage& message : messages) {
    if (message.role == "user") {
      const bool last = &message == &messages.back();
      text += with_text_before(last ? text_before : "", "Question: " + message.content + "\nAnswer:");
    } else if (message.role == "assistant") {
      text += " " + message.content + "\n\n";
    } else {
      text += message.content + "\n\n";
    }
  }
  return text;
}

}  // namespace

PromptBuilder::PromptBuilder(const OpenedModel& opened, const TemplateChoice& choice)
    : tokenizer_(opened.tokenizer), special_tokens_(opened.special_tokens) {
  require(tokenizer_ != nullptr, "{}: no tokenizer was found beside the weights, and text needs one",
          opened.path.string());
  if (choice.question) {
    question_ = true;
  } else if (choice.none) {
    no_template_ = "a raw prompt is put into none";
  } else if (choice.text) {
    template_.emplace(*choice.text, choice.file);
  } else if (!opened.chat_template.empty()) {
    template_.emplace(opened.chat_template, opened.chat_template_file);
  } else {
    no_template_ = opened.path.string() + " has none";
  }
}

std::vector<TokenId> PromptBuilder::chat(const std::vector<ChatMessage>& messages,
                                         const std::string& text_before) const {
  require(has_template(), "a conversation needs a chat template, and {}", no_template_);
  if (question_) return continuation(in_question_form(messages, text_before));
  if (!text_before.empty()) {
    std::vector<ChatMessage> whole = messages;
    whole.back().content = with_text_before(text_before, whole.back().content);
    return chat(whole);
  }
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

Prompt PromptBuilder::prompt(const std::string& text, const std::optional<std::string>& system,
                             const std::string& text_before) const {
  require(!text.empty(), "the prompt is empty");
  require(has_template() || !system, "a system message needs a chat template, and {}", no_template_);
  if (!has_template()) return {continuation(with_text_before(text_before, text))};
  std::vector<ChatMessage> messages;
  if (system) messages.push_back({"system", *system});
  messages.push_back({"user", text});
  return {.tokens = chat(messages, text_before), .templated = true, .one_line = question_};
}

Prompt build_prompt(const OpenedModel& opened, const PromptInput& input) {
  return PromptBuilder(opened, input.chat_template).prompt(input.text, input.system, input.text_before);
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
