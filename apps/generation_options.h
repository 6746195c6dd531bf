// The options that commands share which write text: generate and chat.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "apps/commands.h"
#include "base/error.h"
#include "generate/expand.h"
#include "generate/generator.h"
#include "generate/prompt.h"
#include "text/chat_template.h"

namespace cepe {

// --expand, --expand-by and --top-chunks.
struct ExpandCommandOptions {
  int64_t chunks = 0;
  std::string by = "words";
  int64_t top = 0;
};
void add_expand_options(CLI::App& command, ExpandCommandOptions& options);
// Throws Error naming the option.
ExpandOptions expand_of(const ExpandCommandOptions& options);
// "book.txt, tokens 256 to 767; ...": neighbours in one.
std::string places_as_text(const std::vector<ChunkPlace>& chunks);
// "of the context 16 of 572 chunks are read".
std::string chunks_read(const Context& read, const Context& whole);
// A list of {"chunk", "source", "first_token", "tokens"}.
nlohmann::json places_as_json(const std::vector<ChunkPlace>& chunks);

struct GenerationOptions {
  std::vector<std::string> context;  // files
  std::string prompt_form = "chat";
  std::string system, chat_template;  // a text; a file
  std::string form = "automatic", latents = "stored";
  double context_cache = 4;  // GB
  std::string kept_type = "auto";
  double read_share = 1;
  int64_t read_again = ContextReading{}.read_again;
  bool exclusive_gpu = false;
  int64_t max_tokens = 256;
  SamplerOptions sampling;  // as given: sampling_of() knows the temperature
  std::vector<std::string> stop;
  ExpandCommandOptions expand;
};
// The same of --expand and --latents.
ExpandOptions expand_of(const GenerationOptions& options);
// What is made of files of --context: no states where chunks are chosen first.
ContextStates context_states(const GenerationOptions& options);
// What a prompt is put into and what the encoder reads: --context, --form, --system, --chat-template, --context-cache,
// --kept-type, --read-share, --read-again, --exclusive-gpu, --latents, --cross-attention, --expand, --expand-by,
// --top-chunks.
void add_prompt_options(CLI::App& command, GenerationOptions& options);
// How tokens are chosen and where a text ends: --max-tokens, --temperature, ..., --stop.
void add_sampling_options(CLI::App& command, GenerationOptions& options);

// Checks all values, before a large model is read. Throws Error naming the option.
void check_generation_options(const CLI::App& command, const GenerationOptions& options);

// --temperature, where it is given.
std::optional<double> temperature_of(const CLI::App& command, const GenerationOptions& options);
// With the temperature as given, else 1 where a filter asks for draws, else 0.
SamplerOptions sampling_of(const CLI::App& command, const GenerationOptions& options);
// --system, where it is given; it may be the empty string.
std::optional<std::string> system_of(const CLI::App& command, const GenerationOptions& options);
// --cross-attention, --context-cache, --kept-type, --read-share, --read-again and --exclusive-gpu.
// --kept-type auto is int8 where the model is on a CPU with a kernel for its heads; without a model nothing is said.
ContextReading context_reading(const GenerationOptions& options);
ContextReading context_reading(const GenerationOptions& options, const Cepe& model);
// Tells why --kept-type or --read-share does nothing with this model, where it is given and does nothing.
void tell_unused_reading(const GenerationOptions& options, const Cepe& model);

// The form that --form names; the template that --chat-template names; else the model's own, of which the choice says
// nothing. Either is found and
// parsed without the weights being read, so that a refused one is told at once, as ChatTemplateError.
TemplateChoice find_template(const CLI::App& command, const GenerationOptions& options, const ModelOptions& model);

// Runs what reads or renders a chat template. Its errors end with the hint, which says how to do without.
template <typename Action>
auto with_template_hint(const char* hint, const Action& action) {
  try {
    return action();
  } catch (const ChatTemplateError& error) {
    fail("{}; {}", error.what(), hint);
  }
}

}  // namespace cepe
