#include "text/chat_template.h"

#include "text/jinja/evaluator.h"
#include "text/jinja/parser.h"
#include "text/utf8.h"

namespace cepe {

using jinja::None;
using jinja::Value;

struct ChatTemplate::Impl {
  std::string file;
  jinja::Template parsed;
};

namespace {

// Runs something of a template; its errors name the file.
template <typename Action>
auto with_file(const std::string& file, const Action& action) {
  try {
    return action();
  } catch (const Error& error) {
    throw ChatTemplateError(file.empty() ? error.what() : file + ": " + error.what());
  }
}

}  // namespace

ChatTemplate::ChatTemplate(std::string_view source, std::string file) : impl_(std::make_unique<Impl>()) {
  impl_->file = std::move(file);
  impl_->parsed = with_file(impl_->file, [&] { return jinja::parse(source); });
}

ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

std::string ChatTemplate::render(const ChatTemplateInput& input) const {
  jinja::List messages;
  for (const ChatMessage& message : input.messages) {
    for (const std::string* text : {&message.role, &message.content}) {
      const size_t invalid = find_invalid_utf8(*text);
      require(invalid == std::string::npos, "chat message {}: not valid UTF-8 at byte {}", messages.size() + 1,
              invalid);
    }
    messages.emplace_back(jinja::Map{{"role", Value(message.role)}, {"content", Value(message.content)}});
  }
  std::map<std::string, Value> variables{
      {"messages", Value(std::move(messages))},
      {"add_generation_prompt", Value(input.add_generation_prompt)},
      {"tools", Value(None{})},
      {"documents", Value(None{})},
  };
  for (const auto& [name, text] : input.special_tokens) variables[name] = Value(text);
  // A tokenizer without such a token leaves the name undefined.
  if (!input.bos_token.empty()) variables["bos_token"] = Value(input.bos_token);
  if (!input.eos_token.empty()) variables["eos_token"] = Value(input.eos_token);
  return with_file(impl_->file, [&] { return jinja::render(impl_->parsed, variables); });
}

}  // namespace cepe
