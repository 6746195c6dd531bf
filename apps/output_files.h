// The files that a command writes when its work is done.
#pragma once

#include <string>
#include <vector>

namespace cepe {

struct OutputFile {
  const char* option;  // as typed: "--json"
  std::string path;    // empty: not asked for
};

// Error, before any work, where two options name the same file, or a file is one of the command's inputs: writing it
// would destroy what was there.
void check_output_files(const std::vector<OutputFile>& outputs, const std::vector<std::string>& inputs = {});

}  // namespace cepe
