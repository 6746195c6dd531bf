// Chat templates: the subset of Jinja that the supported model families use.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace cepe {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

struct ChatTemplateInput {
  std::vector<ChatMessage> messages;
  bool add_generation_prompt = true;
  std::string bos_token, eos_token;  // texts of the special tokens, as the template's variables
};

// A parsed template; immutable and thread-safe.
class ChatTemplate {
 public:
  // Parses; a construct outside the subset is an Error that names it and its line.
  explicit ChatTemplate(std::string_view source);
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // The prompt text; special tokens in it are to be parsed by the tokenizer. Throws Error where the template
  // raises (raise_exception) or uses an undefined name in a way Jinja would refuse.
  std::string render(const ChatTemplateInput& input) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cepe
