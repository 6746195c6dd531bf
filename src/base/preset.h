// Presets: a command's options in a TOML file, under the names that they have on the command line.
//
//   [eval.icl]                     # of the command "eval icl"
//   decoder-shots = [2]            # as --decoder-shots 2
//   in-order = true                # as --in-order
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace cepe {

struct PresetOption {
  std::string name;                 // without dashes
  std::vector<std::string> values;  // one, or those of an array
  bool flag = false;                // a boolean: the value is "true" or "false"
  std::string where;                // "FILE:LINE"
};

struct Preset {
  std::string command;  // "eval icl"
  std::vector<PresetOption> options;
};

// Error naming file and line where the file is no TOML, does not hold one table of one command, or has a value that is
// no boolean, number, string, or array of numbers and strings.
Preset read_preset(const std::filesystem::path& path);

}  // namespace cepe
