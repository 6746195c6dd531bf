#include "apps/generation_options.h"

#include <nlohmann/json.hpp>

#include "apps/options.h"
#include "apps/output.h"
#include "base/error.h"
#include "base/file.h"
#include "generate/stop_filter.h"
#include "model/checkpoint/chat_template_source.h"
#include "ops/context/context_attention.h"
#include "text/chat_template.h"
#include "text/text_file.h"

namespace cepe {

void add_prompt_options(CLI::App& command, GenerationOptions& options) {
  add_strings(command, "--context", options.context, Strings::several, "Text files that the encoder reads");
  command
      .add_option(
          "--form", options.prompt_form,
          "How a prompt is put: chat (the chat template), or question (\"Question: ... Answer:\", answers of one "
          "line), as models are asked that stage ask trained")
      ->capture_default_str();
  command.add_option("--system", options.system, "A system message for the chat template")->type_name("TEXT");
  command
      .add_option("--chat-template", options.chat_template,
                  "A file with the chat template (Jinja) to use instead of the model's")
      ->type_name("FILE");
  command
      .add_option("--context-cache", options.context_cache,
                  "Memory in GB in which the context's keys and values may be kept, where that writes faster; 0: never")
      ->capture_default_str();
  command
      .add_option("--kept-type", options.kept_type,
                  "How they are kept on a CPU: in the model's type (stored), bfloat16, or int8, less to read for each "
                  "written token; auto: int8 where a kernel reads it")
      ->capture_default_str();
  command
      .add_option("--read-share", options.read_share,
                  "On a CPU, of kept keys and values each written token reads those blocks of 64 tokens that hold this "
                  "share of a head's attention; 1: all")
      ->capture_default_str();
  command.add_option("--read-again", options.read_again, "These blocks are chosen anew after so many tokens")
      ->capture_default_str();
  command.add_flag("--exclusive-gpu", options.exclusive_gpu,
                   "No other process uses the GPU, so that products may run as GEMV chains; known without it where its "
                   "compute mode is exclusive");
  command
      .add_option("--latents", options.latents,
                  "How the context's states are held: in the model's type (stored) or int8")
      ->capture_default_str();
  command
      .add_option("--cross-attention", options.form,
                  "How the context is read: automatic (what the cost model finds fastest), absorbed, materialised, or "
                  "cached (keys and values kept, whatever that takes)")
      ->capture_default_str();
  add_expand_options(command, options.expand);
}

void add_expand_options(CLI::App& command, ExpandCommandOptions& options) {
  command
      .add_option("--expand", options.chunks,
                  "So many chunks of the context, those that the question is about, are read again as text in the "
                  "decoder's window")
      ->capture_default_str();
  command
      .add_option("--expand-by", options.by,
                  "What finds them: words (BM25), mass (the attention that they get), or both (their ranks fused)")
      ->capture_default_str();
  command
      .add_option("--top-chunks", options.top,
                  "Of the context only so many chunks, those that the question is about (--expand-by), are read by "
                  "cross-attention (0: all)")
      ->capture_default_str();
}

ExpandOptions expand_of(const ExpandCommandOptions& options) {
  require(options.chunks >= 0, "--expand: expected 0 or more chunks, found {}", options.chunks);
  require(options.top >= 0, "--top-chunks: expected 0 or more chunks, found {}", options.top);
  return {options.chunks, expand_by_from_name(options.by, "--expand-by"), options.top};
}

ExpandOptions expand_of(const GenerationOptions& options) {
  ExpandOptions expand = expand_of(options.expand);
  expand.int8 = int8_latents_from_name(options.latents);
  return expand;
}

ContextStates context_states(const GenerationOptions& options) {
  if (expand_of(options.expand).encodes_late()) return ContextStates::none;
  return int8_latents_from_name(options.latents) ? ContextStates::int8 : ContextStates::stored;
}

std::string places_as_text(const std::vector<ChunkPlace>& chunks) {
  std::string text;
  for (size_t i = 0; i < chunks.size();) {
    const ChunkSource& first = chunks[i].source;
    int64_t end = first.first_token;
    for (; i < chunks.size() && chunks[i].source.document == first.document && chunks[i].source.first_token == end; ++i)
      end += chunks[i].tokens;
    text += fmt::format("{}{}, tokens {} to {}", text.empty() ? "" : "; ", first.document, first.first_token, end - 1);
  }
  return text;
}

std::string chunks_read(const Context& read, const Context& whole) {
  return fmt::format("of the context {} of {} chunks are read", read.chunks.size(), whole.chunks.size());
}

nlohmann::json places_as_json(const std::vector<ChunkPlace>& chunks) {
  nlohmann::json list = nlohmann::json::array();
  for (const ChunkPlace& place : chunks) {
    list.push_back({{"chunk", place.chunk},
                    {"source", place.source.document},
                    {"first_token", place.source.first_token},
                    {"tokens", place.tokens}});
  }
  return list;
}

void add_sampling_options(CLI::App& command, GenerationOptions& options) {
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

void check_generation_options(const CLI::App& command, const GenerationOptions& options) {
  check_sampler_options(sampling_of(command, options));
  static_cast<void>(StopFilter(options.stop));
  static_cast<void>(context_reading(options));
  static_cast<void>(int8_latents_from_name(options.latents));
  static_cast<void>(expand_of(options.expand));
  require(options.max_tokens > 0, "--max-tokens: expected 1 or more, found {}", options.max_tokens);
}

std::optional<double> temperature_of(const CLI::App& command, const GenerationOptions& options) {
  if (command.count("--temperature") == 0) return {};
  return options.sampling.temperature;
}

SamplerOptions sampling_of(const CLI::App& command, const GenerationOptions& options) {
  SamplerOptions sampling = options.sampling;
  const bool filters = command.count("--top-k") + command.count("--top-p") + command.count("--min-p") > 0;
  sampling.temperature = temperature_of(command, options).value_or(filters ? 1.0 : 0.0);
  return sampling;
}

std::optional<std::string> system_of(const CLI::App& command, const GenerationOptions& options) {
  if (command.count("--system") == 0) return {};
  return options.system;
}

namespace {
std::optional<at::ScalarType> kept_type_from_name(const std::string& name) {
  if (name == "stored" || name == "auto") return std::nullopt;
  if (name == "bfloat16") return at::kBFloat16;
  require(name == "int8", "--kept-type: expected auto, stored, bfloat16 or int8, found \"{}\"", name);
  return at::kChar;
}

// Why no keys and values are kept on a CPU; empty: they may be. `on_gpu`: why what is kept on a GPU is no use.
std::string why_not_kept(const ContextReading& reading, const Cepe& model, const char* on_gpu) {
  if (!model.device().is_cpu()) return on_gpu;
  if (model.config.decoder.cross.only_materialised())
    return "a model with a null key or positions of chunks keeps no keys and values";
  if (reading.form == CrossAttentionForm::automatic && reading.memory_budget == 0)
    return "--context-cache 0 keeps no keys and values";
  if (reading.form == CrossAttentionForm::automatic || reading.form == CrossAttentionForm::cached) return "";
  return fmt::format("--cross-attention {} keeps no keys and values", cross_attention_form_name(reading.form));
}
}  // namespace

ContextReading context_reading(const GenerationOptions& options) {
  ContextReading reading;
  require(options.context_cache >= 0 && options.context_cache <= 1e6,
          "--context-cache: expected gigabytes, 0 or more, found {}", options.context_cache);
  reading.memory_budget = static_cast<int64_t>(options.context_cache * 1e9);
  reading.form = cross_attention_form_from_name(options.form, "--cross-attention");
  reading.kept = kept_type_from_name(options.kept_type);
  require(options.read_share > 0 && options.read_share <= 1,
          "--read-share: expected a share above 0 and at most 1, found {}", options.read_share);
  require(options.read_again > 0, "--read-again: expected 1 or more tokens, found {}", options.read_again);
  reading.read_share = options.read_share;
  reading.read_again = options.read_again;
  reading.exclusive_device = options.exclusive_gpu;
  return reading;
}

ContextReading context_reading(const GenerationOptions& options, const Cepe& model) {
  ContextReading reading = context_reading(options);
  const bool fast = model.device().is_cpu() && kept_by_kernel(model.config.decoder.head_dim);
  if (options.kept_type == "auto" && fast) reading.kept = at::kChar;
  return reading;
}

void tell_unused_reading(const GenerationOptions& options, const Cepe& model) {
  const ContextReading reading = context_reading(options);
  const auto tell_why = [&](const char* option, const char* on_gpu) {
    const std::string why = why_not_kept(reading, model, on_gpu);
    if (!why.empty()) tell(fmt::format("{} does nothing: {}", option, why));
  };
  if (reading.kept) tell_why("--kept-type", "keys and values kept on a GPU are of the model's type");
  if (reading.read_share < 1) tell_why("--read-share", "keys and values kept on a GPU are read whole");
}

TemplateChoice find_template(const CLI::App& command, const GenerationOptions& options, const ModelOptions& model) {
  require(options.prompt_form == "chat" || options.prompt_form == "question",
          "--form: expected chat or question, found \"{}\"", options.prompt_form);
  if (options.prompt_form == "question") {
    require(command.count("--chat-template") == 0, "--chat-template: --form question has none: give one of the two");
    return {.question = true};
  }
  if (command.count("--chat-template") > 0) {
    const std::string source = read_file(options.chat_template);
    TemplateChoice choice{.text = std::string(without_byte_order_mark(source)), .file = options.chat_template};
    require(!choice.text->empty(), "{}: the chat template is empty", options.chat_template);
    static_cast<void>(ChatTemplate(*choice.text, choice.file));
    return choice;
  }
  std::optional<std::filesystem::path> base;
  if (!model.base.empty()) base = find_model(model.base);
  const ChatTemplateSource own = find_chat_template(find_model(model.model), base);
  static_cast<void>(ChatTemplate(own.text, own.file));
  return {};
}

}  // namespace cepe
