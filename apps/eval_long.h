// cepe eval long.
#pragma once

#include <CLI/CLI.hpp>

namespace cepe {

void add_eval_long_command(CLI::App& eval);

}  // namespace cepe
