// cepe eval long: questions about long texts and summaries of them (docs/eval.md).
#include "apps/eval_long.h"

#include <filesystem>
#include <map>
#include <memory>

#include "apps/eval_run.h"
#include "apps/options.h"
#include "apps/output.h"
#include "base/error.h"
#include "eval/long/long_report.h"
#include "io/json_file.h"
#include "tasks/long/long_files.h"
#include "tasks/long/long_tasks.h"

namespace cepe {
namespace {

struct LongCommand {
  EvalOptions run;
  std::vector<std::string> data, placements, controls = {"no-document", "other-document"};
  std::string data_form = "auto", metric = "auto", choices = "likelihood", length = "0", prompts;
  LongTaskOptions options;
};

// Options whose values no model changes.
void read_options(LongCommand& given) {
  LongTaskOptions& options = given.options;
  options.placements.clear();
  require_different(given.placements, "--placement");
  for (const std::string& name : given.placements) {
    options.placements.push_back(placement_from_name(name, "--placement"));
  }
  options.no_document = options.other_document = false;
  for (const std::string& control : given.controls) {
    const bool known = control == "no-document" || control == "other-document" || control == "none";
    require(known, "--controls: expected no-document, other-document or none, found \"{}\"", control);
    if (control == "no-document") options.no_document = true;
    if (control == "other-document") options.other_document = true;
  }
  require(given.choices == "likelihood" || given.choices == "written",
          "--choices: expected likelihood or written, found \"{}\"", given.choices);
  options.likelihood = given.choices == "likelihood";
  options.length = read_token_count(given.length, "--length");
  require(options.questions >= 0, "--limit: expected 1 or more, or 0 for all, found {}", options.questions);
  require(options.max_tokens >= 0, "--max-tokens: expected 1 or more, or 0, found {}", options.max_tokens);
}

// {"qasper": "... {context} ... {input} ..."}, as LongBench's dataset2prompt.json.
std::map<std::string, std::string> read_prompts(const std::string& path) {
  std::map<std::string, std::string> prompts;
  if (path.empty()) return prompts;
  const nlohmann::json file = read_json(path);
  require(file.is_object(), "{}: expected a JSON object of prompts, found a JSON {}", path, file.type_name());
  for (const auto& [name, prompt] : file.items()) {
    require(prompt.is_string() && prompt.get<std::string>().find("{context}") != std::string::npos,
            "{}: \"{}\": expected a text with {{context}} in it", path, name);
    prompts[name] = prompt.get<std::string>();
  }
  return prompts;
}

// Sets of one name, from several files, get the name of their file's directory before it.
std::vector<std::shared_ptr<const LongSet>> read_sets(const LongCommand& given) {
  const LongForm form = long_form_from_name(given.data_form, "--data-form");
  const LongMetric metric = long_metric_from_name(given.metric, "--metric");
  std::vector<std::pair<std::string, LongSet>> read;  // of which file
  std::map<std::string, int> names;
  for (const std::string& file : given.data) {
    LongTexts texts = read_long_texts(file, form, metric);
    tell_faults(file, texts.faults);
    for (LongSet& set : texts.sets) {
      ++names[set.name];
      read.emplace_back(file, std::move(set));
    }
  }
  std::map<std::string, std::string> files;
  std::vector<std::shared_ptr<const LongSet>> sets;
  for (auto& [file, set] : read) {
    if (names[set.name] > 1) {
      const std::filesystem::path directory = std::filesystem::absolute(file).lexically_normal().parent_path();
      set.name = directory.filename().string() + "/" + set.name;
    }
    const auto [known, fresh] = files.emplace(set.name, file);
    require(fresh, "--data: {} and {} both hold a set called {}: rename a file or its directory", known->second, file,
            set.name);
    sets.push_back(std::make_shared<const LongSet>(std::move(set)));
  }
  return sets;
}

// All that the answers depend on besides the model.
nlohmann::json settings(const LongCommand& given) {
  const LongTaskOptions& options = given.options;
  std::vector<std::string> placements;
  for (const Placement placement : options.placements) placements.emplace_back(placement_name(placement));
  return {{"command", "eval long"},
          {"data", recorded_files(given.data)},
          {"data_form", given.data_form},
          {"metric", given.metric},
          {"prompts", given.prompts.empty() ? nlohmann::json() : recorded_files({given.prompts})},
          {"placements", placements},
          {"controls", given.controls},
          {"choices", given.choices},
          {"stem", options.stem},
          {"length", options.length},
          {"limit", options.questions},
          {"max_tokens", options.max_tokens},
          {"seed", options.seed}};
}

void write_report(const LongCommand& given, const TaskRun& run, const TaskRunOptions& options) {
  const LongReport report = report_long(run.examples);
  write_long_plot(report, options.directory / "plot.svg");
  nlohmann::json results = nlohmann::json::array(), by_length = nlohmann::json::array();
  for (const Result& result : report.results) results.push_back(to_json(result));
  for (const Result& result : report.by_length) by_length.push_back(to_json(result));
  write_eval_results(given.run, {run.examples.size(), run.resumed, run.cost, run.unmatched_answers},
                     options.configuration, long_table(report), {{"results", results}, {"by_length", by_length}});
}

void run_long(LongCommand& given) {
  const PromptForm form = prompt_form_from_name(given.run.form, "--form");
  read_options(given);
  require(given.prompts.empty() || form != PromptForm::question,
          "--prompts: the form question has no words but \"Question:\" and \"Answer:\": give --form task or chat");
  LongTaskOptions& options = given.options;
  options.prompts = read_prompts(given.prompts);
  const std::vector<std::shared_ptr<const LongSet>> sets = read_sets(given);
  const OpenedModel opened = open_model(given.run.model);
  if (options.placements.empty()) {
    options.placements = {opened.model.encoder ? Placement::encoder : Placement::decoder};
  }
  for (const Placement placement : options.placements) {
    require(placement == Placement::decoder || opened.model.encoder.has_value(),
            "--placement {}: {} has no encoder, so that its decoder must read the text", placement_name(placement),
            given.run.model.model);
  }
  options.decoder_window = decoder_window(opened.model.config.decoder);
  options.count_tokens = [prompts = std::make_shared<const QuestionPrompts>(opened, form)](const Question& question) {
    return static_cast<int64_t>(prompts->tokens(question).size());
  };
  options.encode = [tokenizer = opened.tokenizer](const std::string& text) {
    return tokenizer->encode(text, {.parse_special_tokens = false});
  };
  options.decode = [tokenizer = opened.tokenizer](std::span<const TokenId> tokens) {
    return tokenizer->decode(tokens);
  };
  const LongTasks made = long_tasks(sets, options);
  for (const std::string& note : made.notes) tell(note);
  if (wrote_inputs_only(given.run, made.tasks)) return;
  const TaskRunOptions run = eval_run_options(given.run, opened, settings(given));
  write_report(given, run_tasks(opened, made.tasks, run), run);
}

void add_text_options(CLI::App& command, LongCommand& given) {
  add_strings(
      command, "--data", given.data, Strings::several,
      "Files of long texts with questions, .json or .jsonl, plain, .zst or .gz: L-Eval, LongBench, LongBench v2, "
      "ZeroSCROLLS, Qasper, NarrativeQA, QuALITY, GovReport or plain records")
      ->type_name("FILE ...")
      ->required();
  command
      .add_option("--data-form", given.data_form,
                  "Their form: auto (by content), leval, longbench, longbench-v2, zeroscrolls, qasper, narrativeqa, "
                  "quality, govreport or plain")
      ->capture_default_str();
  command
      .add_option("--metric", given.metric,
                  "How answers are scored: auto (as the data set's authors do), f1, rouge, choice, number, "
                  "classification, count or similarity")
      ->capture_default_str();
  command.add_flag("--stem", given.options.stem, "ROUGE of rouge-score: compare the stems of words");
  command
      .add_option("--prompts", given.prompts,
                  "Prompts by data set, with {context} and {input}, such as LongBench's dataset2prompt.json; not with "
                  "--form question")
      ->type_name("FILE");
  add_strings(command, "--placement", given.placements, Strings::commas,
              "Who reads the document: encoder, decoder (its middle cut out where the window is too small), or split "
              "(the decoder its last half, or less); several are compared (default: encoder, where the model has one)");
  add_strings(command, "--controls", given.controls, Strings::commas,
              "Columns for comparison: no-document, other-document (another question's), or none")
      ->capture_default_str();
  command
      .add_option("--choices", given.choices,
                  "How an option is chosen: likelihood (the likeliest letter) or written (the answer names it)")
      ->capture_default_str();
  command
      .add_option("--length", given.length,
                  "Tokens of a document that are read, 4096, 4k or 1M: the middle of longer ones is cut out (0: all)")
      ->type_name("TOKENS")
      ->capture_default_str();
}

}  // namespace

void add_eval_long_command(CLI::App& eval) {
  auto given = std::make_shared<LongCommand>();
  LongTaskOptions& options = given->options;
  CLI::App* command =
      eval.add_subcommand("long", "Questions about long texts and summaries of them: F1, ROUGE, multiple choice");
  add_eval_model_options(*command, given->run);
  add_text_options(*command, *given);
  command->add_option("--limit", options.questions, "Questions of each data set, drawn by the seed (0: all)")
      ->capture_default_str();
  command->add_option("--max-tokens", options.max_tokens, "The most tokens of an answer; 0: the data set's own")
      ->capture_default_str();
  add_eval_run_options(*command, given->run);
  command->add_option("--seed", options.seed, "Seed of the examples: the same seed, the same examples")
      ->capture_default_str();
  command->callback([given] { run_long(*given); });
}

}  // namespace cepe
