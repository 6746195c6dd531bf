// The context that a command's text files make.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "context/context.h"
#include "model/checkpoint/checkpoint.h"

namespace cepe {

struct EncodedFiles {
  Context context;
  double seconds = 0;  // the encoder's alone
};
// Reads files (read_context) and encodes them, with a progress bar where that takes a while. `check` may be empty: it
// is called now and then while the encoder works, and what it throws ends the work.
EncodedFiles encode_files(const OpenedModel& opened, const std::vector<std::string>& files, bool int8,
                          const std::function<void()>& check = {});

}  // namespace cepe
