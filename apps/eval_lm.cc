// cepe eval lm: long-context language modelling beside baselines on the same tokens (docs/eval.md).
#include <algorithm>
#include <map>
#include <memory>

#include "apps/eval_run.h"
#include "apps/options.h"
#include "apps/output.h"
#include "apps/window_options.h"
#include "base/error.h"
#include "base/nearest.h"
#include "base/report.h"
#include "data/shards.h"
#include "eval/lm/baselines.h"
#include "eval/lm/lm_report.h"
#include "eval/lm/lm_run.h"

namespace cepe {
namespace {

constexpr std::string_view kModelPrefix = "model:";

struct LmCommand {
  EvalOptions run;
  std::vector<std::string> data, contexts = {"2k", "6k", "14k", "30k"}, baselines = {"plain", "full"};
  WindowOptionTexts windows;
  PerplexityOptions options;
  BaselineOptions baseline;
  std::string attention_tokens = "0", replug_scores = "bm25";
};

// A model whose own window reads the text.
struct OtherModel {
  std::string name;
  OpenedModel opened;
};

// Options whose values no model changes.
void read_options(LmCommand& given) {
  read_scoring_options(given.windows, given.options);
  std::vector<int64_t>& contexts = given.options.context_tokens;
  contexts.clear();
  for (const std::string& text : given.contexts) contexts.push_back(read_token_count(text, "--context-tokens"));
  const bool plain = std::find(given.baselines.begin(), given.baselines.end(), "plain") != given.baselines.end();
  if (plain && contexts.front() != 0) contexts.insert(contexts.begin(), 0);
  std::vector<std::string> known = baseline_names();
  known.insert(known.begin(), "plain");
  for (const std::string& name : given.baselines) {
    require(std::count(given.baselines.begin(), given.baselines.end(), name) == 1,
            "--baseline: expected each reader once, found \"{}\" again", name);
    const bool found = std::find(known.begin(), known.end(), name) != known.end();
    require(found || name.starts_with(kModelPrefix),
            "--baseline: expected plain, full, pi, ntk, dynamic, yarn, streaming, replug or model:PATH, found \"{}\"{}",
            name, did_you_mean(name, known));
  }
  require(given.replug_scores == "bm25" || given.replug_scores == "uniform",
          "--replug-scores: expected bm25 or uniform, found \"{}\"", given.replug_scores);
  given.baseline.replug_uniform = given.replug_scores == "uniform";
  given.baseline.decoder_tokens = given.options.decoder_tokens;
}

std::vector<std::shared_ptr<OtherModel>> open_other_models(const LmCommand& given, const OpenedModel& opened) {
  std::vector<std::shared_ptr<OtherModel>> others;
  for (const std::string& name : given.baselines) {
    if (!name.starts_with(kModelPrefix)) continue;
    ModelOptions options = given.run.model;
    options.model = name.substr(kModelPrefix.size());
    options.base.clear();
    options.window = 0;
    auto other = std::make_shared<OtherModel>(OtherModel{name, open_model(options)});
    require(other->opened.tokenizer &&
                tokenizer_fingerprint(*other->opened.tokenizer) == tokenizer_fingerprint(*opened.tokenizer),
            "--baseline {}: its tokens are not those of {}, so that their losses cannot be compared", name,
            given.run.model.model);
    others.push_back(std::move(other));
  }
  return others;
}

std::vector<NamedReader> readers_of(const LmCommand& given, const OpenedModel& opened,
                                    const std::vector<std::shared_ptr<OtherModel>>& others) {
  const PerplexityOptions& options = given.options;
  std::vector<NamedReader> readers;
  const auto add = [&](const std::string& name, std::shared_ptr<const LmReader> reader) {
    const bool chunks = name == kCepeReader;
    readers.push_back({name, std::move(reader), options.other_document, options.same_source,
                       chunks && options.shuffled && opened.model.encoder.has_value()});
  };
  add(kCepeReader, encoder_reader(opened.model, options.int8_latents));
  for (const std::string& name : given.baselines) {
    if (name == "plain") continue;
    if (!name.starts_with(kModelPrefix)) {
      add(name, baseline_reader(name, opened.model, *opened.tokenizer, given.baseline));
      continue;
    }
    const auto other =
        std::find_if(others.begin(), others.end(), [&](const auto& candidate) { return candidate->name == name; });
    const Cepe& model = (*other)->opened.model;
    add(name, window_reader(model, {.decoder_tokens = options.decoder_tokens,
                                    .window = decoder_window(model.config.decoder),
                                    .attention_tokens = given.baseline.attention_tokens,
                                    .alone = true}));
  }
  return readers;
}

// Contexts that readers leave out for one reason.
struct LeftOut {
  std::string tokens, reason, readers;
};

std::vector<std::string> left_out_notes(const std::vector<NamedReader>& readers, const std::vector<int64_t>& contexts) {
  std::vector<LeftOut> all;
  for (const NamedReader& named : readers) {
    std::vector<LeftOut> own;
    for (const int64_t n : contexts) {
      const std::string reason = named.reader->why_not(n), tokens = format_count(static_cast<uint64_t>(n));
      if (n == 0 || reason.empty()) continue;
      const bool goes_on = !own.empty() && own.back().reason == reason;
      if (goes_on) own.back().tokens += " and " + tokens;
      if (!goes_on) own.push_back({tokens, reason, named.name});
    }
    for (const LeftOut& one : own) {
      const auto same = [&](const LeftOut& other) { return other.tokens == one.tokens && other.reason == one.reason; };
      const auto known = std::find_if(all.begin(), all.end(), same);
      if (known != all.end()) known->readers += ", " + one.readers;
      if (known == all.end()) all.push_back(one);
    }
  }
  std::vector<std::string> notes;
  for (const LeftOut& one : all) {
    notes.push_back(fmt::format("Contexts of {} tokens are left out for {}: {}.", one.tokens, one.readers, one.reason));
  }
  return notes;
}

// All that the losses depend on besides the model.
nlohmann::json settings(const LmCommand& given, const std::vector<std::shared_ptr<OtherModel>>& others) {
  const PerplexityOptions& options = given.options;
  nlohmann::json models = nlohmann::json::object();
  for (const auto& other : others) {
    models[other->name] = {{"sha256", hash_weights(other->opened.path)},
                           {"config_sha256", recorded_config(other->opened.path)}};
  }
  return {{"command", "eval lm"},
          {"data", recorded_files(given.data)},
          {"context_tokens", options.context_tokens},
          {"decoder_tokens", options.decoder_tokens},
          {"scored_tokens", options.scored_tokens},
          {"stride", options.stride},
          {"limit", options.windows},
          {"controls", given.windows.controls},
          {"latents", given.windows.latents},
          {"batch", options.batch},
          {"baselines", given.baselines},
          {"baseline_models", models},
          {"attention_tokens", given.baseline.attention_tokens},
          {"sinks", given.baseline.sinks},
          {"recent_tokens", given.baseline.recent},
          {"replug_chunk", given.baseline.replug_chunk},
          {"replug_passages", given.baseline.replug_passages},
          {"replug_scores", given.replug_scores},
          {"replug_temperature", given.baseline.replug_temperature}};
}

void write_report(const LmCommand& given, const OpenedModel& opened, const LmRun& run,
                  const nlohmann::json& configuration) {
  const PerplexityRecord record = summarise(run.scores, given.run.model.model, given.options);
  std::string table = scope_of(record, opened.model) + "\n\n" + lm_table(record);
  for (const std::string& note : run.scores.notes) table += note + "\n";
  write_plot(record, std::filesystem::path(given.run.out) / "plot.svg");
  nlohmann::json results = nlohmann::json::array(), costs = nlohmann::json::array();
  for (const Result& result : lm_results(record)) results.push_back(to_json(result));
  for (const Result& result : lm_costs(record)) costs.push_back(to_json(result));
  write_eval_results(given.run, {static_cast<size_t>(run.records), run.resumed, run.cost}, configuration, table,
                     {{"results", results}, {"costs", costs}, {"perplexity", to_json(record)}});
}

void run_lm_command(LmCommand& given) {
  read_options(given);
  const OpenedModel opened = open_model(given.run.model);
  require(opened.tokenizer != nullptr, "{}: the model has no tokenizer, so text cannot be read", given.run.model.model);
  given.baseline.attention_tokens = read_token_count(given.attention_tokens, "--attention-tokens");
  if (given.baseline.attention_tokens == 0) {
    given.baseline.attention_tokens = opened.model.device().is_cpu() ? 16 * 1024 : 256 * 1024;
  }
  check_window_options(opened.model, given.options);
  require(!given.options.shuffled || opened.model.encoder.has_value(),
          "--control shuffled: {} has no encoder, whose chunks could be shuffled", given.run.model.model);
  require(given.windows.controls.empty() || given.options.context_tokens.back() > 0,
          "--control needs a context, and --context-tokens has only 0");
  const std::vector<std::shared_ptr<OtherModel>> others = open_other_models(given, opened);
  const std::vector<NamedReader> readers = readers_of(given, opened, others);
  const TokenDocuments text = read_token_documents({given.data.begin(), given.data.end()}, *opened.tokenizer);
  for (const std::string& note : text.notes) tell(note);
  for (const auto& other : others) check_vocabulary(other->opened.model, text.documents, other->name);
  const WindowScoring scoring(opened.model, text.documents, given.options, readers);
  require(!scoring.empty_scores().rows.empty(),
          "no context can be read: the model has no encoder, and no baseline reads any of --context-tokens");

  LmRunOptions options{.directory = given.run.out,
                       .configuration = model_configuration(given.run, opened),
                       .progress = progress_bar("scoring")};
  options.configuration.update(settings(given, others));
  LmRun run = run_lm(scoring, text.documents, options);
  for (std::string& note : left_out_notes(readers, given.options.context_tokens)) {
    run.scores.notes.push_back(std::move(note));
  }
  write_report(given, opened, run, options.configuration);
}

void add_baseline_options(CLI::App& command, LmCommand& given) {
  BaselineOptions& baseline = given.baseline;
  add_strings(command, "--baseline", given.baselines, Strings::commas,
              "Other readers on the same tokens: plain (no context), full (attention in the decoder's window), beyond "
              "the window pi, ntk, dynamic, yarn, at any length streaming, replug; model:PATH, another model in its "
              "window")
      ->capture_default_str();
  command
      .add_option("--attention-tokens", given.attention_tokens,
                  "Longer texts are not read by full attention of pi, ntk, dynamic, yarn and model:PATH (0: 16k on a "
                  "CPU, 256k on a GPU)")
      ->type_name("TOKENS")
      ->capture_default_str();
  command.add_option("--sinks", baseline.sinks, "streaming: first tokens that are kept")->capture_default_str();
  command
      .add_option("--recent-tokens", baseline.recent,
                  "streaming: last tokens that are kept beside them (0: what fits --decoder-tokens)")
      ->capture_default_str();
  command.add_option("--replug-chunk", baseline.replug_chunk, "replug: tokens of a passage")->capture_default_str();
  command
      .add_option("--replug-passages", baseline.replug_passages,
                  "replug: passages, those of the context with the best BM25 scores (0: all)")
      ->capture_default_str();
  command.add_option("--replug-scores", given.replug_scores, "replug: how passages count: bm25 or uniform")
      ->capture_default_str();
  command
      .add_option("--replug-temperature", baseline.replug_temperature,
                  "replug: BM25 scores are divided by it before the softmax")
      ->capture_default_str();
}

}  // namespace

void add_eval_lm_command(CLI::App& eval) {
  auto given = std::make_shared<LmCommand>();
  CLI::App* command = eval.add_subcommand(
      "lm", "Perplexity of the same tokens with more and more context, beside baselines that read it in other ways");
  add_eval_model_options(*command, given->run);
  add_strings(*command, "--data", given->data, Strings::several,
              "Text to score: .txt (a document each) or .jsonl (a record each), plain, .zst or .gz")
      ->required();
  add_strings(*command, "--context-tokens", given->contexts, Strings::commas,
              "Lengths of the context, ascending, whole chunks: 2048, 2k, 128k")
      ->type_name("TOKENS,...");
  command->add_option("--limit", given->options.windows, "At most so many windows a domain (0: all that fit)")
      ->capture_default_str();
  add_scoring_options(*command, given->options, given->windows);
  add_baseline_options(*command, *given);
  command->callback([given] { run_lm_command(*given); });
}

}  // namespace cepe
