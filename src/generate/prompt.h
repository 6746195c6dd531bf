// What the decoder is asked: the prompt's tokens, and those that end an answer.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/checkpoint/checkpoint.h"

namespace cepe {

struct PromptInput {
  std::string text;                   // the user's message; raw: the text to go on with
  std::optional<std::string> system;  // a system message before it
  bool raw = false;                   // no chat template, even where the model has one
  // Instead of the model's own, where given: the Jinja source, and the file for messages.
  std::optional<std::string> chat_template;
  std::string chat_template_file;
};

struct Prompt {
  std::vector<TokenId> tokens;
  // False: raw, or the model has no chat template. What the model makes then continues the text.
  bool templated = false;
};

// The tokens of a prompt, the names of special tokens in it parsed. Raw: the text, with the begin token where the
// tokenizer adds one. Throws Error on an empty prompt, a model without a tokenizer, a system message that no template
// can take and text that is not UTF-8; ChatTemplateError where the template or what it does with the messages is
// refused.
Prompt build_prompt(const OpenedModel& opened, const PromptInput& input);

// The tokens that end an answer: the model's own, and the tokenizer's end token.
std::vector<TokenId> end_tokens(const OpenedModel& opened);

}  // namespace cepe
