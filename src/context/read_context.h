// From text files to chunks.
#pragma once

#include <filesystem>
#include <vector>

#include "model/checkpoint/checkpoint.h"
#include "text/chunker.h"

namespace cepe {

// The chunks of text files (plain text or records, compressed or not: text/text_file.h) in the length that the model's
// encoder reads, each document cut by itself. Special tokens in the text are plain text here. No files give no chunks.
// Throws Error when a file cannot be read, is empty or not UTF-8, and when the model has no encoder or no tokenizer.
std::vector<TextChunk> read_context(const OpenedModel& opened, const std::vector<std::filesystem::path>& files);

}  // namespace cepe
