// cepe eval retrieval-lm.
#pragma once

#include <CLI/CLI.hpp>

namespace cepe {

void add_eval_retrieval_lm_command(CLI::App& eval);

}  // namespace cepe
