// What `cepe convert` and `cepe export` share: writing a whole published model directory.
#pragma once

#include <filesystem>
#include <string>

#include "model/checkpoint/checkpoint.h"

namespace cepe {

// Throws Error when the output is the model's own directory (a failure half-way would leave it mixed) or a file.
void require_separate_output(const std::filesystem::path& model, const std::filesystem::path& out);

// Writes the published layout, and beside it the tokenizer's files: copied where the model, or its base, is a directory
// with some, made from the vocabulary of a GGUF file where that is a byte-level BPE. Prints what was written to
// standard output.
void write_published(OpenedModel& opened, const std::filesystem::path& out, SaveOptions::Weights weights);

}  // namespace cepe
