// Runs the windows of `cepe eval lm`, a group at a time, and records each window's loss in each row (docs/eval.md).
//
// A group's records are on the disk before the next group begins. A run that was killed goes on at the group that it
// was in, computes that group whole and adds what is missing: samples.jsonl is the same, bit for bit, as that of a run
// that was not.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "eval/lm/scoring.h"

namespace cepe {

struct LmRunOptions {
  std::filesystem::path directory;  // of run.json, samples.jsonl and costs.jsonl; made where it does not exist
  nlohmann::json configuration;     // an object: all that the losses depend on; recorded in run.json
  std::function<void(int64_t done, int64_t total)> progress;  // tokens; may be empty
};

struct LmRun {
  PerplexityScores scores;  // of all windows, those of an earlier run included
  int64_t records = 0;
  int64_t resumed = 0;  // of them from earlier runs
  Cost cost;            // seconds of this run; the largest peak of any row
};

// Error where the directory holds a run of another configuration, or records that are not of these windows.
LmRun run_lm(const WindowScoring& scoring, const std::vector<TokenDocument>& documents, const LmRunOptions& options);

// A row's tags in records and results: domain, reader ("plain": the model's decoder with 0 tokens of context), context
// (whose text), tokens.
std::map<std::string, std::string> row_tags(const ScoredRow& row);

}  // namespace cepe
