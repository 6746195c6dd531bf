// cepe perplexity: how much a model reads of more and more context (docs/perplexity.md).
#include <cstdio>
#include <memory>

#include "apps/commands.h"
#include "apps/options.h"
#include "apps/output.h"
#include "apps/output_files.h"
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
  std::vector<std::string> controls;
  PerplexityOptions perplexity;
  std::string json, plot, latents = "stored";
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

void set_controls(const std::vector<std::string>& names, PerplexityOptions& options) {
  for (const std::string& name : names) {
    require(name == "other-document" || name == "same-source" || name == "shuffled",
            "--control: expected other-document, same-source or shuffled, found \"{}\"", name);
    (name == "shuffled"      ? options.shuffled
     : name == "same-source" ? options.same_source
                             : options.other_document) = true;
  }
}

std::string scope(const PerplexityRecord& record, const Cepe& model) {
  std::string text = fmt::format("{}: the last {} of {} decoder tokens, ", record.model, record.scored_tokens,
                                 format_count(static_cast<uint64_t>(record.decoder_tokens)));
  std::string domain;
  for (const PerplexityRow& row : record.rows) {
    if (row.scored.domain == domain) continue;
    domain = row.scored.domain;
    const size_t windows = row.scored.nll.size();
    text += fmt::format("{}{}: {} window{} in {} document{}", &row == &record.rows.front() ? "" : "; ", domain, windows,
                        windows == 1 ? "" : "s", row.documents, row.documents == 1 ? "" : "s");
  }
  return fmt::format("{}; {} on {}\n\n", text, dtype_name(model.dtype()), model.device().str());
}

void run(Options& options) {
  const std::vector<std::string> files{options.json, options.plot};
  for (const std::string& file : files) {
    if (!file.empty()) check_writable(file);
  }
  set_controls(options.controls, options.perplexity);
  options.perplexity.int8_latents = int8_latents_from_name(options.latents);
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
  std::string shown = scope(record, opened.model) + to_table(record) + "\n" + to_sentences(record);
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
              "Text to score: .txt (a document each), .jsonl or .jsonl.zst (a record each)")
      ->required();
  command->add_option("--decoder-tokens", perplexity.decoder_tokens, "Tokens in the decoder")->capture_default_str();
  command
      ->add_option(
          "--context-tokens", options->context_tokens,
          "Lengths of the context, ascending, whole chunks (default 0,2048,6144,14336,30720; a plain decoder: 0)")
      ->delimiter(',');
  command->add_option("--scored-tokens", perplexity.scored_tokens, "The last so many decoder tokens are scored")
      ->capture_default_str();
  add_strings(*command, "--control", options->controls, Strings::commas,
              "Contexts to compare with: other-document, same-source and shuffled, separated by commas");
  command->add_flag(
      "--full-window", perplexity.full_window,
      "Also full attention: the frozen, untrained decoder with the contexts in its own window, where they fit");
  command->add_option("--windows", perplexity.windows, "At most so many windows a domain; 0: all that fit")
      ->capture_default_str();
  command->add_option("--stride", perplexity.stride, "Least distance of two windows in tokens")->capture_default_str();
  command->add_option("--batch", perplexity.batch, "Windows at once (0: 1 on a CPU, 8 on a GPU)")
      ->capture_default_str();
  command->add_option("--latents", options->latents, "The context's states in the model's type (stored) or int8")
      ->capture_default_str();
  add_json_option(*command, options->json, "Write the result record");
  command->add_option("--plot", options->plot, "Write perplexity over context length to this file, as SVG")
      ->type_name("FILE");
  command->callback([options] { run(*options); });
}

}  // namespace cepe
