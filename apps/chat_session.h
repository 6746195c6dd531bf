// The conversation of `cepe chat`: answers to what is said, and commands that begin with a slash (docs/chat.md).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "apps/chat_context.h"
#include "apps/interrupt.h"
#include "apps/line_input.h"
#include "generate/conversation.h"
#include "generate/engine.h"
#include "generate/expand.h"

namespace cepe {

struct ChatSettings {
  std::string model;  // its name, as given
  int64_t max_tokens = 1024;
  SamplerOptions sampling;
  std::vector<std::string> stop;
  ContextReading reading;
  ContextStates states = ContextStates::stored;
  ExpandOptions expand;
};

// Answers come on standard output, everything else on standard error.
class ChatSession {
 public:
  // Model and flag must outlive it. The builder has a template.
  ChatSession(const OpenedModel& opened, const PromptBuilder& builder, ChatSettings settings, InterruptFlag& interrupt);

  Conversation& conversation() { return conversation_; }
  // As /context add; throws Error where that fails, or Ctrl-C ends it.
  void add_context(const std::vector<std::string>& files);

  // Reads and answers until the input ends, or its user says so. -> how many of what was said ended in an Error; each
  // was told, and the conversation went on.
  int64_t run(LineInput& input);

 private:
  struct Command {
    const char *name, *arguments, *help;
    void (ChatSession::*run)(const std::string& rest);
  };
  static const std::vector<Command>& commands();

  // apps/chat_session.cc
  void take(const InputMessage& message);
  void run_command(const std::string& text);
  void answer(const std::string& question);
  // What an answer is made from.
  struct Reading {
    ConversationPrompt prompt;
    std::shared_ptr<const Context> context;
  };
  Reading read();
  Generation write(const Reading& reading);
  void tell_end(const Generation& made);
  void show_context() const;
  void check_interrupt();  // throws Error where Ctrl-C was pressed

  // apps/chat_commands.cc; rest: what follows the command's name
  void context(const std::string& rest);
  void set_system(const std::string& rest);
  void reset(const std::string& rest);
  void save(const std::string& rest);
  void load(const std::string& rest);
  void help(const std::string& rest);
  void quit(const std::string& rest);

  const OpenedModel& opened_;
  const PromptBuilder& builder_;
  ChatSettings settings_;
  InterruptFlag& interrupt_;
  std::vector<TokenId> end_tokens_;
  std::unique_ptr<Engine> engine_;  // with one slot
  int64_t capacity_ = 0;            // its tokens
  ChatContext context_;
  Conversation conversation_;
  Expander expander_;
  int64_t told_left_out_ = 0;  // turns that the user was told of
  bool done_ = false;
};

}  // namespace cepe
