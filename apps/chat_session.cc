#include "apps/chat_session.h"

#include <algorithm>
#include <cstdio>

#include "apps/generation_options.h"
#include "apps/output.h"
#include "base/error.h"
#include "base/nearest.h"
#include "base/report.h"

namespace cepe {
namespace {

std::string turns(int64_t count) {
  return count == 1 ? "turn no longer fits" : fmt::format("{} turns no longer fit", count);
}

}  // namespace

const std::vector<ChatSession::Command>& ChatSession::commands() {
  static const std::vector<Command> list = {
      {"/context", "add FILE...", "let the encoder read text files; answers are written from them",
       &ChatSession::context},
      {"/context", "list", "show the documents that it has read", &ChatSession::context},
      {"/context", "drop N|all", "take document N out of the context, or all of them", &ChatSession::context},
      {"/system", "TEXT", "set the system message; without TEXT there is none", &ChatSession::set_system},
      {"/reset", "", "forget what was said; context and system message stay", &ChatSession::reset},
      {"/save", "FILE", "write the conversation into a file, as JSON", &ChatSession::save},
      {"/load", "FILE", "go on with a conversation that was saved", &ChatSession::load},
      {"/help", "", "show this", &ChatSession::help},
      {"/quit", "", "leave, as Ctrl-D does", &ChatSession::quit}};
  return list;
}

namespace {

ExpandOptions with_progress(ExpandOptions options, std::function<void(int64_t)> progress) {
  options.progress = std::move(progress);
  return options;
}

}  // namespace

ChatSession::ChatSession(const OpenedModel& opened, const PromptBuilder& builder, ChatSettings settings,
                         InterruptFlag& interrupt)
    : opened_(opened),
      builder_(builder),
      settings_(std::move(settings)),
      interrupt_(interrupt),
      end_tokens_(end_tokens(opened)),
      context_(opened, settings_.states),
      expander_(opened, with_progress(settings_.expand, [this](int64_t) { check_interrupt(); })) {}

void ChatSession::check_interrupt() { require(!interrupt_.take(), "stopped: the context is as it was"); }

void ChatSession::add_context(const std::vector<std::string>& files) {
  context_.add(files, [this] { check_interrupt(); });
  show_context();
}

void ChatSession::show_context() const { std::fputs(context_.table().c_str(), stderr); }

int64_t ChatSession::run(LineInput& input) {
  int64_t errors = 0;
  bool leaves = false;  // with the next Ctrl-C
  while (!done_) {
    InputMessage message;
    const LineInput::Result result = read_message(input, message);
    if (result == LineInput::Result::end || (result == LineInput::Result::interrupted && leaves)) {
      if (input.terminal()) note("");
      break;
    }
    leaves = result == LineInput::Result::interrupted;
    if (leaves) {
      std::fputc('\n', stderr);
      note("(Ctrl-C again, Ctrl-D or /quit leaves)");
      continue;
    }
    try {
      take(message);
      if (input.terminal() && !message.text.empty() && !done_) note("");  // a line between what was said
    } catch (const Error& error) {
      tell(error.what());
      ++errors;
    } catch (const std::exception& error) {  // too little memory for a context, say: what was said is not lost for it
      std::fprintf(stderr, "cepe: unexpected failure: %s\n", printable_lines(error.what()).c_str());
      ++errors;
    }
  }
  return errors;
}

void ChatSession::take(const InputMessage& message) {
  if (message.text.empty()) return;
  if (message.text[0] == '/' && !message.quoted) return run_command(message.text);
  answer(message.text);
}

void ChatSession::run_command(const std::string& text) {
  const size_t end = std::min(text.find_first_of(" \t\n"), text.size());
  const std::string name = text.substr(0, end);
  const size_t begin = std::min(text.find_first_not_of(" \t\n", end), text.size());
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    if (name != command.name) {
      names.push_back(command.name);
      continue;
    }
    try {
      return (this->*command.run)(text.substr(begin));
    } catch (const Error& error) {
      fail("{}: {}", name, error.what());
    }
  }
  fail("{}: there is no such command{} (/help lists them)", name, did_you_mean(name, names));
}

void ChatSession::answer(const std::string& question) {
  conversation_.ask(question);
  Generation made;
  try {
    const Reading reading = read();
    const ConversationPrompt& prompt = reading.prompt;
    if (prompt.turns_left_out > told_left_out_) {
      note(fmt::format("(the oldest {} into the window of {} tokens: the model does not see what was said there)",
                       turns(prompt.turns_left_out),
                       format_count(static_cast<uint64_t>(decoder_window(opened_.model.config.decoder)))));
    }
    told_left_out_ = prompt.turns_left_out;
    made = write(reading);
  } catch (...) {
    conversation_.take_back();
    throw;
  }
  tell_end(made);
}

// The conversation, with chunks of the context before the question where the settings ask for them. Turns are left out
// for the chunks' sake as for any long question's.
ChatSession::Reading ChatSession::read() {
  const ConversationRoom room{decoder_window(opened_.model.config.decoder), settings_.max_tokens};
  ConversationPrompt made;
  const auto make = [&](const std::string& text) {
    made = conversation_.prompt(builder_, room, text);
    return made.tokens;
  };
  const ExpandedPrompt expanded =
      expander_.expand(context_.context(), {conversation_.question(), make, room.prompt_tokens()});
  if (expanded.context != context_.context())
    note(fmt::format("({})", chunks_read(*expanded.context, *context_.context())));
  if (expanded.chunks.empty()) return {conversation_.prompt(builder_, room), expanded.context};
  note(fmt::format("(read again as text: {})", places_as_text(expanded.chunks)));
  return {std::move(made), expanded.context};
}

// How an answer ended, where that is not by itself; and what is remembered of it.
void ChatSession::tell_end(const Generation& made) {
  const bool nothing = made.text.empty();
  if (nothing)
    conversation_.take_back();
  else
    conversation_.answer(made.text);
  print("\n");
  switch (made.reason) {
    case StopReason::end_token:
    case StopReason::stop_string:
      if (nothing) note("(the model gave no answer; the question is not remembered)");
      break;
    case StopReason::max_tokens:
      note(fmt::format("(stopped after {} tokens: --max-tokens allows more)", settings_.max_tokens));
      break;
    case StopReason::window: note("(stopped: the window is full)"); break;
    case StopReason::failed: fail("{}", made.error);
    case StopReason::cancelled:
      note(nothing ? "(stopped; the question is not remembered)"
                   : "(stopped; what was written stays part of the conversation)");
      break;
  }
}

Generation ChatSession::write(const Reading& reading) {
  const ConversationPrompt& prompt = reading.prompt;
  // A window may be far larger than a conversation, and a slot takes its memory at once: it grows with what is said.
  const int64_t window = decoder_window(opened_.model.config.decoder);
  const int64_t needed = static_cast<int64_t>(prompt.tokens.size()) + std::min(settings_.max_tokens, window);
  if (!engine_ || (needed > capacity_ && capacity_ < window)) {
    capacity_ = std::min(2 * needed, window);
    engine_.reset();
    engine_ =
        std::make_unique<Engine>(opened_.model, builder_.tokenizer(),
                                 EngineOptions{.sequences = 1, .capacity = capacity_, .reading = settings_.reading});
  }
  Generation made;
  Request request{.prompt = prompt.tokens,
                  .context = reading.context,
                  .max_tokens = settings_.max_tokens,
                  .sampling = settings_.sampling,
                  .end_tokens = end_tokens_,
                  .stop = settings_.stop,
                  .on_text = print,
                  .on_end = [&made](const Generation& ended) { made = ended; }};
  if (builder_.one_line_answers()) end_at_line_break(request);
  const SequenceId sequence = engine_->submit(std::move(request));
  while (engine_->step()) {
    if (interrupt_.take()) engine_->cancel(sequence);
  }
  return made;
}

}  // namespace cepe
