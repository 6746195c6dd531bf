// What the commands of `cepe eval` share: options of a run, what run.json records, and the files of the results.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "apps/commands.h"
#include "apps/generation_options.h"
#include "eval/task_run.h"

namespace cepe {

// Each in a file of its own, apps/eval_<command>.cc.
void add_eval_recall_command(CLI::App& eval);
void add_eval_qa_command(CLI::App& eval);
void add_eval_icl_command(CLI::App& eval);
void add_eval_lm_command(CLI::App& eval);

struct EvalOptions {
  ModelOptions model;
  std::string out, form = "task";
  int64_t batch = 0;
  ExpandCommandOptions expand;
  bool inputs_only = false;
  std::string answers;  // a file of another program's; empty: the model answers
};
// Adds --model and its like, --window and --out: what stands first in a command's help.
void add_eval_model_options(CLI::App& command, EvalOptions& options);
// Adds --form, --expand, --expand-by, --batch, --inputs-only and --answers.
void add_eval_run_options(CLI::App& command, EvalOptions& options);

// The SHA-256 of the config.json beside a model's weights; null where there is none, as with GGUF.
nlohmann::json recorded_config(const std::filesystem::path& model);
// What run.json holds of any evaluation: the version, the model with its config.json and tokenizer, and how it
// computes.
nlohmann::json model_configuration(const EvalOptions& options, const OpenedModel& opened);
// The model as --model names it, and how run_tasks() is to go; the configuration is what the answers depend on, with
// the command's own settings added.
TaskRunOptions eval_run_options(const EvalOptions& options, const OpenedModel& opened,
                                const nlohmann::json& own_settings);
// Where --inputs-only was given: writes inputs.jsonl of the tasks and says so. -> whether it was. Error with --expand
// or
// --answers.
bool wrote_inputs_only(const EvalOptions& options, std::span<const Task> tasks);
// A path as it is recorded; null where it is empty. Files with their SHA-256.
nlohmann::json recorded_path(const std::string& path);
nlohmann::json recorded_files(const std::vector<std::string>& files);
// "4096", "4k" or "1M": multiples of 1,024. Error naming the option.
int64_t read_token_count(const std::string& text, const std::string& option);

// Error naming the option where a value comes twice: its examples would count twice.
void require_different(const std::vector<std::string>& values, const std::string& option);

// Says what was left out of a file of data, a sentence each: the first twenty, and how many there are beyond.
void tell_faults(const std::string& file, const std::vector<std::string>& faults);

// Of all examples, those of an earlier run included.
struct EvalTotals {
  size_t examples = 0;
  int64_t resumed = 0;
  Cost cost;
  int64_t unmatched_answers = 0;  // of another program, to none of them
};
// Writes results.json (with `own`, the command's results, added to what all have) and table.md, prints the table and
// says what there is.
void write_eval_results(const EvalOptions& options, const EvalTotals& totals, const nlohmann::json& configuration,
                        const std::string& table, const nlohmann::json& own);

}  // namespace cepe
