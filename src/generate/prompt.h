// What the decoder is asked: the prompt's tokens, and those that end an answer.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/checkpoint/checkpoint.h"
#include "text/chat_template.h"

namespace cepe {

// Which chat template prompts are put into.
struct TemplateChoice {
  bool none = false;      // raw: none, even where the model has one
  bool question = false;  // "Question: ...", "Answer:" instead of any, turns apart by an empty line: how models that
                          // stage ask trained are asked (docs/ask.md)
  std::optional<std::string> text = {};  // instead of the model's own: the Jinja source
  std::string file = {};                 // that holds it, for messages
};

struct Prompt {
  std::vector<TokenId> tokens;
  // False: raw, or the model has no chat template. What the model makes then continues the text.
  bool templated = false;
  bool one_line = false;  // the answer ends at its first line break, white space before the answer aside
};

// Makes the tokens of prompts for one model; the chat template is parsed once. Immutable: threads may share one. Shares
// the model's tokenizer, so that the model may go first.
class PromptBuilder {
 public:
  // Throws Error where the model has no tokenizer; ChatTemplateError where the template is refused.
  explicit PromptBuilder(const OpenedModel& opened, const TemplateChoice& choice = {});

  bool has_template() const { return question_ || template_.has_value(); }
  bool one_line_answers() const { return question_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }

  // A conversation, put into the template up to the beginning of the next answer; the names of special tokens in it are
  // parsed. text_before: what stands before the last message, an empty line after it; may be empty. Throws Error where
  // there is no template or a message is not UTF-8; ChatTemplateError where the template refuses the messages.
  std::vector<TokenId> chat(const std::vector<ChatMessage>& messages, const std::string& text_before = {}) const;
  // A text to go on with: its tokens, special ones parsed, after the begin token where the tokenizer adds one. Throws
  // Error on an empty text, and on one that is not UTF-8.
  std::vector<TokenId> continuation(std::string_view text) const;
  // One user's message, after a system message where one is given, as chat() where there is a template; else the text
  // as continuation(). text_before as in chat(). Throws Error as they do, on an empty text and on a system message that
  // no template can take.
  Prompt prompt(const std::string& text, const std::optional<std::string>& system = {},
                const std::string& text_before = {}) const;

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  bool question_ = false;
  std::optional<ChatTemplate> template_;
  std::string no_template_;  // where there is none: why, for messages
  std::map<std::string, std::string> special_tokens_;
};

struct PromptInput {
  std::string text;                   // the user's message; without a template: the text to go on with
  std::optional<std::string> system;  // a system message before it
  TemplateChoice chat_template = {};
  std::string text_before = {};  // before the message, an empty line after it
};
// PromptBuilder::prompt() for one prompt.
Prompt build_prompt(const OpenedModel& opened, const PromptInput& input);

// The tokens that end an answer: the model's own, and the tokenizer's end token.
std::vector<TokenId> end_tokens(const OpenedModel& opened);

}  // namespace cepe
