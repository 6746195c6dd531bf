// --preset FILE: options of a command from a TOML file (base/preset.h).
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace cepe {

// Adds --preset to a command; read_arguments() (apps/options.h) acts on it.
void add_preset_option(CLI::App& command);

// What one option of a preset stands for.
struct PresetArguments {
  std::string where;  // "FILE:LINE"
  std::vector<std::string> arguments;
};

// The options of the preset that the arguments name, if any, each as if it had been typed: all checks of arguments are
// theirs as well, and errors of such a check name the place. Those that were typed count, and the preset's of the same
// name are left out. `path`: the command, "eval icl". Error naming file and line where the preset is another command's,
// and where an option is not the command's or takes another kind of value.
std::vector<PresetArguments> preset_arguments(const CLI::App& command, const std::string& path,
                                              const std::vector<std::string>& arguments);

}  // namespace cepe
