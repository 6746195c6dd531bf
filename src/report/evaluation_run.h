// What a run of cepe eval recall, qa, long, icl or lm left in its directory (docs/eval.md, "The files").
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace cepe {

using RunTags = std::map<std::string, std::string>;

// A mean of results.json.
struct RunResult {
  RunTags tags;
  std::string score;
  double value = 0;
  std::optional<double> standard_error, half_width;
  int64_t examples = 0;
  std::string unit;  // empty: the value is a share, shown in percent
};

// A line of samples.jsonl, the parts that a person reads.
struct RunExample {
  std::string id;
  bool answered = true;  // false: a window of eval lm, which has no answer; the next line is empty then
  std::string prediction, stop_reason;
  RunTags tags;
  std::vector<std::string> references;
  std::map<std::string, double> scores;
  int64_t context_tokens = 0, prompt_tokens = 0, answer_tokens = 0;
};

struct RunPlot {
  std::string file, svg;
};

struct EvaluationRun {
  std::filesystem::path directory;
  std::string name, anchor;        // on the page: what the run is called, and the id of its part
  nlohmann::json configuration;    // an object
  bool finished = false;           // false: results.json is not there yet, and what follows of it is empty
  std::vector<RunResult> results;  // `results` of results.json
  // Its `at_depths`, `by_answerable`, `by_length`, `by_seed` or `costs`: `details_name` says which.
  std::vector<RunResult> details;
  std::string details_name;
  int64_t examples = 0;  // scored in all; of an unfinished run, recorded so far
  int64_t resumed = 0;
  double seconds = 0;
  uint64_t peak_memory_bytes = 0;
  std::vector<RunExample> samples;  // chosen ones, in the order of the file
  std::vector<RunPlot> plots;       // plot.svg, then heat_*.svg by name
};

// True where the directory has results.json, or run.json and samples.jsonl.
bool is_evaluation(const std::filesystem::path& directory);

// Reads the directory, with at most so many examples (chosen_examples). Error, naming file and line, where a file is
// not what the commands write. A last line of samples.jsonl without a line break is still being written: left out.
EvaluationRun read_evaluation(const std::filesystem::path& directory, size_t most_examples);

// Which of the examples to show, given the group of each (its tags as one text): at most `most`, as many of each group
// as of any other while it lasts, from evenly spread places in the group. Of more groups than `most`, evenly spread
// ones. In the order of the file.
std::vector<size_t> chosen_examples(const std::vector<std::string>& groups, size_t most);

}  // namespace cepe
