// cepe eval: what a model makes of long inputs (docs/eval.md).
#include "apps/commands.h"
#include "apps/eval_long.h"
#include "apps/eval_retrieval_lm.h"
#include "apps/eval_run.h"

namespace cepe {

void add_eval_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("eval", "Measure a model on a task: recall, questions, long-context language modelling");
  command->require_subcommand(1);
  add_eval_recall_command(*command);
  add_eval_qa_command(*command);
  add_eval_icl_command(*command);
  add_eval_long_command(*command);
  add_eval_lm_command(*command);
  add_eval_retrieval_lm_command(*command);
}

}  // namespace cepe
