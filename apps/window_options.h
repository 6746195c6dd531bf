// What `cepe perplexity` and `cepe eval lm` share: the options of windows and controls, and what a result is of.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "eval/perplexity.h"

namespace cepe {

struct WindowOptionTexts {
  std::vector<std::string> controls;
  std::string latents = "stored";
};
// Adds --decoder-tokens, --scored-tokens, --control, --stride, --batch and --latents.
void add_scoring_options(CLI::App& command, PerplexityOptions& options, WindowOptionTexts& texts);
// Reads --control and --latents.
void read_scoring_options(const WindowOptionTexts& texts, PerplexityOptions& options);

// "MODEL: the last 256 of 2,048 decoder tokens, books: 4 windows in 2 documents; bfloat16 on cpu"
std::string scope_of(const PerplexityRecord& record, const Cepe& model);

}  // namespace cepe
