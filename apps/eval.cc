// cepe eval: tasks whose answers are scored (docs/eval.md).
#include <charconv>
#include <memory>

#include "apps/commands.h"
#include "apps/options.h"
#include "apps/output.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json_text.h"
#include "base/nearest.h"
#include "base/report.h"
#include "eval/recall_report.h"
#include "eval/task_run.h"
#include "tasks/recall.h"

namespace cepe {
namespace {

struct RecallCommand {
  ModelOptions model;
  std::string data, essays, out, form = "task";
  std::vector<std::string> tasks, lengths = {"4k"}, placements;
  RecallOptions options;
  int64_t batch = 0;
};

// "4096", "4k" or "1M": multiples of 1,024.
int64_t read_length(const std::string& text) {
  int64_t number = 0, unit = 1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view suffix(end, static_cast<size_t>(text.data() + text.size() - end));
  if (suffix == "k" || suffix == "K") unit = 1024;
  if (suffix == "M" || suffix == "m") unit = 1024 * 1024;
  require(error == std::errc() && (suffix.empty() || unit > 1) && number >= 1 && number <= int64_t{1} << 32,
          "--lengths: expected tokens such as 4096, 4k or 1M, found \"{}\"", text);
  return number * unit;
}

void read_options(RecallCommand& given) {
  const std::vector<std::string>& names = recall_task_names();
  for (const std::string& task : given.tasks) {
    require(std::find(names.begin(), names.end(), task) != names.end(), "--tasks: there is no recall task \"{}\"{}",
            task, did_you_mean(task, names));
  }
  given.options.tasks = given.tasks;
  given.options.lengths.clear();
  for (const std::string& length : given.lengths) given.options.lengths.push_back(read_length(length));
  given.options.placements.clear();
  for (const std::string& placement : given.placements) {
    given.options.placements.push_back(placement_from_name(placement, "--placement"));
  }
  require(given.options.examples >= 1, "--limit: expected 1 or more, found {}", given.options.examples);
  require(given.options.max_tokens >= 0, "--max-tokens: expected 1 or more, or 0, found {}", given.options.max_tokens);
  require(given.batch >= 0, "--batch: expected 1 or more, or 0, found {}", given.batch);
}

// All that the answers depend on: what run.json holds, and a run that goes on must equal.
nlohmann::json configuration(const RecallCommand& given, const OpenedModel& opened, int64_t batch) {
  std::vector<std::string> placements;
  for (const Placement placement : given.options.placements) placements.emplace_back(placement_name(placement));
  const auto path = [](const std::string& name) {
    return name.empty() ? nlohmann::json()
                        : nlohmann::json(std::filesystem::absolute(name).lexically_normal().string());
  };
  return {{"command", "eval recall"},
          {"version", CEPE_VERSION},
          {"model", path(opened.path.string())},
          {"model_sha256", hash_weights(opened.path)},
          {"base_sha256", opened.base_sha256},
          {"device", opened.model.device().is_cpu() ? "cpu" : "cuda"},
          {"dtype", dtype_name(opened.model.dtype())},
          {"weights", given.model.weights},
          {"window", decoder_window(opened.model.config.decoder)},
          {"data", path(given.data)},
          {"essays", path(given.essays)},
          {"tasks", given.options.tasks},
          {"lengths", given.options.lengths},
          {"depths", given.options.depths},
          {"placements", placements},
          {"limit", given.options.examples},
          {"max_tokens", given.options.max_tokens},
          {"seed", given.options.seed},
          {"form", given.form},
          {"batch", batch}};
}

nlohmann::json results_json(const TaskRun& run, const RecallReport& report, const nlohmann::json& configuration) {
  nlohmann::json results = nlohmann::json::array(), at_depths = nlohmann::json::array();
  for (const Result& result : report.results) results.push_back(to_json(result));
  for (const Result& result : report.at_depths) at_depths.push_back(to_json(result));
  return {{"configuration", configuration},          {"results", results},     {"at_depths", at_depths},
          {"examples", run.examples.size()},         {"resumed", run.resumed}, {"seconds", run.cost.seconds},
          {"peak_memory_bytes", run.cost.peak_bytes}};
}

void write_report(const RecallCommand& given, const TaskRun& run, const nlohmann::json& configuration) {
  const std::filesystem::path out = given.out;
  const RecallReport report = report_recall(run.examples);
  const std::string table = recall_table(report);
  write_file(out / "table.md", table);
  write_file(out / "results.json", json_text(results_json(run, report, configuration), 2) + "\n");
  write_recall_plots(report, out);
  print(printable_lines(table));
  tell(fmt::format(
      "{} examples, {} of them from an earlier run; {:.1f} s, {}; samples.jsonl, results.json, table.md and "
      "plots are in {}",
      run.examples.size(), run.resumed, run.cost.seconds, format_bytes(run.cost.peak_bytes), given.out));
}

void run_recall(RecallCommand& given) {
  const PromptForm form = prompt_form_from_name(given.form, "--form");
  const bool placed = !given.placements.empty();
  read_options(given);
  const auto data = std::make_shared<const RecallData>(read_recall_data(given.data, given.essays));
  const OpenedModel opened = open_model(given.model);
  RecallOptions& options = given.options;
  if (!placed) options.placements = {opened.model.encoder ? Placement::encoder : Placement::decoder};
  for (const Placement placement : options.placements) {
    require(placement == Placement::decoder || opened.model.encoder.has_value(),
            "--placement {}: {} has no encoder, so that its decoder must read the text", placement_name(placement),
            given.model.model);
  }
  options.decoder_window = decoder_window(opened.model.config.decoder);
  options.count_tokens = [&](const Question& question) {
    return static_cast<int64_t>(question_tokens(opened, question, form).size());
  };
  const RecallTasks made = recall_tasks(data, options);
  for (const std::string& note : made.notes) tell(note);

  TaskRunOptions run{.directory = given.out, .form = form, .progress = progress_bar("answering")};
  run.batch = given.batch > 0 ? given.batch : opened.model.device().is_cpu() ? 4 : 16;
  run.configuration = configuration(given, opened, run.batch);
  write_report(given, run_tasks(opened, made.tasks, run), run.configuration);
}

void add_recall_command(CLI::App& app) {
  auto given = std::make_shared<RecallCommand>();
  RecallOptions& options = given->options;
  CLI::App* command =
      app.add_subcommand("recall", "RULER's tasks, a needle by depth, a value by its key, at any length");
  add_model_options(*command, given->model);
  add_window_option(*command, given->model);
  command->add_option("--data", given->data, "Directory with word lists, essays and questions (scripts/eval-data.sh)")
      ->type_name("DIRECTORY")
      ->required();
  command->add_option("--essays", given->essays, "Another text to hide needles in: a text file, or a directory of them")
      ->type_name("PATH");
  command->add_option("--out", given->out, "Directory of the results; a run that was interrupted goes on there")
      ->type_name("DIRECTORY")
      ->required();
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
  command
      ->add_option("--form", given->form,
                   "How the question is put: task (RULER's wording), question (\"Question: ... Answer:\") or chat "
                   "(RULER's wording in the chat template)")
      ->capture_default_str();
  command->add_option("--batch", given->batch, "Examples at once (0: 4 on a CPU, 16 on a GPU)")->capture_default_str();
  command->add_option("--seed", options.seed, "Seed of the examples: the same seed, the same examples")
      ->capture_default_str();
  command->callback([given] { run_recall(*given); });
}

}  // namespace

void add_eval_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("eval", "Score a model's answers to the examples of a task");
  command->require_subcommand(1);
  add_recall_command(*command);
}

}  // namespace cepe
