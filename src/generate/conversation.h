// A conversation with a model: what was said so far, and how much of it the decoder's window takes. No terminal and no
// network in it.
//
//   conversation.ask("Who is Little John?");
//   ConversationPrompt prompt = conversation.prompt(builder, {.window = 2048, .answer_tokens = 256});
//   ...                                              // the model writes
//   conversation.answer(made.text);                  // as far as it came
#pragma once

#include <algorithm>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "generate/prompt.h"
#include "text/chat_template.h"

namespace cepe {

// The tokens that prompt and answer share.
struct ConversationRoom {
  int64_t window = 0;         // decoder_window()
  int64_t answer_tokens = 0;  // to be kept free for the answer; no more than half of the window is
  int64_t prompt_tokens() const { return window - std::min(answer_tokens, window / 2); }
};

// What the next answer starts from.
struct ConversationPrompt {
  std::vector<TokenId> tokens;
  int64_t turns_left_out = 0;  // the oldest ones
};

// Turns of a question and its answer, after a system message where one is set. Not thread-safe.
class Conversation {
 public:
  // The system message stands before all turns from now on; none: there is none.
  void set_system(std::optional<std::string> text) { system_ = std::move(text); }
  const std::optional<std::string>& system() const { return system_; }

  // Begins a turn. Throws Error on an empty question, and while another one waits for its answer.
  void ask(std::string question);
  // Ends the turn; the text may be of an answer that was stopped. Throws Error where no question waits.
  void answer(std::string text);
  // Removes the question that waits for its answer, as if it had not been asked. Nothing where none does.
  void take_back();
  // Forgets all turns; the system message stays.
  void clear();
  int64_t turns() const { return static_cast<int64_t>(turns_.size()); }

  // The system message, questions and answers, in order: roles "system", "user" and "assistant".
  std::vector<ChatMessage> messages() const { return messages(0); }

  // The tokens of the conversation up to the beginning of the answer that is due. Whole turns are left out, the oldest
  // first and as few as possible, until prompt and answer fit; the system message and the last question always stay.
  // Where these two alone leave less room than asked for, the answer has what is left. text_before: what stands before
  // the last question for this answer alone (expand.h); it is not remembered, and where it does not fit the prompt is
  // longer than the window. Costs a rendering of the template for a few guesses. Throws Error where no question waits
  // and where the two leave no room at all; ChatTemplateError where the template refuses the messages.
  ConversationPrompt prompt(const PromptBuilder& builder, const ConversationRoom& room,
                            const std::string& text_before = {}) const;
  // The question that waits for its answer. Throws Error where none does.
  const std::string& question() const;

 private:
  std::vector<ChatMessage> messages(int64_t turns_left_out) const;

  struct Turn {
    std::string question;
    std::optional<std::string> answer;  // none in the last turn, while it is due
  };
  std::optional<std::string> system_;
  std::vector<Turn> turns_;
};

// Messages as OpenAI's API writes them: [{"role": "user", "content": "..."}, ...].
nlohmann::json messages_as_json(const std::vector<ChatMessage>& messages);
// The conversation of such a list: at most one system message, at the beginning, then questions and answers in turn,
// an answer last. Throws Error on anything else; `where` names the list in messages.
Conversation conversation_from_json(const nlohmann::json& messages, const std::string& where);

}  // namespace cepe
