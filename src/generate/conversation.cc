#include "generate/conversation.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace cepe {
namespace {

constexpr const char *kSystem = "system", *kUser = "user", *kAssistant = "assistant";

// A text member of a message.
std::string text_of(const nlohmann::json& message, const char* name, const std::string& where) {
  const auto found = message.is_object() ? message.find(name) : message.end();
  require(message.is_object() && found != message.end() && found->is_string(),
          "{}: expected a message with \"role\" and \"content\", both text", where);
  return found->get<std::string>();
}

}  // namespace

void Conversation::ask(std::string question) {
  require(!question.empty(), "the question is empty");
  require(turns_.empty() || turns_.back().answer, "conversation: a question before the last one was answered");
  turns_.push_back({std::move(question), {}});
}

void Conversation::answer(std::string text) {
  require(!turns_.empty() && !turns_.back().answer, "conversation: an answer without a question");
  turns_.back().answer = std::move(text);
}

void Conversation::take_back() {
  if (!turns_.empty() && !turns_.back().answer) turns_.pop_back();
}

void Conversation::clear() { turns_.clear(); }

const std::string& Conversation::question() const {
  require(!turns_.empty() && !turns_.back().answer, "conversation: there is no question to be answered");
  return turns_.back().question;
}

std::vector<ChatMessage> Conversation::messages(int64_t turns_left_out) const {
  std::vector<ChatMessage> list;
  if (system_) list.push_back({kSystem, *system_});
  for (size_t i = static_cast<size_t>(turns_left_out); i < turns_.size(); ++i) {
    list.push_back({kUser, turns_[i].question});
    if (turns_[i].answer) list.push_back({kAssistant, *turns_[i].answer});
  }
  return list;
}

ConversationPrompt Conversation::prompt(const PromptBuilder& builder, const ConversationRoom& room,
                                        const std::string& text_before) const {
  static_cast<void>(question());
  const int64_t limit = room.prompt_tokens();
  const auto render = [&](int64_t left_out) {
    return ConversationPrompt{builder.chat(messages(left_out), text_before), left_out};
  };
  ConversationPrompt best = render(0);
  const auto size = [](const ConversationPrompt& prompt) { return static_cast<int64_t>(prompt.tokens.size()); };
  // The least number that fits lies in [low, high]: with fewer turns a prompt has fewer tokens.
  int64_t low = 1, high = turns() - 1;
  if (size(best) > limit && high > 0) best = render(high);
  while (best.turns_left_out > low && size(best) <= limit) {
    const int64_t middle = (low + best.turns_left_out) / 2;
    ConversationPrompt guess = render(middle);
    if (size(guess) <= limit)
      best = std::move(guess);
    else
      low = middle + 1;
  }
  // Whoever puts a text before the question asks how long that is, and for less of it.
  require(
      !text_before.empty() || size(best) < room.window,
      "{} {} tokens, which leaves no room for an answer in the decoder's window of {}: ask for less at once, or give "
      "the longer part as context",
      system_ ? "the question and the system message have" : "the question has", size(best), room.window);
  return best;
}

nlohmann::json messages_as_json(const std::vector<ChatMessage>& messages) {
  nlohmann::json list = nlohmann::json::array();
  for (const ChatMessage& message : messages) list.push_back({{"role", message.role}, {"content", message.content}});
  return list;
}

Conversation conversation_from_json(const nlohmann::json& messages, const std::string& where) {
  require(messages.is_array(), "{}: expected a list of messages", where);
  Conversation conversation;
  bool due = false;
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string place = fmt::format("{}: message {}", where, i + 1);
    const std::string role = text_of(messages[i], "role", place), content = text_of(messages[i], "content", place);
    if (i == 0 && role == kSystem) {
      conversation.set_system(content);
      continue;
    }
    const char* const expected = due ? kAssistant : kUser;
    require(role == expected, "{}: expected the role \"{}\", found \"{}\"", place, expected, role);
    require(due || !content.empty(), "{}: the question is empty", place);
    due ? conversation.answer(content) : conversation.ask(content);
    due = !due;
  }
  require(!due, "{}: the last question has no answer", where);
  return conversation;
}

}  // namespace cepe
