#include "apps/eval_run.h"

#include "apps/output.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json_text.h"
#include "base/report.h"

namespace cepe {

void add_eval_model_options(CLI::App& command, EvalOptions& options) {
  add_model_options(command, options.model);
  add_window_option(command, options.model);
  command.add_option("--out", options.out, "Directory of the results; a run that was interrupted goes on there")
      ->type_name("DIRECTORY")
      ->required();
}

void add_eval_run_options(CLI::App& command, EvalOptions& options) {
  command
      .add_option("--form", options.form,
                  "How the question is put: task (the task's wording), question (\"Question: ... Answer:\") or chat "
                  "(the task's wording in the chat template)")
      ->capture_default_str();
  add_expand_options(command, options.expand);
  command.add_option("--batch", options.batch, "Examples at once (0: 4 on a CPU, 16 on a GPU)")->capture_default_str();
}

nlohmann::json recorded_path(const std::string& path) {
  if (path.empty()) return {};
  return std::filesystem::absolute(path).lexically_normal().string();
}

TaskRunOptions eval_run_options(const EvalOptions& options, const OpenedModel& opened,
                                const nlohmann::json& own_settings) {
  require(options.batch >= 0, "--batch: expected 1 or more, or 0, found {}", options.batch);
  TaskRunOptions run{.directory = options.out,
                     .form = prompt_form_from_name(options.form, "--form"),
                     .expand = expand_of(options.expand),
                     .progress = progress_bar("answering")};
  run.batch = options.batch > 0 ? options.batch : opened.model.device().is_cpu() ? 4 : 16;
  run.configuration = {{"version", CEPE_VERSION},
                       {"model", recorded_path(opened.path.string())},
                       {"model_sha256", hash_weights(opened.path)},
                       {"base_sha256", opened.base_sha256},
                       {"device", opened.model.device().is_cpu() ? "cpu" : "cuda"},
                       {"dtype", dtype_name(opened.model.dtype())},
                       {"weights", options.model.weights},
                       {"window", decoder_window(opened.model.config.decoder)},
                       {"form", options.form},
                       {"batch", run.batch}};
  // Runs that were begun before there was such an option go on where it is off.
  if (run.expand.chunks > 0) run.configuration["expand"] = {{"chunks", run.expand.chunks}, {"by", options.expand.by}};
  run.configuration.update(own_settings);
  return run;
}

void write_eval_results(const EvalOptions& options, const TaskRun& run, const TaskRunOptions& run_options,
                        const std::string& table, const nlohmann::json& own) {
  nlohmann::json results = {{"configuration", run_options.configuration},
                            {"examples", run.examples.size()},
                            {"resumed", run.resumed},
                            {"seconds", run.cost.seconds},
                            {"peak_memory_bytes", run.cost.peak_bytes}};
  results.update(own);
  write_file(run_options.directory / "table.md", table);
  write_file(run_options.directory / "results.json", json_text(results, 2) + "\n");
  print(printable_lines(table));
  tell(fmt::format(
      "{} examples, {} of them from an earlier run; {:.1f} s, {}; samples.jsonl, results.json, table.md and "
      "plots are in {}",
      run.examples.size(), run.resumed, run.cost.seconds, format_bytes(run.cost.peak_bytes), options.out));
}

}  // namespace cepe
