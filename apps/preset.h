// --preset FILE: options of a command from a TOML file (base/preset.h).
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace cepe {

// Adds --preset to a command; read_arguments() (apps/options.h) acts on it.
void add_preset_option(CLI::App& command);

// The arguments with the options of the preset that they name, if any, before them, as if they had been typed: all
// checks of arguments are theirs as well. Those that were typed count, and the preset's of the same name do not.
// `path`: the command, "eval icl". Error naming file and line where the preset is another command's, and where an
// option is not the command's or takes another kind of value.
std::vector<std::string> with_preset(const CLI::App& command, const std::string& path,
                                     const std::vector<std::string>& arguments);

}  // namespace cepe
