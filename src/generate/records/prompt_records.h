// Many prompts in a file of JSON lines, a record each (docs/generate.md, "Many prompts").
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "ops/step/sample.h"

namespace cepe {

struct PromptRecord {
  nlohmann::json id;  // as given; null where it is not
  std::string where;  // "prompts.jsonl:17", for messages
  std::string prompt;
  std::optional<std::string> system;
  std::vector<std::string> context;       // text files, by paths from the working directory
  std::vector<std::string> context_text;  // texts, after the files
  int64_t max_tokens = 256;
  SamplerOptions sampling;
  std::vector<std::string> stop;
};

// What holds where a record says nothing.
struct PromptDefaults {
  std::optional<std::string> system;
  std::vector<std::string> context;  // unless the record names files or texts
  int64_t max_tokens = 256;
  SamplerOptions sampling;
  // False: a record with a filter (top_k, top_p, min_p) and no temperature has temperature 1.
  bool temperature_given = false;
  std::vector<std::string> stop;
};

// Reads NAME.jsonl or NAME.jsonl.zst, at least one record. A record is an object with "prompt" and, as wanted, "id"
// (any value), "context" and "context_text" (a text or a list of them), "system", "max_tokens", "temperature", "top_k",
// "top_p", "min_p", "repetition_penalty", "seed", "stop" (a text or a list). null is as good as absent. Throws Error
// naming FILE:LINE on what is no such object, an unknown key, a value out of its range, or a context file that is not
// there.
std::vector<PromptRecord> read_prompt_records(const std::filesystem::path& path, const PromptDefaults& defaults);

// One line of it; context files are not looked for.
PromptRecord parse_prompt_record(const std::string& line, const std::string& where, const PromptDefaults& defaults);

}  // namespace cepe
