// Chat templates: Jinja as transformers renders it, less a few parts that no chat needs (docs/tokenizers.md).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace cepe {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

struct ChatTemplateInput {
  std::vector<ChatMessage> messages;
  bool add_generation_prompt = true;
  std::string bos_token, eos_token;  // texts of the special tokens, as the template's variables; empty: undefined
  std::map<std::string, std::string> special_tokens;  // further ones by the variable's name: "pad_token"
};

// A template that is refused, when it is read or by what it does.
class ChatTemplateError : public Error {
 public:
  using Error::Error;
};

// A parsed template; immutable and thread-safe.
class ChatTemplate {
 public:
  // Parses; a construct outside the subset is a ChatTemplateError that names it and its line. `file` is named by all
  // errors, where given.
  explicit ChatTemplate(std::string_view source, std::string file = "");
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // The prompt text; special tokens in it are to be parsed by the tokenizer. Throws
  // ChatTemplateError where the template raises (raise_exception) or uses an undefined name in a way Jinja would
  // refuse, and Error where a message is not UTF-8.
  std::string render(const ChatTemplateInput& input) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cepe
