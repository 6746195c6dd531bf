// cepe generate: text from a prompt, with any amount of context through the encoder (docs/generate.md).
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/commands.h"
#include "apps/options.h"
#include "apps/output.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json_text.h"
#include "base/output_file.h"
#include "base/report.h"
#include "context/encode_context.h"
#include "context/read_context.h"
#include "generate/context_mass.h"
#include "generate/generator.h"
#include "generate/prompt.h"
#include "model/checkpoint/chat_template_source.h"
#include "text/chat_template.h"
#include "text/text_file.h"
#include "text/utf8.h"

namespace cepe {
namespace {

struct GenerateCommand {
  ModelOptions model;
  std::vector<std::string> context;
  std::string prompt, prompt_file, system, chat_template;
  GenerateOptions options;
  std::string form = "automatic", latents = "stored";
  double context_cache = 4;  // GB
  std::string json;          // file
  bool raw = false, mass = false;
  int64_t mass_top = 5;
};

std::string prompt_text(const CLI::App& command, const GenerateCommand& given) {
  const bool text = command.count("--prompt") > 0, file = command.count("--prompt-file") > 0;
  require(text != file, "a prompt is needed: give either --prompt TEXT or --prompt-file FILE");
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

// Runs what reads or renders a chat template; its errors say how to do without.
template <typename Action>
auto with_template_hint(const Action& action) {
  try {
    return action();
  } catch (const ChatTemplateError& error) {
    fail("{}; --raw does without the template, --chat-template FILE gives another", error.what());
  }
}

// --chat-template FILE; and a template that cannot be read is told before a large model is.
void read_chat_template(const CLI::App& command, const GenerateCommand& given, PromptInput& input) {
  require(!given.raw || !input.system, "--system: a system message needs a chat template, and --raw leaves it out");
  if (command.count("--chat-template") > 0) {
    require(!given.raw, "--chat-template: --raw leaves the chat template out: give one of the two");
    input.chat_template = without_byte_order_mark(read_file(given.chat_template));
    input.chat_template_file = given.chat_template;
    require(!input.chat_template->empty(), "{}: the chat template is empty", given.chat_template);
  }
  if (given.raw) return;
  with_template_hint([&] {
    if (input.chat_template) return ChatTemplate(*input.chat_template, input.chat_template_file);
    std::optional<std::filesystem::path> base;
    if (!given.model.base.empty()) base = find_model(given.model.base);
    const ChatTemplateSource own = find_chat_template(find_model(given.model.model), base);
    return ChatTemplate(own.text, own.file);
  });
}

// What became of the context's keys and values; nothing where there is no context.
std::string context_note(const Generation& made, int64_t context_tokens) {
  if (context_tokens == 0) return "";
  const CrossAttentionChoice& choice = made.context_choice;
  if (choice.form != CrossAttentionForm::cached) return ", nothing kept of the context but its latents";
  return fmt::format(", the context's keys and values kept in {:.2f} GB", static_cast<double>(choice.cost.bytes) / 1e9);
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

// --cross-attention and --context-cache.
ContextReading context_reading(const GenerateCommand& given) {
  ContextReading reading;
  require(given.context_cache >= 0 && given.context_cache <= 1e6,
          "--context-cache: expected gigabytes, 0 or more, found {}", given.context_cache);
  reading.memory_budget = static_cast<int64_t>(given.context_cache * 1e9);
  reading.form = cross_attention_form_from_name(given.form, "--cross-attention");
  return reading;
}

// A progress bar where it takes a while.
Context encode_with_progress(const Cepe& model, const std::vector<TextChunk>& chunks, bool int8) {
  constexpr size_t kQuick = 64;  // chunks
  if (chunks.size() <= kQuick) return encode_context(model, chunks, {.int8 = int8});
  Progress bar("encoding the context", static_cast<int64_t>(chunks.size()));
  return encode_context(model, chunks, {.int8 = int8, .progress = [&bar](int64_t count) { bar.advance(count); }});
}

void run(const CLI::App& command, GenerateCommand& given) {
  GenerateOptions& options = given.options;
  PromptInput input{.text = prompt_text(command, given), .raw = given.raw};
  if (command.count("--system") > 0) input.system = given.system;
  const bool filters = command.count("--top-k") + command.count("--top-p") + command.count("--min-p") > 0;
  if (command.count("--temperature") == 0) options.sampling.temperature = filters ? 1.0 : 0.0;
  options.context = context_reading(given);
  const bool int8 = int8_latents_from_name(given.latents);
  // Options that cannot work are told before a large model is read.
  check_sampler_options(options.sampling);
  require(given.mass_top > 0, "--attention-mass-top: expected 1 or more, found {}", given.mass_top);
  require(!given.mass || !given.context.empty(), "--attention-mass: there is no context: give files with --context");
  require(options.max_tokens > 0, "--max-tokens: expected 1 or more, found {}", options.max_tokens);

  read_chat_template(command, given, input);
  if (!given.json.empty()) check_writable(given.json);
  const bool json_shown = !given.json.empty() && is_standard_output(given.json);  // instead of the text

  const OpenedModel opened = open_model(given.model);
  const Prompt prompt = with_template_hint([&] { return build_prompt(opened, input); });
  if (!prompt.templated && !given.raw) {
    tell(given.model.model + " has no chat template, so the prompt is continued as it is (as with --raw)");
  }
  const std::vector<TextChunk> chunks = read_context(opened, {given.context.begin(), given.context.end()});
  const double started = seconds_now();
  const Context context = encode_with_progress(opened.model, chunks, int8);
  const double encode_seconds = seconds_now() - started;

  options.end_tokens = end_tokens(opened);
  options.continues_prompt = !prompt.templated;
  if (!json_shown) options.on_text = print;
  const Generation made = generate({opened.model, *opened.tokenizer, prompt.tokens, &context.latents}, options);
  std::vector<ChunkMass> most;
  if (given.mass) most = most_read_chunks(opened, {prompt.tokens, made.tokens, context}, given.mass_top);
  if (!json_shown) {
    print("\n");
    if (given.mass) print_mass(most, static_cast<int64_t>(chunks.size()));
  }

  if (made.reason == StopReason::window) {
    tell(fmt::format("stopped because prompt and text fill the decoder's window of {} tokens",
                     decoder_window(opened.model.config.decoder)));
  }
  if (const int64_t bytes = made.context_choice.bytes_over_budget; bytes > 0) {
    std::fprintf(stderr,
                 "cepe: keeping the context's keys and values would write faster, and takes %.2f GB: --context-cache "
                 "allows %g\n",
                 static_cast<double>(bytes) / 1e9, given.context_cache);
  }
  tell(summary(made, prompt, context.tokens(), encode_seconds));
  write_results({{given.json, [&](const std::string& path) {
                    nlohmann::json object = as_json(made, prompt, context.tokens(), encode_seconds);
                    if (given.mass) object["attention_mass"] = as_json(most);
                    write_output(path, json_text(object, 2) + "\n");
                  }}});
}

void add_sampling_options(CLI::App& command, GenerateOptions& options) {
  SamplerOptions& sampling = options.sampling;
  command.add_option("--max-tokens", options.max_tokens, "The most tokens to generate")->capture_default_str();
  command.add_option("--temperature", sampling.temperature,
                     "0: greedy, the same text every time (the default, unless --top-k, --top-p or --min-p asks for "
                     "sampling: then 1)");
  command.add_option("--top-k", sampling.top_k, "Draw from the K best tokens, and those equal to the K-th; 0: off")
      ->capture_default_str();
  command.add_option("--top-p", sampling.top_p, "Draw from the best tokens whose probabilities reach P; 1: off")
      ->capture_default_str();
  command
      .add_option("--min-p", sampling.min_p,
                  "Draw from the tokens with at least this share of the best one's probability; 0: off")
      ->capture_default_str();
  command
      .add_option("--repetition-penalty", sampling.repetition_penalty,
                  "Above 1: tokens of the prompt and the text become less likely; the context does not count")
      ->capture_default_str();
  command
      .add_option("--seed", sampling.seed,
                  "Seed of the random draws: the same seed, model, device and options give the same text")
      ->capture_default_str();
  add_strings(command, "--stop", options.stop, Strings::one_each,
              "Ends the text where it would come; may be given several times");
}

}  // namespace

void add_generate_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("generate", "Write text from a prompt, with files of any length as context");
  auto given = std::make_shared<GenerateCommand>();
  add_model_options(*command, given->model);
  add_window_option(*command, given->model);
  add_strings(*command, "--context", given->context, Strings::several, "Text files that the encoder reads");
  command->add_option("--prompt", given->prompt, "The question or the text to go on with");
  command->add_option("--prompt-file", given->prompt_file, "A file that holds the prompt")->type_name("FILE");
  command->add_option("--system", given->system, "A system message for the chat template");
  command
      ->add_option("--chat-template", given->chat_template,
                   "A file with the chat template (Jinja) to use instead of the model's")
      ->type_name("FILE");
  command->add_flag("--raw", given->raw, "No chat template: the text goes on from the prompt");
  add_json_option(*command, given->json, "Write the text and what became of it at the end");
  command
      ->add_option(
          "--context-cache", given->context_cache,
          "Memory in GB in which the context's keys and values may be kept, where that writes faster; 0: never")
      ->capture_default_str();
  command
      ->add_option("--latents", given->latents,
                   "How the context's states are held: in the model's type (stored) or int8")
      ->capture_default_str();
  command
      ->add_option("--cross-attention", given->form,
                   "How the context is read: automatic (what the cost model finds fastest), absorbed, materialised, or "
                   "cached (keys "
                   "and values kept, whatever that takes)")
      ->capture_default_str();
  command->add_flag("--attention-mass", given->mass,
                    "Show after the text the chunks of the context that were read most");
  command->add_option("--attention-mass-top", given->mass_top, "How many of them")->capture_default_str();
  add_sampling_options(*command, given->options);
  command->callback([command, given] { run(*command, *given); });
}

}  // namespace cepe
