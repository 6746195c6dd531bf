#include "apps/eval_run.h"

#include <charconv>
#include <set>

#include "apps/output.h"
#include "apps/preset.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json_text.h"
#include "base/report.h"
#include "data/shards.h"

namespace cepe {
namespace {

// Which of the two was given.
const char* name_of_expanding(const EvalOptions& options) {
  return options.expand.chunks > 0 ? "--expand" : "--top-chunks";
}

}  // namespace

void add_eval_model_options(CLI::App& command, EvalOptions& options) {
  add_model_options(command, options.model);
  add_window_option(command, options.model);
  command.add_option("--out", options.out, "Directory of the results; a run that was interrupted goes on there")
      ->type_name("DIRECTORY")
      ->required();
  add_preset_option(command);
}

void add_eval_run_options(CLI::App& command, EvalOptions& options) {
  command
      .add_option("--form", options.form,
                  "How the question is put: task (the task's wording), question (\"Question: ... Answer:\") or chat "
                  "(the task's wording in the chat template)")
      ->capture_default_str();
  add_expand_options(command, options.expand);
  command.add_option("--batch", options.batch, "Examples at once (0: 4 on a CPU, 16 on a GPU)")->capture_default_str();
  command.add_flag("--inputs-only", options.inputs_only,
                   "Answer nothing: write what each example reads to inputs.jsonl in --out, for another program");
  command
      .add_option("--answers", options.answers,
                  "Another program's answers to the same examples, .jsonl with id and text, in place of the model's")
      ->type_name("FILE");
}

bool wrote_inputs_only(const EvalOptions& options, std::span<const Task> tasks) {
  if (!options.inputs_only) return false;
  require(!expand_of(options.expand).any() && options.answers.empty(),
          "--inputs-only: nothing is answered, so that {} has nothing to do",
          !options.answers.empty() ? "--answers" : name_of_expanding(options));
  const std::filesystem::path file = std::filesystem::path(options.out) / "inputs.jsonl";
  std::error_code error;
  std::filesystem::create_directories(options.out, error);
  require(!error, "{}: cannot be made: {}", options.out, error.message());
  write_example_inputs(tasks, prompt_form_from_name(options.form, "--form"), file);
  int64_t examples = 0;
  for (const Task& task : tasks) examples += task.examples;
  tell(fmt::format("{} examples are in {}", examples, file.string()));
  return true;
}

nlohmann::json recorded_path(const std::string& path) {
  if (path.empty()) return {};
  return std::filesystem::absolute(path).lexically_normal().string();
}

nlohmann::json recorded_files(const std::vector<std::string>& files) {
  nlohmann::json recorded = nlohmann::json::array();
  for (const std::string& file : files) {
    recorded.push_back({{"path", recorded_path(file)}, {"sha256", sha256_file(file)}});
  }
  return recorded;
}

int64_t read_token_count(const std::string& text, const std::string& option) {
  int64_t number = 0, unit = 1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view suffix(end, static_cast<size_t>(text.data() + text.size() - end));
  if (suffix == "k" || suffix == "K") unit = 1024;
  if (suffix == "M" || suffix == "m") unit = 1024 * 1024;
  require(error == std::errc() && (suffix.empty() || unit > 1) && number >= 0 && number <= int64_t{1} << 32,
          "{}: expected tokens such as 4096, 4k or 1M, found \"{}\"", option, text);
  return number * unit;
}

void require_different(const std::vector<std::string>& values, const std::string& option) {
  std::set<std::string> seen;
  for (const std::string& value : values) {
    require(seen.insert(value).second, "{}: expected each once, found {} twice", option, value);
  }
}

void tell_faults(const std::string& file, const std::vector<std::string>& faults) {
  constexpr size_t kShown = 20;
  for (size_t i = 0; i < faults.size() && i < kShown; ++i) tell("left out: " + faults[i]);
  if (faults.size() > kShown) tell(fmt::format("{}: {} more were left out", file, faults.size() - kShown));
}

nlohmann::json recorded_config(const std::filesystem::path& model) {
  const std::filesystem::path config = model / "config.json";
  return std::filesystem::exists(config) ? nlohmann::json(sha256_file(config)) : nlohmann::json();
}

nlohmann::json model_configuration(const EvalOptions& options, const OpenedModel& opened) {
  return {
      {"version", CEPE_VERSION},
      {"model", recorded_path(opened.path.string())},
      {"model_sha256", hash_weights(opened.path)},
      {"model_config_sha256", recorded_config(opened.path)},
      {"base_sha256", opened.base_sha256},
      {"base_config_sha256", opened.base_path ? recorded_config(*opened.base_path) : nlohmann::json()},
      {"tokenizer", opened.tokenizer ? nlohmann::json(fmt::format("{:016x}", tokenizer_fingerprint(*opened.tokenizer)))
                                     : nlohmann::json()},
      {"device", opened.model.device().is_cpu() ? "cpu" : "cuda"},
      {"dtype", dtype_name(opened.model.dtype())},
      {"weights", options.model.weights},
      {"window", decoder_window(opened.model.config.decoder)}};
}

TaskRunOptions eval_run_options(const EvalOptions& options, const OpenedModel& opened,
                                const nlohmann::json& own_settings) {
  require(options.batch >= 0, "--batch: expected 1 or more, or 0, found {}", options.batch);
  TaskRunOptions run{.directory = options.out,
                     .form = prompt_form_from_name(options.form, "--form"),
                     .expand = expand_of(options.expand),
                     .progress = progress_bar("answering")};
  run.batch = options.batch > 0 ? options.batch : opened.model.device().is_cpu() ? 4 : 16;
  run.configuration = model_configuration(options, opened);
  run.configuration.update({{"form", options.form}, {"batch", run.batch}});
  // Runs that were begun before there was such an option go on where it is off.
  if (run.expand.any()) run.configuration["expand"] = {{"chunks", run.expand.chunks}, {"by", options.expand.by}};
  if (run.expand.top > 0) run.configuration["expand"]["top"] = run.expand.top;
  run.configuration.update(own_settings);
  if (!options.answers.empty()) {
    require(!run.expand.any(), "--answers: another program has answered, so that {} has nothing to do",
            name_of_expanding(options));
    run.answers = std::make_shared<const GivenAnswers>(read_given_answers(options.answers));
    run.configuration["answers"] = recorded_files({options.answers});
  }
  return run;
}

void write_eval_results(const EvalOptions& options, const EvalTotals& totals, const nlohmann::json& configuration,
                        const std::string& table, const nlohmann::json& own) {
  nlohmann::json results = {{"configuration", configuration},
                            {"examples", totals.examples},
                            {"resumed", totals.resumed},
                            {"seconds", totals.cost.seconds},
                            {"peak_memory_bytes", totals.cost.peak_bytes}};
  results.update(own);
  if (totals.unmatched_answers > 0) {
    tell(fmt::format("{}: answers to no example of this run: {}", options.answers, totals.unmatched_answers));
  }
  const std::filesystem::path directory = options.out;
  write_file(directory / "table.md", table);
  write_file(directory / "results.json", json_text(results, 2) + "\n");
  print(printable_lines(table));
  tell(fmt::format(
      "{} examples, {} of them from an earlier run; {:.1f} s, {}; samples.jsonl, results.json, table.md and "
      "plots are in {}",
      totals.examples, totals.resumed, totals.cost.seconds, format_bytes(totals.cost.peak_bytes), options.out));
}

}  // namespace cepe
