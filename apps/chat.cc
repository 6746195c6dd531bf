// cepe chat: a conversation at the terminal (docs/chat.md).
#include <unistd.h>

#include <memory>

#include "apps/chat_session.h"
#include "apps/commands.h"
#include "apps/generation_options.h"
#include "apps/output.h"
#include "base/error.h"
#include "base/report.h"

namespace cepe {
namespace {

struct ChatCommand {
  ModelOptions model;
  GenerationOptions options;
};

constexpr const char* kChatTemplateHint = "--chat-template FILE gives another";

void run(const CLI::App& command, const ChatCommand& given) {
  check_generation_options(command, given.options);
  const TemplateChoice choice =
      with_template_hint(kChatTemplateHint, [&] { return find_template(command, given.options, given.model); });
  const OpenedModel opened = open_model(given.model);
  tell_unused_reading(given.options, opened.model);
  const PromptBuilder builder = with_template_hint(kChatTemplateHint, [&] { return PromptBuilder(opened, choice); });
  require(builder.has_template(),
          "{} has no chat template, and a conversation needs one: --chat-template FILE gives it (cepe generate does "
          "without)",
          given.model.model);

  InterruptFlag interrupt(::isatty(STDIN_FILENO) == 1);  // a script ends with Ctrl-C as any other
  LineInput input(interrupt);
  ChatSession session(opened, builder,
                      {.model = given.model.model,
                       .max_tokens = given.options.max_tokens,
                       .sampling = sampling_of(command, given.options),
                       .stop = given.options.stop,
                       .reading = context_reading(given.options, opened.model),
                       .states = context_states(given.options),
                       .expand = expand_of(given.options)},
                      interrupt);
  session.conversation().set_system(system_of(command, given.options));
  if (!given.options.context.empty()) session.add_context(given.options.context);
  if (input.terminal()) {
    note(fmt::format("{}, a window of {} tokens. /help lists the commands, Ctrl-D leaves.", given.model.model,
                     format_count(static_cast<uint64_t>(decoder_window(opened.model.config.decoder)))));
  }
  const int64_t errors = session.run(input);
  // A person has read what went wrong; a script looks at the status.
  require(input.terminal() || errors == 0, "{} of the lines that were read ended in an error", errors);
}

}  // namespace

void add_chat_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("chat", "Talk with a model at the terminal, with files of any length as context");
  auto given = std::make_shared<ChatCommand>();
  given->options.max_tokens = 1024;
  given->model.weights = "auto";
  add_model_options(*command, given->model);
  add_window_option(*command, given->model);
  add_prompt_options(*command, given->options);
  add_sampling_options(*command, given->options);
  command->callback([command, given] { run(*command, *given); });
}

}  // namespace cepe
