// cepe generate: text from a prompt, with any amount of context through the encoder (docs/generate.md).
#include <cstdio>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/commands.h"
#include "apps/encode_files.h"
#include "apps/generate_many.h"
#include "apps/generation_options.h"
#include "apps/options.h"
#include "apps/output.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json_text.h"
#include "base/output_file.h"
#include "base/report.h"
#include "context/read_context.h"
#include "generate/context_mass.h"
#include "generate/conversation.h"
#include "generate/expand.h"
#include "generate/generator.h"
#include "generate/prompt.h"
#include "text/chat_template.h"
#include "text/text_file.h"
#include "text/utf8.h"

namespace cepe {
namespace {

struct GenerateCommand {
  ModelOptions model;
  GenerationOptions options;
  std::string prompt, prompt_file;
  std::string json;  // file
  bool raw = false, mass = false;
  int64_t mass_top = 5;
  GenerateManyOptions many;
};

std::string prompt_text(const CLI::App& command, const GenerateCommand& given) {
  const bool text = command.count("--prompt") > 0, file = command.count("--prompt-file") > 0;
  require(text != file, "a prompt is needed: give either --prompt TEXT or --prompt-file FILE, or many with --prompts");
  if (text) {
    require(!given.prompt.empty(), "--prompt: the prompt is empty");
    return given.prompt;
  }
  const std::string bytes = read_file(given.prompt_file);
  const size_t invalid = find_invalid_utf8(bytes);
  require(invalid == std::string::npos, "{}: expected UTF-8 text, found an invalid sequence at byte {}",
          given.prompt_file, invalid);
  std::string content(without_byte_order_mark(bytes));
  // The line break that editors put at the end of a file is none of the prompt's.
  if (content.ends_with('\n')) content.pop_back();
  if (content.ends_with('\r') && bytes.ends_with('\n')) content.pop_back();
  require(!content.empty(), "{}: the prompt file is empty", given.prompt_file);
  return content;
}

constexpr const char* kGenerateTemplateHint = "--raw does without the template, --chat-template FILE gives another";

TemplateChoice read_chat_template(const CLI::App& command, const GenerateCommand& given) {
  if (!given.raw)
    return with_template_hint(kGenerateTemplateHint,
                              [&] { return find_template(command, given.options, given.model); });
  require(command.count("--form") == 0, "--form: --raw takes the prompt as it is: give one of the two");
  require(command.count("--system") == 0, "--system: a system message needs a chat template, and --raw leaves it out");
  require(command.count("--chat-template") == 0,
          "--chat-template: --raw leaves the chat template out: give one of the two");
  return {.none = true};
}

// What became of the context's keys and values; nothing where there is no context.
std::string context_note(const Generation& made, int64_t context_tokens) {
  if (context_tokens == 0) return "";
  const CrossAttentionChoice& choice = made.context_choice;
  if (choice.form != CrossAttentionForm::cached) return ", nothing kept of the context but its latents";
  const std::string read =
      made.read_share < 1 ? fmt::format(", {:.1f} % of them read for a token", 100 * made.read_share) : "";
  return fmt::format(", the context's keys and values kept in {:.2f} GB{}",
                     static_cast<double>(choice.cost.bytes) / 1e9, read);
}

std::string summary(const Generation& made, const Prompt& prompt, int64_t context_tokens, double encode_seconds) {
  const std::string speed =
      made.tokens_per_second > 0 ? fmt::format("{:.1f} tokens/s", made.tokens_per_second) : "- tokens/s";
  return fmt::format(
      "{} context tokens, {} prompt tokens, {} generated tokens; {:.2f} s to encode, {:.2f} s to the first token, {}{}",
      format_count(static_cast<uint64_t>(context_tokens)), format_count(prompt.tokens.size()),
      format_count(made.tokens.size()), encode_seconds, made.first_token_seconds, speed,
      context_note(made, context_tokens));
}

nlohmann::json as_json(const Generation& made, const Prompt& prompt, int64_t context_tokens, double encode_seconds) {
  return {
      {"text", made.text},
      {"stop_reason", stop_reason_name(made.reason)},
      {"tokens", made.tokens},
      {"context_tokens", context_tokens},
      {"prompt_tokens", prompt.tokens.size()},
      {"generated_tokens", made.tokens.size()},
      {"encode_seconds", encode_seconds},
      {"first_token_seconds", made.first_token_seconds},
      {"cross_attention",
       context_tokens > 0 ? nlohmann::json(cross_attention_form_name(made.context_choice.form)) : nlohmann::json()},
      {"context_cache_bytes", context_tokens > 0 ? made.context_choice.cost.bytes : 0},
      {"read_share", made.read_share},
      {"tokens_per_second", made.tokens_per_second > 0 ? nlohmann::json(made.tokens_per_second) : nlohmann::json()}};
}

nlohmann::json as_json(const std::vector<ChunkMass>& most) {
  nlohmann::json list = nlohmann::json::array();
  for (const ChunkMass& c : most) {
    list.push_back({{"chunk", c.chunk},
                    {"source", c.source},
                    {"first_token", c.first_token},
                    {"tokens", c.tokens},
                    {"mass", c.mass},
                    {"text", c.text}});
  }
  return list;
}

// A table of the chunks that were read most; an even share of what is read beside, by which a mass is to be judged.
void print_mass(const std::vector<ChunkMass>& most, int64_t chunks) {
  std::fprintf(stderr, "cepe: attention mass by chunk, the greatest of %lld (an even share is %.2f%%)\n",
               static_cast<long long>(chunks), 100.0 / static_cast<double>(chunks));
  for (const ChunkMass& c : most) {
    std::fprintf(stderr, "%s\n",
                 printable(fmt::format("  {:6.2f}%  {}, tokens {} to {}: {}", 100 * c.mass, c.source, c.first_token,
                                       c.first_token + c.tokens - 1, c.text))
                     .c_str());
  }
}

void run_many(const CLI::App& command, GenerateCommand& given) {
  for (const char* other : {"--prompt", "--prompt-file", "--json", "--attention-mass", "--attention-mass-top"})
    require(command.count(other) == 0, "{}: it is for one prompt, and --prompts gives many", other);
  check_generation_options(command, given.options);
  given.many.chat_template = read_chat_template(command, given);
  with_template_hint(kGenerateTemplateHint, [&] { generate_many(command, given.many, given.options, given.model); });
}

// The user's text, and how a prompt is made of it with another text before it.
struct MakePrompt {
  const std::string& text;
  std::function<Prompt(const std::string& text_before)> build;
};

// Puts chunks of the context before the prompt as --expand asks, and leaves of the context what --top-chunks does.
ExpandedPrompt expand(const OpenedModel& opened, const GenerationOptions& options,
                      const std::shared_ptr<const Context>& context, const MakePrompt& make, Prompt& prompt) {
  if (!expand_of(options.expand).any()) return {prompt.tokens, {}, context};
  const ConversationRoom room{decoder_window(opened.model.config.decoder), options.max_tokens};
  ExpandedPrompt expanded =
      Expander(opened, expand_of(options))
          .expand(context, {make.text, [&](const std::string& before) { return make.build(before).tokens; },
                            room.prompt_tokens()});
  prompt.tokens = expanded.tokens;
  if (options.expand.top > 0) tell(chunks_read(*expanded.context, *context));
  if (!expanded.chunks.empty()) {
    tell(fmt::format("read again as text: {}", places_as_text(expanded.chunks)));
  } else if (options.expand.chunks > 0) {
    tell("--expand: no chunk of the context has a word of the prompt's and fits: nothing is read again");
  }
  return expanded;
}

// The files of --context, and what is read of them.
struct ReadFiles {
  std::shared_ptr<const Context> whole;
  ExpandedPrompt prompt;
  double seconds = 0;  // the encoder's; where it reads chosen chunks alone, the search for them is in it
};

ReadFiles read_files(const OpenedModel& opened, const GenerationOptions& options, const MakePrompt& make,
                     Prompt& prompt) {
  const ContextStates states = context_states(options);
  const bool late = states == ContextStates::none;  // the chosen chunks alone are encoded
  ReadFiles read;
  if (late) {
    read.whole = std::make_shared<const Context>(
        unencoded(read_context(opened, {options.context.begin(), options.context.end()})));
  } else {
    EncodedFiles encoded = encode_files(opened, options.context, states == ContextStates::int8);
    read.whole = std::make_shared<const Context>(std::move(encoded.context));
    read.seconds = encoded.seconds;
  }
  const double started = seconds_now();
  read.prompt = expand(opened, options, read.whole, make, prompt);
  if (late) read.seconds = seconds_now() - started;
  return read;
}

// Options that say something of the context ask for one.
void check_context_options(const GenerateCommand& given) {
  const bool context = !given.options.context.empty();
  require(given.mass_top > 0, "--attention-mass-top: expected 1 or more, found {}", given.mass_top);
  require(!given.mass || context, "--attention-mass: there is no context: give files with --context");
  require(given.options.expand.chunks == 0 || context, "--expand: there is no context: give files with --context");
  require(given.options.expand.top == 0 || context, "--top-chunks: there is no context: give files with --context");
}

// What was too small: the window, or the memory for the context's keys and values.
void tell_limits(const Generation& made, const OpenedModel& opened, double context_cache) {
  if (made.reason == StopReason::window) {
    tell(fmt::format("stopped because prompt and text fill the decoder's window of {} tokens",
                     decoder_window(opened.model.config.decoder)));
  }
  if (const int64_t bytes = made.context_choice.bytes_over_budget; bytes > 0) {
    std::fprintf(stderr,
                 "cepe: keeping the context's keys and values would write faster, and takes %.2f GB: --context-cache "
                 "allows %g\n",
                 static_cast<double>(bytes) / 1e9, context_cache);
  }
}

void run(const CLI::App& command, GenerateCommand& given) {
  if (command.count("--prompts") > 0) return run_many(command, given);
  for (const char* other : {"--out", "--sequences"})
    require(command.count(other) == 0, "{}: it is for many prompts, which --prompts gives", other);
  const std::string text = prompt_text(command, given);
  // Options that cannot work are told before a large model is read.
  check_generation_options(command, given.options);
  check_context_options(given);
  const TemplateChoice choice = read_chat_template(command, given);
  if (!given.json.empty()) check_writable(given.json);
  const bool json_shown = !given.json.empty() && is_standard_output(given.json);  // instead of the text

  const OpenedModel opened = open_model(given.model);
  tell_unused_reading(given.options, opened.model);
  const auto build = [&](const std::string& before) {
    const PromptInput input{text, system_of(command, given.options), choice, before};
    return with_template_hint(kGenerateTemplateHint, [&] { return build_prompt(opened, input); });
  };
  Prompt prompt = build("");
  if (!prompt.templated && !given.raw) {
    tell(given.model.model + " has no chat template, so the prompt is continued as it is (as with --raw)");
  }
  const ReadFiles read = read_files(opened, given.options, {text, build}, prompt);
  const Context& context = *read.prompt.context;

  GenerateOptions options{.max_tokens = given.options.max_tokens,
                          .sampling = sampling_of(command, given.options),
                          .end_tokens = end_tokens(opened),
                          .stop = given.options.stop,
                          .context = context_reading(given.options, opened.model),
                          .continues_prompt = !prompt.templated};
  if (prompt.one_line) end_at_line_break(options);
  if (!json_shown) options.on_text = print;
  const Generation made = generate({opened.model, *opened.tokenizer, prompt.tokens, &context.latents}, options);
  std::vector<ChunkMass> most;
  if (given.mass) most = most_read_chunks(opened, {prompt.tokens, made.tokens, context}, given.mass_top);
  if (!json_shown) {
    print("\n");
    if (given.mass) print_mass(most, static_cast<int64_t>(context.chunks.size()));
  }

  tell_limits(made, opened, given.options.context_cache);
  tell(summary(made, prompt, encoder_tokens(context), read.seconds));
  write_results({{given.json, [&](const std::string& path) {
                    nlohmann::json object = as_json(made, prompt, encoder_tokens(*read.whole), read.seconds);
                    if (given.mass) object["attention_mass"] = as_json(most);
                    if (given.options.expand.chunks > 0) object["expanded"] = places_as_json(read.prompt.chunks);
                    if (const int64_t tokens = encoder_tokens(context); tokens < encoder_tokens(*read.whole))
                      object["read_tokens"] = tokens;
                    write_output(path, json_text(object, 2) + "\n");
                  }}});
}

}  // namespace

void add_generate_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("generate", "Write text from a prompt, with files of any length as context");
  auto given = std::make_shared<GenerateCommand>();
  given->model.weights = "auto";
  add_model_options(*command, given->model);
  add_window_option(*command, given->model);
  command->add_option("--prompt", given->prompt, "The question or the text to go on with");
  command->add_option("--prompt-file", given->prompt_file, "A file that holds the prompt")->type_name("FILE");
  command
      ->add_option("--prompts", given->many.prompts,
                   "A file of many prompts, a JSON object a line: \"prompt\" and, as wanted, \"id\", \"context\", "
                   "\"context_text\", \"system\", \"max_tokens\", \"temperature\" and so on; the options here hold for "
                   "what a line leaves out")
      ->type_name("FILE.jsonl");
  command
      ->add_option("--out", given->many.out,
                   "With --prompts: the file for the answers, a JSON object a line in the order of the prompts; -: "
                   "standard output")
      ->type_name("FILE.jsonl");
  command->add_option("--sequences", given->many.sequences, "With --prompts: how many are written together")
      ->capture_default_str();
  command->add_flag("--raw", given->raw, "No chat template: the text goes on from the prompt");
  add_prompt_options(*command, given->options);
  add_json_option(*command, given->json, "Write the text and what became of it at the end");
  command->add_flag("--attention-mass", given->mass,
                    "Show after the text the chunks of the context that were read most");
  command->add_option("--attention-mass-top", given->mass_top, "How many of them")->capture_default_str();
  add_sampling_options(*command, given->options);
  command->callback([command, given] { run(*command, *given); });
}

}  // namespace cepe
