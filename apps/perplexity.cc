// cepe perplexity: how much a model reads of more and more context (docs/perplexity.md).
#include <cstdio>
#include <memory>

#include "apps/commands.h"
#include "apps/options.h"
#include "apps/output.h"
#include "apps/output_files.h"
#include "apps/window_options.h"
#include "base/error.h"
#include "base/json_text.h"
#include "base/output_file.h"
#include "base/report.h"
#include "eval/perplexity.h"

namespace cepe {
namespace {

struct Options {
  ModelOptions model;
  std::vector<std::string> text;
  std::vector<int64_t> context_tokens;  // empty: default_contexts
  WindowOptionTexts windows;
  PerplexityOptions perplexity;
  std::string json, plot;
};

// A model with an encoder reads far beyond its window; a plain decoder has its window only.
std::vector<int64_t> default_contexts(const Cepe& model, const PerplexityOptions& options) {
  std::vector<int64_t> contexts{0};
  for (int64_t n : {2048, 6144, 14336, 30720}) {
    const bool fits = n + options.decoder_tokens <= decoder_window(model.config.decoder);
    if (model.encoder || (options.full_window && fits)) contexts.push_back(n);
  }
  return contexts;
}

void run(Options& options) {
  const std::vector<std::string> files{options.json, options.plot};
  for (const std::string& file : files) {
    if (!file.empty()) check_writable(file);
  }
  read_scoring_options(options.windows, options.perplexity);
  check_output_files({{"--json", options.json}, {"--plot", options.plot}}, options.text);
  const OpenedModel opened = open_model(options.model);
  require(opened.tokenizer != nullptr, "{}: the model has no tokenizer, so text cannot be read", options.model.model);

  PerplexityOptions& perplexity = options.perplexity;
  perplexity.context_tokens =
      options.context_tokens.empty() ? default_contexts(opened.model, perplexity) : options.context_tokens;
  perplexity.progress = progress_bar("scoring");
  check_perplexity_options(opened.model, perplexity);
  const TokenDocuments text = read_token_documents({options.text.begin(), options.text.end()}, *opened.tokenizer);
  for (const std::string& note : text.notes) tell(note);

  const PerplexityScores scores = score_windows(opened.model, text.documents, perplexity);
  const PerplexityRecord record = summarise(scores, options.model.model, perplexity);
  std::string shown = scope_of(record, opened.model) + "\n\n" + to_table(record) + "\n" + to_sentences(record);
  for (const std::string& note : scores.notes) shown += note + "\n";
  print_beside(files, shown);
  write_results({{options.json, [&](const auto& path) { write_output(path, json_text(to_json(record), 2) + "\n"); }},
                 {options.plot, [&](const auto& path) { write_plot(record, path); }}});
}

}  // namespace

void add_perplexity_command(CLI::App& app) {
  auto options = std::make_shared<Options>();
  PerplexityOptions& perplexity = options->perplexity;
  CLI::App* command =
      app.add_subcommand("perplexity", "Measure the perplexity of the same tokens with more and more context");
  add_model_options(*command, options->model);
  add_window_option(*command, options->model);
  add_strings(*command, "--text", options->text, Strings::several,
              "Text to score: .txt (a document each) or .jsonl (a record each), plain, .zst or .gz")
      ->required();
  command
      ->add_option(
          "--context-tokens", options->context_tokens,
          "Lengths of the context, ascending, whole chunks (default 0,2048,6144,14336,30720; a plain decoder: 0)")
      ->delimiter(',');
  command->add_flag(
      "--full-window", perplexity.full_window,
      "Also full attention: the frozen, untrained decoder with the contexts in its own window, where they fit");
  command->add_option("--windows", perplexity.windows, "At most so many windows a domain; 0: all that fit")
      ->capture_default_str();
  add_scoring_options(*command, perplexity, options->windows);
  add_json_option(*command, options->json, "Write the result record");
  command->add_option("--plot", options->plot, "Write perplexity over context length to this file, as SVG")
      ->type_name("FILE");
  command->callback([options] { run(*options); });
}

}  // namespace cepe
