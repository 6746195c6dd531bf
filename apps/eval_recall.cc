// cepe eval recall: what a model finds again in a long text (docs/eval.md).
#include <memory>

#include "apps/eval_run.h"
#include "apps/options.h"
#include "apps/output.h"
#include "base/error.h"
#include "base/nearest.h"
#include "eval/recall_report.h"
#include "tasks/recall.h"

namespace cepe {
namespace {

struct RecallCommand {
  EvalOptions run;
  std::string data, essays;
  std::vector<std::string> tasks, lengths = {"4k"}, placements;
  RecallOptions options;
};

void read_options(RecallCommand& given) {
  require_different(given.tasks, "--tasks");
  require_different(given.lengths, "--lengths");
  require_different(given.placements, "--placement");
  const std::vector<std::string>& names = recall_task_names();
  for (const std::string& task : given.tasks) {
    require(std::find(names.begin(), names.end(), task) != names.end(), "--tasks: there is no recall task \"{}\"{}",
            task, did_you_mean(task, names));
  }
  given.options.tasks = given.tasks;
  given.options.lengths.clear();
  for (const std::string& length : given.lengths) {
    given.options.lengths.push_back(read_token_count(length, "--lengths"));
    require(given.options.lengths.back() >= 1, "--lengths: expected 1 or more, found {}", length);
  }
  given.options.placements.clear();
  for (const std::string& placement : given.placements) {
    given.options.placements.push_back(placement_from_name(placement, "--placement"));
  }
  require(given.options.examples >= 1, "--limit: expected 1 or more, found {}", given.options.examples);
  require(given.options.max_tokens >= 0, "--max-tokens: expected 1 or more, or 0, found {}", given.options.max_tokens);
}

// All that the answers depend on besides the model.
nlohmann::json settings(const RecallCommand& given) {
  std::vector<std::string> placements;
  for (const Placement placement : given.options.placements) placements.emplace_back(placement_name(placement));
  return {{"command", "eval recall"},     {"data", recorded_path(given.data)}, {"essays", recorded_path(given.essays)},
          {"tasks", given.options.tasks}, {"lengths", given.options.lengths},  {"depths", given.options.depths},
          {"placements", placements},     {"limit", given.options.examples},   {"max_tokens", given.options.max_tokens},
          {"seed", given.options.seed}};
}

void write_report(const RecallCommand& given, const TaskRun& run, const TaskRunOptions& options) {
  const RecallReport report = report_recall(run.examples);
  write_recall_plots(report, options.directory);
  nlohmann::json results = nlohmann::json::array(), at_depths = nlohmann::json::array();
  for (const Result& result : report.results) results.push_back(to_json(result));
  for (const Result& result : report.at_depths) at_depths.push_back(to_json(result));
  write_eval_results(given.run, {run.examples.size(), run.resumed, run.cost, run.unmatched_answers},
                     options.configuration, recall_table(report), {{"results", results}, {"at_depths", at_depths}});
}

void run_recall(RecallCommand& given) {
  const PromptForm form = prompt_form_from_name(given.run.form, "--form");
  const bool placed = !given.placements.empty();
  read_options(given);
  const auto data = std::make_shared<const RecallData>(read_recall_data(given.data, given.essays, given.tasks));
  const OpenedModel opened = open_model(given.run.model);
  RecallOptions& options = given.options;
  if (!placed) options.placements = {opened.model.encoder ? Placement::encoder : Placement::decoder};
  for (const Placement placement : options.placements) {
    require(placement == Placement::decoder || opened.model.encoder.has_value(),
            "--placement {}: {} has no encoder, so that its decoder must read the text", placement_name(placement),
            given.run.model.model);
  }
  options.decoder_window = decoder_window(opened.model.config.decoder);
  options.count_tokens = [prompts = std::make_shared<const QuestionPrompts>(opened, form)](const Question& question) {
    return static_cast<int64_t>(prompts->tokens(question).size());
  };
  const RecallTasks made = recall_tasks(data, options);
  for (const std::string& note : made.notes) tell(note);
  if (wrote_inputs_only(given.run, made.tasks)) return;
  const TaskRunOptions run = eval_run_options(given.run, opened, settings(given));
  write_report(given, run_tasks(opened, made.tasks, run), run);
}

}  // namespace

void add_eval_recall_command(CLI::App& eval) {
  auto given = std::make_shared<RecallCommand>();
  RecallOptions& options = given->options;
  CLI::App* command =
      eval.add_subcommand("recall", "RULER's tasks, a needle by depth, a value by its key, at any length");
  add_eval_model_options(*command, given->run);
  command->add_option("--data", given->data, "Directory with word lists, essays and questions (scripts/eval-data.sh)")
      ->type_name("DIRECTORY")
      ->required();
  command->add_option("--essays", given->essays, "Another text to hide needles in: a text file, or a directory of them")
      ->type_name("PATH");
  add_strings(*command, "--tasks", given->tasks, Strings::commas,
              "Tasks, such as niah_single_1,vt,needle (default: all that the data allows)");
  add_strings(*command, "--lengths", given->lengths, Strings::commas,
              "Tokens of text, question and answer together: 4096, 4k, 1M")
      ->type_name("TOKENS,...");
  command->add_option("--depths", options.depths, "Where needle and kv hide what is asked, in percent of the text")
      ->delimiter(',')
      ->capture_default_str();
  add_strings(*command, "--placement", given->placements, Strings::commas,
              "Who reads the text: encoder, decoder, or split (the decoder its last half, or less); several are "
              "compared (default: encoder, where the model has one)");
  command->add_option("--limit", options.examples, "Examples for each task, length, depth and placement")
      ->capture_default_str();
  command->add_option("--max-tokens", options.max_tokens, "The most tokens of an answer; 0: the task's own")
      ->capture_default_str();
  add_eval_run_options(*command, given->run);
  command->add_option("--seed", options.seed, "Seed of the examples: the same seed, the same examples")
      ->capture_default_str();
  command->callback([given] { run_recall(*given); });
}

}  // namespace cepe
