// `cepe generate --prompts`: many prompts in one process, written together (docs/generate.md, "Many prompts").
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "apps/generation_options.h"

namespace cepe {

struct GenerateManyOptions {
  std::string prompts, out;  // --prompts, --out
  int64_t sequences = 16;    // --sequences
  TemplateChoice chat_template;
};

// Answers the prompts of the file, and writes an answer a line; the file is there when all is done, or not at all.
// Throws Error where nothing was written, and where single prompts failed.
void generate_many(const CLI::App& command, const GenerateManyOptions& many, const GenerationOptions& options,
                   const ModelOptions& model);

}  // namespace cepe
